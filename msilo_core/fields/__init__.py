"""Values of header fields: a frozen Struct and a parse function for each form that a header has.

Where speed matters a function tries a *shape* first, one pattern for the form that real traffic has, and falls back to
a general parser that takes everything RFC 3261 section 25.1 allows. A shape accepts only what the general parser
accepts, with the same result; a test compares the two.

All functions take unfolded values, and blanks around a value do not matter: one value, or where RFC 3261 section 7.3.1
lets a header stand on several lines and several values on one, the texts of all lines in their order. Empty elements of
such a list are passed over. What a function does not accept it answers with :class:`msilo_core.ParseError`.

Parameters are kept as received, and ``param`` of a value says what one of them is; of a name that stands twice the
first counts (RFC 3261 section 7.3.1 forbids it), but a second ``tag``, ``branch`` or ``id``, which would name two
dialogs, transactions or subscriptions, is refused, and so is a second parameter of any name where it is about who
somebody is. ``str`` of a value is what stands in a header; it parses to an equal value. Octets that are no UTF-8 stand
in texts as the surrogates of ``surrogateescape``.
"""

from msilo_core.fields.accepts import (
    CodingRange,
    LanguageRange,
    MediaRange,
    parse_accept,
    parse_accept_encoding,
    parse_accept_language,
)
from msilo_core.fields.addresses import (
    STAR,
    CallInfo,
    Contact,
    NameAddr,
    Star,
    parse_call_info,
    parse_contacts,
    parse_name_addr,
)
from msilo_core.fields.contents import (
    Disposition,
    MediaType,
    check_media_type,
    parse_codings,
    parse_disposition,
    parse_media_type,
)
from msilo_core.fields.credentials import Challenge, Credentials, parse_challenge, parse_credentials
from msilo_core.fields.identities import Identity, parse_identities, parse_privacy
from msilo_core.fields.numbers import (
    DELTA_SECONDS_MAX,
    CSeq,
    RetryAfter,
    format_date,
    parse_content_length,
    parse_cseq,
    parse_date,
    parse_delta_seconds,
    parse_max_breadth,
    parse_max_forwards,
    parse_mime_version,
    parse_retry_after,
)
from msilo_core.fields.parameters import split_first, split_list
from msilo_core.fields.preferences import (
    ContactPreference,
    FeatureNumber,
    FeatureString,
    FeatureToken,
    FeatureValue,
    parse_contact_preferences,
    parse_features,
    parse_request_disposition,
)
from msilo_core.fields.products import Comment, Product, ServerValue, parse_products
from msilo_core.fields.routes import Hop, parse_hops
from msilo_core.fields.via import Via, parse_sent_by, parse_via
from msilo_core.fields.words import (
    EventPackage,
    WarningValue,
    parse_call_id,
    parse_event,
    parse_in_reply_to,
    parse_languages,
    parse_priority,
    parse_text,
    parse_tokens,
    parse_warnings,
)

__all__ = [
    "DELTA_SECONDS_MAX",
    "STAR",
    "CSeq",
    "CallInfo",
    "Challenge",
    "CodingRange",
    "Comment",
    "Contact",
    "ContactPreference",
    "Credentials",
    "Disposition",
    "EventPackage",
    "FeatureNumber",
    "FeatureString",
    "FeatureToken",
    "FeatureValue",
    "Hop",
    "Identity",
    "LanguageRange",
    "MediaRange",
    "MediaType",
    "NameAddr",
    "Product",
    "RetryAfter",
    "ServerValue",
    "Star",
    "Via",
    "WarningValue",
    "check_media_type",
    "format_date",
    "parse_accept",
    "parse_accept_encoding",
    "parse_accept_language",
    "parse_call_id",
    "parse_call_info",
    "parse_challenge",
    "parse_codings",
    "parse_contact_preferences",
    "parse_contacts",
    "parse_content_length",
    "parse_credentials",
    "parse_cseq",
    "parse_date",
    "parse_delta_seconds",
    "parse_disposition",
    "parse_event",
    "parse_features",
    "parse_hops",
    "parse_identities",
    "parse_in_reply_to",
    "parse_languages",
    "parse_max_breadth",
    "parse_max_forwards",
    "parse_media_type",
    "parse_mime_version",
    "parse_name_addr",
    "parse_priority",
    "parse_privacy",
    "parse_products",
    "parse_request_disposition",
    "parse_retry_after",
    "parse_sent_by",
    "parse_text",
    "parse_tokens",
    "parse_via",
    "parse_warnings",
    "split_first",
    "split_list",
]
