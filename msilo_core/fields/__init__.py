"""Values of header fields: a frozen Struct and a parse function for each form that a header has.

Where speed matters a function tries a *shape* first, one pattern for the form that real traffic has, and falls back to
a general parser that takes everything RFC 3261 section 25.1 allows. A shape accepts only what the general parser
accepts, with the same result; a test compares the two.

All functions take one unfolded value; blanks around it do not matter. What they do not accept they answer with
:class:`msilo_core.ParseError`. Parameters are kept as received; of a name that stands twice the first counts (RFC 3261
section 7.3.1 forbids it), but a second ``tag`` or ``branch``, which would name two dialogs or transactions, is refused,
and so is a second parameter of any name where it is about who somebody is.
"""

from msilo_core.fields.addresses import STAR, Contact, NameAddr, Star, parse_contacts, parse_name_addr
from msilo_core.fields.contents import MediaType, check_media_type, parse_media_type
from msilo_core.fields.credentials import Challenge, Credentials, parse_challenge, parse_credentials
from msilo_core.fields.numbers import (
    DELTA_SECONDS_MAX,
    CSeq,
    format_date,
    parse_content_length,
    parse_cseq,
    parse_date,
    parse_delta_seconds,
    parse_max_breadth,
    parse_max_forwards,
)
from msilo_core.fields.parameters import split_first, split_list
from msilo_core.fields.via import Via, parse_sent_by, parse_via
from msilo_core.fields.words import parse_call_id

__all__ = [
    "DELTA_SECONDS_MAX",
    "STAR",
    "CSeq",
    "Challenge",
    "Contact",
    "Credentials",
    "MediaType",
    "NameAddr",
    "Star",
    "Via",
    "check_media_type",
    "format_date",
    "parse_call_id",
    "parse_challenge",
    "parse_contacts",
    "parse_content_length",
    "parse_credentials",
    "parse_cseq",
    "parse_date",
    "parse_delta_seconds",
    "parse_max_breadth",
    "parse_max_forwards",
    "parse_media_type",
    "parse_name_addr",
    "parse_sent_by",
    "parse_via",
    "split_first",
    "split_list",
]
