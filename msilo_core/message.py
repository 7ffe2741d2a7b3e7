"""Requests and responses: tokenised at once, typed on demand, serialised to the octets that came.

:func:`tokenise` looks at nothing but the form of the lines. What a header says is parsed when it is asked
for; ``validate`` asks for all that RFC 3261 makes mandatory. A request that is tokenised can be answered,
valid or not.

Keys are header names in lower case, always the long form: ``call-id`` for a line that begins with ``i:``.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from msilo_core.errors import (
    BodyTooLong,
    HeadTooLong,
    LineTooLong,
    LocalError,
    MessageTooLong,
    ParseError,
    Unsupported,
    UriTooLong,
    ValueTooLong,
)
from msilo_core.fields import (
    Contact,
    CSeq,
    NameAddr,
    Star,
    Via,
    parse_call_id,
    parse_contacts,
    parse_content_length,
    parse_cseq,
    parse_delta_seconds,
    parse_max_forwards,
    parse_name_addr,
    parse_via,
    split_first,
    split_list,
)
from msilo_core.grammar import is_token
from msilo_core.head import HEAD_END, Head, encode_head, split_head
from msilo_core.limits import Limits
from msilo_core.uri import SipUri, parse_uri

__all__ = [
    "Request",
    "Response",
    "SipMessage",
    "build_request",
    "build_response",
    "forward",
    "parse_message",
    "relay_response",
    "tokenise",
]

_LIMITS: Final = Limits()


class SipMessage(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """What requests and responses have in common; made by :func:`tokenise`, not by hand.

    A property that takes a header apart raises :class:`ParseError` where the header is malformed. `via`, `from_`, `to`,
    `call_id` and `cseq` do so where it is missing too; the others then have a value that says so.

    Attributes:
        head: start-line and header lines as received.
        body: octets.
        limits: the bounds that the message is held to.
    """

    head: Head
    body: bytes
    limits: Limits
    _via: Via | None = None
    _from: NameAddr | None = None
    _to: NameAddr | None = None
    _call_id: str | None = None
    _cseq: CSeq | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SipMessage):
            return NotImplemented
        return self.head.text == other.head.text and self.body == other.body

    def __ne__(self, other: object) -> bool:
        # Struct has one of its own, which would compare identities.
        return not self == other

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
        return list(zip(self.head.keys, self.head.lines, strict=True))

    @property
    def via(self) -> Via:
        """The topmost Via."""
        value = self._via
        if value is None:
            value = self._via = _topmost_via(self._mandatory("via"))
        return value

    @property
    def vias(self) -> list[str]:
        """All values of Via, topmost first, one text each."""
        return self._list("via")

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

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards, 0 to 255, or None."""
        value = self.head.first.get("max-forwards")
        return None if value is None else parse_max_forwards(value)

    @property
    def expires_s(self) -> int | None:
        """Expires in seconds, 0 to 2**32 - 1, or None."""
        value = self.head.first.get("expires")
        return None if value is None else parse_delta_seconds(value)

    @property
    def content_length(self) -> int | None:
        """Content-Length in octets, or None; malformed also if it stands there twice (RFC 4475 section 3.3.9)."""
        value = self.head.first.get("content-length")
        if value is None:
            return None
        if len(self.head.first) != len(self.head.keys):
            _check_repeats(self.head.keys, ("content-length",))
        return parse_content_length(value)

    @property
    def content_type(self) -> str:
        """Content-Type as received, or empty."""
        return self.get("content-type") or ""

    @property
    def contacts(self) -> tuple[Contact, ...] | Star:
        """All values of Contact, or :data:`msilo_core.STAR`; for a URI over the limit raises :class:`ValueTooLong`."""
        return parse_contacts(self.get_all("contact"), self.limits)

    @property
    def routes(self) -> list[str]:
        """All values of Route, topmost first, one text each."""
        return self._list("route")

    @property
    def path(self) -> str:
        """All values of Path as received, comma-separated, or empty (RFC 3327)."""
        return ",".join(self.get_all("path"))

    def trim_body(self) -> None:
        """Cut off what follows the body in a datagram, and hold the message to its limits.

        RFC 3261 section 18.3: "If there are additional bytes in the transport packet beyond the end of the
        body, they MUST be discarded. If the transport packet ends before the end of the message body, this is
        considered an error." Without a Content-Length the body reaches to the end.

        Raises:
            ParseError: the body is shorter than Content-Length, or that is malformed.
            BodyTooLong, MessageTooLong: there is more than the limits allow.
        """
        length = self.content_length
        if length is not None and length != len(self.body):
            if length > len(self.body):
                raise ParseError(f"a body of {length} octets", f"{len(self.body)} octets")
            self.body = self.body[:length]
        self.check_size(len(self.body))

    def check_size(self, body_bytes: int) -> None:
        """Hold a body of `body_bytes` octets, and the message with it, to the limits.

        Raises:
            BodyTooLong, MessageTooLong: there is more than they allow.
        """
        if body_bytes > self.limits.body_bytes_max:
            raise BodyTooLong(body_bytes, self.limits.body_bytes_max)
        size = self.head.size_bytes + len(HEAD_END) + body_bytes
        if size > self.limits.message_bytes_max:
            raise MessageTooLong(size, self.limits.message_bytes_max)

    def serialise(self) -> bytes:
        """Return the message as it was received, without what stood before its start-line or behind its body."""
        return encode_head(self.head.text) + HEAD_END + self.body

    def _list(self, key: str) -> list[str]:
        return [part for value in self.get_all(key) for part in split_list(value)]

    def _mandatory(self, key: str) -> str:
        value = self.head.first.get(key)
        if value is None:
            raise ParseError(f"a {key} header")
        return value

    def _validate_headers(self) -> None:
        """Check what every message must have (RFC 3261 section 8.1.1), but for what its start-line says."""
        head, limits = self.head, self.limits
        if head.size_bytes > limits.line_bytes_max or head.size_bytes > limits.head_bytes_max:
            _check_lengths(head, limits)
        first = head.first
        if len(first) != len(head.keys):
            _check_repeats(head.keys, _SINGLE)
        try:
            self._via = _topmost_via(first["via"])
            self._from = sender = parse_name_addr(first["from"])
            self._to = recipient = parse_name_addr(first["to"])
            self._call_id = call_id = parse_call_id(first["call-id"])
            self._cseq = parse_cseq(first["cseq"])
        except KeyError as missing:
            raise ParseError(f"a {missing.args[0]} header") from None
        if "max-forwards" in first:
            parse_max_forwards(first["max-forwards"])
        if "content-length" in first:
            parse_content_length(first["content-length"])
        if len(call_id) > limits.call_id_bytes_max:
            raise ValueTooLong(len(call_id), limits.call_id_bytes_max)
        for address in (sender, recipient):
            if len(address.tag) > limits.tag_bytes_max:
                raise ValueTooLong(len(address.tag), limits.tag_bytes_max)
            if len(address.uri_text) > limits.uri_bytes_max:
                raise ValueTooLong(len(address.uri_text), limits.uri_bytes_max)


class Request(SipMessage, kw_only=True, eq=False, gc=False):
    """A request.

    Attributes:
        method: as received; methods are case-sensitive.
        request_uri: as received.
        version: ``SIP/2.0`` in any case, once it is validated.
    """

    method: str
    request_uri: str
    version: str
    _uri: SipUri | None = None

    @property
    def uri(self) -> SipUri:
        """The Request-URI taken apart.

        Raises:
            ParseError: it is malformed.
            Unsupported: its scheme is neither sip nor sips; the hint is 416.
            UriTooLong: it is longer than the limit.
        """
        value = self._uri
        if value is None:
            value = self._uri = parse_uri(self.request_uri, self.limits)
        return value

    def check_start_line(self) -> None:
        """Check the form of the start-line; on a stream, what follows a malformed one cannot be trusted.

        Raises:
            ParseError: it is not ``Method SP Request-URI SP SIP-Version``.
        """
        if " " in self.request_uri or not self.request_uri or _VERSION.fullmatch(self.version) is None:
            raise ParseError("a start-line", self.head.start_line)

    def validate(self) -> None:
        """Check what RFC 3261 sections 8.1.1 and 8.2 make mandatory; a later look at these values cannot fail.

        Raises:
            ParseError: something is missing, malformed, or there twice.
            Unsupported: another version (505), or another scheme of the Request-URI (416).
            LimitError: something is longer than the limits allow.
        """
        if self.version != _SIP_2_0:
            self.check_start_line()
            _check_version(self.version)
        # Before the length of the line is looked at: 414 says more than 400.
        if len(self.request_uri) > self.limits.uri_bytes_max:
            raise UriTooLong(len(self.request_uri), self.limits.uri_bytes_max)
        self._validate_headers()
        if self.cseq.method != self.method:
            raise ParseError(f"{self.method} in CSeq", self.cseq.method)
        self._uri = uri = parse_uri(self.request_uri, self.limits)
        if uri.headers:
            # Section 19.1.1, table 1: not allowed here, and RFC 4475 section 3.1.2.11 says why.
            raise ParseError("a Request-URI without headers", self.request_uri)


class Response(SipMessage, kw_only=True, eq=False, gc=False):
    """A response.

    Attributes:
        version: ``SIP/2.0`` in any case, once it is validated.
        status: 100 to 699, once it is validated.
        reason: as received; may be empty.
    """

    version: str
    status: int
    reason: str

    def check_start_line(self) -> None:
        """Check the form of the start-line; on a stream, what follows a malformed one cannot be trusted.

        Raises:
            ParseError: it is not ``SIP-Version SP Status-Code SP Reason-Phrase``.
        """
        if not 100 <= self.status <= 699 or _VERSION.fullmatch(self.version) is None:
            raise ParseError("a start-line", self.head.start_line)

    def validate(self) -> None:
        """Check what RFC 3261 section 8.1.1 makes mandatory; a later look at these values cannot fail.

        Raises:
            ParseError: something is missing, malformed, or there twice.
            Unsupported: another version.
            LimitError: something is longer than the limits allow.
        """
        self.check_start_line()
        _check_version(self.version)
        self._validate_headers()


def parse_message(data: bytes, limits: Limits = _LIMITS) -> Request | Response:
    """Parse and validate one whole message, as from a datagram (RFC 3261 section 18.3).

    Raises:
        ParseError, Unsupported, LimitError: as :func:`tokenise`, :meth:`SipMessage.trim_body` and the
            message's ``validate`` say.
    """
    message = tokenise(data, limits)
    message.trim_body()
    message.validate()
    return message


def tokenise(data: bytes, limits: Limits = _LIMITS) -> Request | Response:
    """Find start-line, header lines and body, and look at nothing else.

    CRLFs before the start-line are passed over (RFC 3261 section 7.5). A start-line need only be
    recognisable: so that a malformed request can be answered, its form is checked by ``check_start_line`` and
    ``validate``.

    Raises:
        ParseError: no empty line ends the head; a line is not of the form ``name: value``; a control
            character stands where it may not, CR or LF alone among them; the start-line is neither of a
            request nor of a response.
        TooManyHeaders: there are more than ``limits.headers_max`` lines.
    """
    head, body = split_head(data, limits.headers_max)
    start_line = head.start_line
    # No method begins so: "/" is not in a token.
    if start_line[:4].upper() == "SIP/":
        version, _, rest = start_line.partition(" ")
        code, _, reason = rest.partition(" ")
        status = int(code) if _STATUS.fullmatch(code) is not None else 0
        return Response(version=version, status=status, reason=reason, head=head, body=body, limits=limits)
    method, _, rest = start_line.partition(" ")
    request_uri, space, version = rest.rpartition(" ")
    if not space or not is_token(method):
        raise ParseError("a start-line", start_line)
    return Request(method=method, request_uri=request_uri, version=version, head=head, body=body, limits=limits)


def build_request(method: str, request_uri: str, headers: Sequence[tuple[str, str]], body: bytes = b"") -> bytes:
    """Return a request of our own; Content-Length is added.

    Args:
        headers: names and values in their order, Via first.

    Raises:
        LocalError: a text holds a line break, or what cannot be encoded.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    text = f"{method} {request_uri} SIP/2.0\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    return _checked(text, len(headers) + 3) + body


def build_response(
    request: Request,
    status: int,
    reason: str,
    *,
    to_tag: str = "",
    via_suffix: str = "",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> bytes:
    """Return the response to a request (RFC 3261 section 8.2.6); Content-Length is added.

    The request need not be valid: of From, To, Call-ID and CSeq, what is there is copied, whatever it says.

    Args:
        to_tag: added to a To without tag; empty adds none, as for 100.
        via_suffix: parameters for the topmost Via, such as ``;received=192.0.2.1;rport=5060``; those of the
            same names that the request brought go.
        headers: further names and values.

    Raises:
        ParseError: the topmost Via is missing or malformed: nobody could be answered.
        LocalError: a text holds a line break, or what cannot be encoded.
    """
    head = request.head
    first = head.first
    vias = f"Via: {_completed_via(request, via_suffix)}\r\n"
    via_lines = head.keys.count("via")
    if via_lines > 1:
        vias += "".join([f"Via: {value}\r\n" for value in head.values("via")[1:]])
    tag = f";tag={to_tag}" if to_tag and not _has_tag(request) else ""
    try:
        copied = (
            f"From: {first['from']}\r\nTo: {first['to']}{tag}\r\n"
            f"Call-ID: {first['call-id']}\r\nCSeq: {first['cseq']}\r\n"
        )
        copies = 4
    except KeyError:
        there = [(name, key) for name, key in _COPIED if key in first]
        copied = "".join([f"{name}: {first[key]}{tag if key == 'to' else ''}\r\n" for name, key in there])
        copies = len(there)
    added = "".join([f"{name}: {value}\r\n" for name, value in headers])
    text = f"SIP/2.0 {status} {reason}\r\n{vias}{copied}{added}Content-Length: {len(body)}\r\n\r\n"
    return _checked(text, 3 + via_lines + copies + len(headers)) + body


def forward(
    request: Request,
    *,
    request_uri: str,
    via: str,
    max_forwards: int,
    drop: Collection[str] = (),
    via_suffix: str = "",
    route: str = "",
) -> bytes:
    """Return a request as a proxy passes it on (RFC 3261 section 16.6).

    What is not named here stays octet by octet and in its order. A Content-Length that the request did not
    have is added, since it may go on by a stream.

    Args:
        request_uri: the new Request-URI.
        via: value of the Via line that is put on top.
        max_forwards: the new value of Max-Forwards, added if there was none.
        drop: keys of headers that are left out.
        via_suffix: parameters for the Via that was topmost, as in :func:`build_response`.
        route: value of a Route line that is put below our Via; empty adds none.

    Raises:
        ParseError: the topmost Via is missing or malformed.
        LocalError: a text holds a line break, or what cannot be encoded.
    """
    _refuse_line_breaks(f"{request_uri}{via}{via_suffix}{route}")
    lines = [f"{request.method} {request_uri} SIP/2.0", f"Via: {via}"]
    if route:
        lines.append(f"Route: {route}")
    topmost = f"Via: {_completed_via(request, via_suffix)}" if via_suffix else ""
    hops = f"Max-Forwards: {max_forwards}"
    for key, line in request.raw_lines:
        if key in drop:
            continue
        if key == "max-forwards":
            lines.append(hops)
        elif key == "via" and topmost:
            lines.append(topmost)
            topmost = ""
        else:
            lines.append(line)
    if "max-forwards" not in request.head.first:
        lines.append(hops)
    if "content-length" not in request.head.first:
        lines.append(f"Content-Length: {len(request.body)}")
    return _encoded("\r\n".join(lines)) + HEAD_END + request.body


def relay_response(response: Response) -> bytes:
    """Return a response as a proxy passes it on (RFC 3261 section 16.7 step 9): without the topmost Via.

    Everything but the line of that Via stays octet by octet.

    Raises:
        ParseError: there is no second Via, so the response is for us; or the topmost line is malformed.
    """
    head = response.head
    rest = split_first(head.first.get("via", ""))[1]
    if not rest and head.keys.count("via") < 2:
        raise ParseError("a second Via", head.first.get("via", ""))
    lines = head.lines
    topmost = head.keys.index("via")
    lines[topmost : topmost + 1] = [f"Via: {rest}"] if rest else []
    return encode_head("\r\n".join([head.start_line, *lines])) + HEAD_END + response.body


_SIP_2_0: Final = "SIP/2.0"

# SIP-Version    =  "SIP" "/" 1*DIGIT "." 1*DIGIT, a string and so in any case (section 7.1).
_VERSION: Final = re.compile(r"[Ss][Ii][Pp]/[0-9]++\.[0-9]++")
_STATUS: Final = re.compile(r"[0-9]{3}")

_COPIED: Final = (("From", "from"), ("To", "to"), ("Call-ID", "call-id"), ("CSeq", "cseq"))
_TAG: Final = re.compile(r";[ \t]*+tag[ \t]*+=", re.ASCII | re.IGNORECASE)

# "Multiple header field rows with the same field-name MAY be present in a message if and only if the entire
# field-value for that header field is defined as a comma-separated list" (section 7.3.1). Those that decide
# anything here.
_SINGLE: Final = (
    "from",
    "to",
    "call-id",
    "cseq",
    "max-forwards",
    "content-length",
    "content-type",
    "content-disposition",
    "date",
    "expires",
    "min-expires",
    "mime-version",
)


def _check_version(version: str) -> None:
    if version.upper() != _SIP_2_0:
        raise Unsupported(version, 505)


def _check_lengths(head: Head, limits: Limits) -> None:
    if head.size_bytes > limits.head_bytes_max:
        raise HeadTooLong(head.size_bytes, limits.head_bytes_max)
    longest = max(len(encode_head(line)) for line in head.lines)
    if longest > limits.line_bytes_max:
        raise LineTooLong(longest, limits.line_bytes_max)


def _check_repeats(keys: list[str], single: Sequence[str]) -> None:
    for key in single:
        if keys.count(key) > 1:
            raise ParseError(f"one {key} header", f"{keys.count(key)} of them")


def _checked(text: str, lines: int) -> bytes:
    """Encode a head of so many lines, the empty one at its end counted; no value may have brought one more."""
    if text.count("\r") != lines or text.count("\n") != lines:
        raise LocalError(f"a line break in a value of {text[:64]!r}")
    return _encoded(text)


def _encoded(text: str) -> bytes:
    try:
        return encode_head(text)
    except UnicodeEncodeError as error:
        raise LocalError(f"text that is no UTF-8: {error}") from error


def _refuse_line_breaks(text: str) -> None:
    if "\r" in text or "\n" in text:
        raise LocalError(f"a line break in {text[:64]!r}")


def _topmost_via(value: str) -> Via:
    return parse_via(split_first(value)[0] if "," in value else value)


def _completed_via(request: Request, suffix: str) -> str:
    """Return the first Via line of a request, the topmost via-parm in it completed."""
    via = request.via
    line = request.head.first["via"].strip(" \t")
    topmost, rest = split_first(line) if "," in line else (line, "")
    topmost = topmost.removesuffix(via.params) + via.completed(suffix)
    return f"{topmost}, {rest}" if rest else topmost


def _has_tag(request: Request) -> bool:
    """Say whether To has a tag; of a To that cannot be parsed, whether it looks so."""
    try:
        return bool(request.to.tag)
    except ParseError:
        value = request.head.first.get("to", "")
        return _TAG.search(value, value.rfind(">") + 1) is not None
