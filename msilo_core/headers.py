"""The header fields of a message: raw lines in their order, typed views on demand.

What a header says is parsed when it is asked for. Keys are header names in lower case, always the long form:
``call-id`` for a line that begins with ``i:``.
"""

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields import (
    CallInfo,
    Challenge,
    CodingRange,
    Contact,
    ContactPreference,
    Credentials,
    CSeq,
    Disposition,
    EventPackage,
    Hop,
    Identity,
    LanguageRange,
    MediaRange,
    MediaType,
    NameAddr,
    RetryAfter,
    ServerValue,
    Star,
    Via,
    WarningValue,
    parse_accept,
    parse_accept_encoding,
    parse_accept_language,
    parse_call_id,
    parse_call_info,
    parse_challenge,
    parse_codings,
    parse_contact_preferences,
    parse_contacts,
    parse_content_length,
    parse_credentials,
    parse_cseq,
    parse_date,
    parse_delta_seconds,
    parse_disposition,
    parse_event,
    parse_hops,
    parse_identities,
    parse_in_reply_to,
    parse_languages,
    parse_max_breadth,
    parse_max_forwards,
    parse_media_type,
    parse_mime_version,
    parse_name_addr,
    parse_priority,
    parse_privacy,
    parse_products,
    parse_request_disposition,
    parse_retry_after,
    parse_text,
    parse_tokens,
    parse_via,
    parse_warnings,
    split_first,
    split_list,
)
from msilo_core.head import Head
from msilo_core.limits import Limits

__all__ = ["Headers", "topmost_via"]


class Headers(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """What a message says above its body.

    A property that takes a header apart raises :class:`ParseError` where the header is malformed. The mandatory ones,
    `via`, `from_`, `to`, `call_id` and `cseq`, do so where it is missing too; they are of its first line and are kept.
    All others are parsed each time they are asked for; where there is no such header they are None or empty, and where
    it stands on several lines but is no list (RFC 3261 section 7.3.1) they raise :class:`ParseError`.

    Attributes:
        head: start-line and header lines as received.
        limits: the bounds that the message is held to.
    """

    head: Head
    limits: Limits
    _via: Via | None = None
    _from: NameAddr | None = None
    _to: NameAddr | None = None
    _call_id: str | None = None
    _cseq: CSeq | None = None

    def get(self, key: str) -> str | None:
        """Return the value of the first line of a header, unfolded and without blanks around it, or None."""
        value = self.head.first.get(key)
        return None if value is None else value.strip(" \t")

    def get_all(self, key: str) -> list[str]:
        """Return the values of all lines of a header in their order, each as :meth:`get` does."""
        return self.head.values(key)

    @property
    def raw_lines(self) -> list[tuple[str, str]]:
        """Key and line of each header, in order; a line is as received, folds included, without its last CRLF."""
        return list(self.head.items())

    @property
    def via(self) -> Via:
        """The topmost Via."""
        value = self._via
        if value is None:
            value = self._via = topmost_via(self._mandatory("via"))
        return value

    @property
    def vias(self) -> tuple[Via, ...]:
        """All values of Via, topmost first."""
        return tuple(parse_via(part) for value in self.get_all("via") for part in split_list(value))

    @property
    def from_(self) -> NameAddr:
        """From."""
        value = self._from
        if value is None:
            value = self._from = parse_name_addr(self._mandatory("from"))
        return value

    @property
    def to(self) -> NameAddr:
        """To."""
        value = self._to
        if value is None:
            value = self._to = parse_name_addr(self._mandatory("to"))
        return value

    @property
    def call_id(self) -> str:
        """Call-ID."""
        value = self._call_id
        if value is None:
            value = self._call_id = parse_call_id(self._mandatory("call-id"))
        return value

    @property
    def cseq(self) -> CSeq:
        """CSeq."""
        value = self._cseq
        if value is None:
            value = self._cseq = parse_cseq(self._mandatory("cseq"))
        return value

    # -- Numbers and instants

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards, 0 to 255, or None."""
        value = self._single("max-forwards")
        return None if value is None else parse_max_forwards(value)

    @property
    def max_breadth(self) -> int | None:
        """Max-Breadth, 1 to 2**31 - 1, or None."""
        value = self._single("max-breadth")
        return None if value is None else parse_max_breadth(value)

    @property
    def expires_s(self) -> int | None:
        """Expires in seconds, 0 to 2**32 - 1, or None."""
        value = self._single("expires")
        return None if value is None else parse_delta_seconds(value)

    @property
    def min_expires_s(self) -> int | None:
        """Min-Expires in seconds, 0 to 2**32 - 1, or None."""
        value = self._single("min-expires")
        return None if value is None else parse_delta_seconds(value)

    @property
    def retry_after(self) -> RetryAfter | None:
        """Retry-After, or None."""
        value = self._single("retry-after")
        return None if value is None else parse_retry_after(value)

    @property
    def date_s(self) -> int | None:
        """Date in seconds since 1970, or None."""
        value = self._single("date")
        return None if value is None else parse_date(value)

    @property
    def content_length(self) -> int | None:
        """Content-Length in octets, or None (RFC 4475 section 3.3.9 has it twice)."""
        value = self._single("content-length")
        return None if value is None else parse_content_length(value)

    @property
    def mime_version(self) -> tuple[int, int] | None:
        """MIME-Version, or None."""
        value = self._single("mime-version")
        return None if value is None else parse_mime_version(value)

    # -- Bodies

    @property
    def content_type(self) -> str:
        """Content-Type as received, or empty."""
        return self.get("content-type") or ""

    @property
    def media_type(self) -> MediaType | None:
        """Content-Type taken apart, or None."""
        value = self._single("content-type")
        return None if value is None else parse_media_type(value)

    @property
    def content_encoding(self) -> tuple[str, ...]:
        """Content-Encoding in lower case, in the order in which the codings were applied."""
        return parse_codings(self.get_all("content-encoding"))

    @property
    def content_disposition(self) -> Disposition | None:
        """Content-Disposition, or None: then the media type says (RFC 3261 section 20.11)."""
        value = self._single("content-disposition")
        return None if value is None else parse_disposition(value)

    @property
    def content_language(self) -> tuple[str, ...]:
        """Content-Language in lower case."""
        return parse_languages(self.get_all("content-language"))

    @property
    def accept(self) -> tuple[MediaRange, ...] | None:
        """Accept; None if there is no such header, which is other than one that is empty (RFC 3261 section 20.1)."""
        return parse_accept(self.get_all("accept")) if "accept" in self.head.first else None

    @property
    def accept_encoding(self) -> tuple[CodingRange, ...] | None:
        """Accept-Encoding; None if there is no such header."""
        return parse_accept_encoding(self.get_all("accept-encoding")) if "accept-encoding" in self.head.first else None

    @property
    def accept_language(self) -> tuple[LanguageRange, ...] | None:
        """Accept-Language; None if there is no such header: all languages are welcome."""
        return parse_accept_language(self.get_all("accept-language")) if "accept-language" in self.head.first else None

    # -- Addresses and ways

    @property
    def contacts(self) -> tuple[Contact, ...] | Star:
        """All values of Contact, or :data:`msilo_core.STAR`; for a URI over the limit raises :class:`ValueTooLong`."""
        return parse_contacts(self.get_all("contact"), self.limits)

    @property
    def routes(self) -> tuple[Hop, ...]:
        """Route, the next hop first."""
        return parse_hops(self.get_all("route"))

    @property
    def record_routes(self) -> tuple[Hop, ...]:
        """Record-Route, the last hop first."""
        return parse_hops(self.get_all("record-route"))

    @property
    def path(self) -> tuple[Hop, ...]:
        """Path, the hop that is nearest to the registrar first (RFC 3327)."""
        return parse_hops(self.get_all("path"))

    @property
    def service_route(self) -> tuple[Hop, ...]:
        """Service-Route, the hop that is nearest to the device first (RFC 3608)."""
        return parse_hops(self.get_all("service-route"))

    @property
    def reply_to(self) -> NameAddr | None:
        """Reply-To, or None."""
        value = self._single("reply-to")
        return None if value is None else parse_name_addr(value)

    @property
    def p_asserted_identity(self) -> tuple[Identity, ...]:
        """P-Asserted-Identity: none, one, or a SIP URI and a tel URI (RFC 3325)."""
        return parse_identities(self.get_all("p-asserted-identity"))

    @property
    def p_preferred_identity(self) -> tuple[Identity, ...]:
        """P-Preferred-Identity: none, one, or a SIP URI and a tel URI (RFC 3325)."""
        return parse_identities(self.get_all("p-preferred-identity"))

    @property
    def privacy(self) -> tuple[str, ...]:
        """Privacy in lower case; empty if there is no such header."""
        value = self._single("privacy")
        return () if value is None else parse_privacy(value)

    @property
    def call_info(self) -> tuple[CallInfo, ...]:
        """Call-Info."""
        return parse_call_info(self.get_all("call-info"))

    @property
    def alert_info(self) -> tuple[CallInfo, ...]:
        """Alert-Info."""
        return parse_call_info(self.get_all("alert-info"))

    @property
    def error_info(self) -> tuple[CallInfo, ...]:
        """Error-Info."""
        return parse_call_info(self.get_all("error-info"))

    # -- What is understood and asked for

    @property
    def allow(self) -> tuple[str, ...] | None:
        """Allow; None if there is no such header, which says nothing (RFC 3261 section 20.5)."""
        return parse_tokens(self.get_all("allow")) if "allow" in self.head.first else None

    @property
    def supported(self) -> tuple[str, ...]:
        """Supported, as received."""
        return parse_tokens(self.get_all("supported"))

    @property
    def require(self) -> tuple[str, ...]:
        """Require, as received."""
        return parse_tokens(self.get_all("require"))

    @property
    def proxy_require(self) -> tuple[str, ...]:
        """Proxy-Require, as received."""
        return parse_tokens(self.get_all("proxy-require"))

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Unsupported, as received."""
        return parse_tokens(self.get_all("unsupported"))

    @property
    def event(self) -> EventPackage | None:
        """Event, or None."""
        value = self._single("event")
        return None if value is None else parse_event(value)

    @property
    def accept_contact(self) -> tuple[ContactPreference, ...]:
        """Accept-Contact (RFC 3841)."""
        return parse_contact_preferences(self.get_all("accept-contact"))

    @property
    def reject_contact(self) -> tuple[ContactPreference, ...]:
        """Reject-Contact (RFC 3841)."""
        return parse_contact_preferences(self.get_all("reject-contact"))

    @property
    def request_disposition(self) -> tuple[str, ...]:
        """Request-Disposition in lower case (RFC 3841)."""
        return parse_request_disposition(self.get_all("request-disposition"))

    # -- Words for people

    @property
    def subject(self) -> str | None:
        """Subject, which may be empty, or None."""
        value = self._single("subject")
        return None if value is None else parse_text(value)

    @property
    def organization(self) -> str | None:
        """Organization, which may be empty, or None."""
        value = self._single("organization")
        return None if value is None else parse_text(value)

    @property
    def priority(self) -> str | None:
        """Priority in lower case, or None, which is as ``normal`` (RFC 3261 section 20.26)."""
        value = self._single("priority")
        return None if value is None else parse_priority(value)

    @property
    def in_reply_to(self) -> tuple[str, ...]:
        """In-Reply-To: Call-IDs."""
        return parse_in_reply_to(self.get_all("in-reply-to"))

    @property
    def warnings(self) -> tuple[WarningValue, ...]:
        """Warning."""
        return parse_warnings(self.get_all("warning"))

    @property
    def user_agent(self) -> tuple[ServerValue, ...]:
        """User-Agent; empty if there is no such header."""
        value = self._single("user-agent")
        return () if value is None else parse_products(value)

    @property
    def server(self) -> tuple[ServerValue, ...]:
        """Server; empty if there is no such header."""
        value = self._single("server")
        return () if value is None else parse_products(value)

    @property
    def authorization(self) -> tuple[Credentials, ...]:
        """The lines of Authorization, one value each."""
        return self._credentials("authorization")

    @property
    def proxy_authorization(self) -> tuple[Credentials, ...]:
        """The lines of Proxy-Authorization, one value each."""
        return self._credentials("proxy-authorization")

    @property
    def www_authenticate(self) -> tuple[Challenge, ...]:
        """The lines of WWW-Authenticate, one value each, the one that the server likes best first."""
        return self._challenges("www-authenticate")

    @property
    def proxy_authenticate(self) -> tuple[Challenge, ...]:
        """The lines of Proxy-Authenticate, one value each, in their order as those of :attr:`www_authenticate`."""
        return self._challenges("proxy-authenticate")

    def require_single(self, *keys: str) -> None:
        """Make sure that headers stand there on one line each, or not at all.

        Raises:
            ParseError: one of `keys` has several.
        """
        if not self.head.repeated.isdisjoint(keys):
            key = next(key for key in keys if key in self.head.repeated)
            raise ParseError(f"one {key} header", f"{self.head.keys.count(key)} of them")

    def _single(self, key: str) -> str | None:
        """Return the value of a header that may stand on one line only, blanks around it, or None."""
        head = self.head
        value = head.first.get(key)
        if value is not None and key in head.repeated:
            self.require_single(key)
        return value

    def _credentials(self, key: str) -> tuple[Credentials, ...]:
        return tuple(parse_credentials(value) for value in self.get_all(key))

    def _challenges(self, key: str) -> tuple[Challenge, ...]:
        return tuple(parse_challenge(value) for value in self.get_all(key))

    def _mandatory(self, key: str) -> str:
        value = self.head.first.get(key)
        if value is None:
            raise ParseError(f"a {key} header")
        return value


def topmost_via(value: str) -> Via:
    """Return the first ``via-parm`` of a Via line."""
    return parse_via(split_first(value)[0] if "," in value else value)
