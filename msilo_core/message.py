"""Requests and responses: tokenised at once, typed on demand, serialised to the octets that came.

:func:`tokenise` looks at nothing but the form of the lines. What a header says is parsed when it is asked
for; ``validate`` asks for all that RFC 3261 makes mandatory. A request that is tokenised can be answered,
valid or not.
"""

import re
from typing import Final

from msilo_core.errors import (
    BodyTooLong,
    HeadTooLong,
    LineTooLong,
    MessageTooLong,
    ParseError,
    Unsupported,
    UriTooLong,
    ValueTooLong,
)
from msilo_core.fields import (
    NameAddr,
    parse_call_id,
    parse_content_length,
    parse_cseq,
    parse_max_breadth,
    parse_max_forwards,
    parse_name_addr,
)
from msilo_core.grammar import METHODS, is_token
from msilo_core.head import HEAD_END, Head, encode_head, split_head
from msilo_core.headers import Headers, topmost_via
from msilo_core.limits import Limits
from msilo_core.uri import SipUri, parse_uri

__all__ = ["Request", "Response", "SipMessage", "parse_message", "tokenise"]

_LIMITS: Final = Limits()


class SipMessage(Headers, kw_only=True, eq=False, gc=False):
    """What requests and responses have in common; made by :func:`tokenise`, not by hand.

    Attributes:
        body: octets.
    """

    body: bytes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SipMessage):
            return NotImplemented
        return self.head.text == other.head.text and self.body == other.body

    def __ne__(self, other: object) -> bool:
        # Struct has one of its own, which would compare identities.
        return not self == other

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

    def _validate_headers(self) -> None:
        """Check what every message must have (RFC 3261 section 8.1.1), but for what its start-line says."""
        head, limits = self.head, self.limits
        if head.size_bytes > limits.line_bytes_max or head.size_bytes > limits.head_bytes_max:
            _check_lengths(head, limits)
        first = head.first
        if head.repeated:
            self.require_single(*_SINGLE)
        try:
            self._via = topmost_via(first["via"])
            self._from = sender = parse_name_addr(first["from"])
            self._to = recipient = parse_name_addr(first["to"])
            self._call_id = call_id = parse_call_id(first["call-id"])
            self._cseq = parse_cseq(first["cseq"])
        except KeyError as missing:
            raise ParseError(f"a {missing.args[0]} header") from None
        if "max-forwards" in first:
            parse_max_forwards(first["max-forwards"])
        if "max-breadth" in first:
            parse_max_breadth(first["max-breadth"])
        if "content-length" in first:
            parse_content_length(first["content-length"])
        if len(call_id) > limits.call_id_bytes_max:
            raise ValueTooLong(len(call_id), limits.call_id_bytes_max)
        # None of their tags and URIs is longer than both lines.
        longest = len(first["from"]) + len(first["to"])
        if longest > limits.tag_bytes_max or longest > limits.uri_bytes_max:
            _check_addresses(limits, sender, recipient)


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
    method, _, rest = start_line.partition(" ")
    if method not in METHODS:
        # No method begins so: "/" is not in a token.
        if method[:4].upper() == "SIP/":
            code, _, reason = rest.partition(" ")
            status = int(code) if _STATUS.fullmatch(code) is not None else 0
            return Response(head=head, limits=limits, body=body, version=method, status=status, reason=reason)
        if not is_token(method):
            raise ParseError("a start-line", start_line)
    request_uri, space, version = rest.rpartition(" ")
    if not space:
        raise ParseError("a start-line", start_line)
    return Request(head=head, limits=limits, body=body, method=method, request_uri=request_uri, version=version)


_SIP_2_0: Final = "SIP/2.0"

# SIP-Version    =  "SIP" "/" 1*DIGIT "." 1*DIGIT, a string and so in any case (section 7.1).
_VERSION: Final = re.compile(r"[Ss][Ii][Pp]/[0-9]++\.[0-9]++")
_STATUS: Final = re.compile(r"[0-9]{3}")

# "Multiple header field rows with the same field-name MAY be present in a message if and only if the entire
# field-value for that header field is defined as a comma-separated list" (section 7.3.1). Those that decide
# anything here.
_SINGLE: Final = (
    "from",
    "to",
    "call-id",
    "cseq",
    "max-breadth",
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


def _check_addresses(limits: Limits, *addresses: NameAddr) -> None:
    for address in addresses:
        if len(address.tag) > limits.tag_bytes_max:
            raise ValueTooLong(len(address.tag), limits.tag_bytes_max)
        if len(address.uri_text) > limits.uri_bytes_max:
            raise ValueTooLong(len(address.uri_text), limits.uri_bytes_max)


def _check_lengths(head: Head, limits: Limits) -> None:
    if head.size_bytes > limits.head_bytes_max:
        raise HeadTooLong(head.size_bytes, limits.head_bytes_max)
    longest = max(len(encode_head(line)) for line in (head.start_line, *head.lines))
    if longest > limits.line_bytes_max:
        raise LineTooLong(longest, limits.line_bytes_max)
