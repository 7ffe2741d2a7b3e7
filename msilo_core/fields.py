"""Values of header fields: one frozen Struct and one parse function each.

Where speed matters a function tries a *shape* first, one pattern for the form that real traffic has, and falls back to
a general parser that takes everything RFC 3261 section 25.1 allows. A shape accepts only what the general parser
accepts, with the same result; a test compares the two.

All functions take one unfolded value; blanks around it do not matter. What they do not accept they answer with
:class:`msilo_core.ParseError`. Parameters are kept as received; of a name that stands twice the first counts (RFC 3261
section 7.3.1 forbids it), but a second ``tag`` or ``branch``, which would name two dialogs or transactions, is refused.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date
from enum import Enum
from typing import Final

import msgspec

from msilo_core.errors import ParseError, Unsupported, ValueTooLong
from msilo_core.grammar import (
    DIGITS,
    HOST,
    IPV6_REFERENCE,
    LWS,
    NAME_OR_IPV4,
    QUOTED_STRING,
    SWS,
    TOKEN,
    URI_PARAMETERS,
    USER,
    WORD,
    bounded_int,
    is_token,
    parse_port,
    require_ipv6_reference,
)
from msilo_core.limits import Limits
from msilo_core.uri import SipUri, check_uri, parse_uri

__all__ = [
    "DELTA_SECONDS_MAX",
    "STAR",
    "CSeq",
    "Contact",
    "MediaType",
    "NameAddr",
    "Star",
    "Via",
    "check_media_type",
    "format_date",
    "is_token",
    "parse_call_id",
    "parse_contacts",
    "parse_content_length",
    "parse_cseq",
    "parse_date",
    "parse_delta_seconds",
    "parse_max_forwards",
    "parse_media_type",
    "parse_name_addr",
    "parse_via",
    "split_first",
    "split_list",
]

_LIMITS: Final = Limits()
# For URIs whose length somebody else looks after.
_UNBOUNDED: Final = Limits(uri_bytes_max=2**31)

DELTA_SECONDS_MAX: Final = 2**32 - 1
"""RFC 3261 section 20.19: an Expires is "between 0 and (2**32)-1"."""


class Star(Enum):
    """Type of :data:`STAR`."""

    STAR = "*"


STAR: Final = Star.STAR
"""``Contact: *``: all bindings (RFC 3261 section 10.2.2)."""


class Via(msgspec.Struct, frozen=True, gc=False):
    """One ``via-parm`` (RFC 3261 section 20.42).

    Attributes:
        transport: in upper case.
        host: sent-by host as received, IPv6 in brackets.
        port: sent-by port, 1 to 65535, or None.
        branch: the transaction's identifier; empty for an RFC 2543 sender.
        params: from the first ``;`` on as received, or empty.
    """

    transport: str
    host: str
    port: int | None
    branch: str
    params: str

    @property
    def sent_by(self) -> str:
        """``host[:port]`` in lower case: part of a server transaction's key (RFC 3261 section 17.2.3)."""
        host = self.host.lower()
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def received(self) -> str | None:
        """The ``received`` parameter, or None; IPv6 with or without brackets (RFC 5118 section 4.5)."""
        return self.param("received")

    @property
    def rport(self) -> str | None:
        """The ``rport`` parameter (RFC 3581): None if not there, empty if the sender asks for it."""
        params = self.params.lower()
        if '"' not in params:
            # The two forms that nearly every request has, without taking the parameters apart.
            if "rport" not in params:
                return None
            if params.count("rport") == 1 and (params.endswith(";rport") or ";rport;" in params):
                return ""
        return self.param("rport")

    def param(self, name: str) -> str | None:
        """Return the value of a parameter as received, empty for one without a value, None for one not there."""
        wanted = name.lower()
        return next((value for key, value in _params(self.params, 0, _VIA_PARAM) if key == wanted), None)

    def completed(self, suffix: str) -> str:
        """Return the parameters with `suffix`, ``received`` or ``rport`` or both, instead of those of that name.

        RFC 3261 section 18.2.1 and RFC 3581 section 4: these say what the server saw, and nothing that the sender
        wrote may stay beside it.
        """
        params = self.params
        written = params.lower()
        for name, pattern in _ANSWERED:
            if name in written and name in suffix:
                params = pattern.sub(_quoted_only if '"' in params else "", params)
        return params + suffix


class NameAddr(msgspec.Struct, frozen=True, gc=False):
    """A ``name-addr`` or ``addr-spec`` with the parameters of its header: From, To and their like.

    Attributes:
        display_name: without quotes and backslashes, or empty.
        uri_text: the URI as received; checked against the grammar, whatever its scheme.
        tag: the ``tag`` parameter, or empty.
        params: from the first ``;`` behind the URI on as received, or empty.
    """

    display_name: str
    uri_text: str
    tag: str
    params: str

    @property
    def uri(self) -> SipUri:
        """The URI taken apart.

        Raises:
            ParseError: it is of another scheme, as ``tel:`` (RFC 4475 section 3.3.4: such a To in a REGISTER gets 400).
        """
        return _sip_uri(self.uri_text)


class Contact(msgspec.Struct, frozen=True, gc=False):
    """One value of Contact (RFC 3261 section 20.10).

    Attributes:
        uri: the URI taken apart.
        uri_text: the URI as received.
        params: from the first ``;`` behind the URI on as received, or empty.
        q: preference in thousandths, 0 to 1000, or None.
        expires_s: ``expires``, 0 to 2**32 - 1, or None.
        instance: ``+sip.instance`` without quotes, or empty (RFC 5626 section 4.1).
        reg_id: ``reg-id``, or 0 (RFC 5626 section 4.2).
        methods: ``methods`` without quotes, or empty for none (RFC 3840 section 10.2.5).
    """

    uri: SipUri
    uri_text: str
    params: str = ""
    q: int | None = None
    expires_s: int | None = None
    instance: str = ""
    reg_id: int = 0
    methods: str = ""


class CSeq(msgspec.Struct, frozen=True, gc=False):
    """CSeq (RFC 3261 section 20.16): `number` is 0 to 2**31 - 1."""

    number: int
    method: str


class MediaType(msgspec.Struct, frozen=True, gc=False):
    """Content-Type (RFC 3261 section 20.15), all in lower case; `charset` is empty if there is none."""

    type: str
    subtype: str
    charset: str = ""


def parse_via(text: str) -> Via:
    """Parse one ``via-parm``; :func:`split_list` parts a line that holds several."""
    match = _VIA_SHAPE.fullmatch(text)
    if match is None:
        return _parse_via(text)
    transport, host, port, params, branch = match.groups()
    return Via(transport, host, None if port is None else parse_port(port), branch, params)


def parse_name_addr(text: str) -> NameAddr:
    """Parse a value of From, To or another header of their form."""
    match = _NAME_ADDR_SHAPE.fullmatch(text)
    if match is None:
        return _parse_name_addr(text)
    quoted, tokens, uri_text, params, tag = match.groups()
    return NameAddr(quoted or tokens or "", uri_text, tag or "", params)


def parse_contacts(values: Sequence[str], limits: Limits = _LIMITS) -> tuple[Contact, ...] | Star:
    """Parse all Contact lines of a message; ``*`` must then be the only value.

    An ``expires`` that is no number counts as 3600 (RFC 3261 section 10.2.1.1: "Malformed values SHOULD be treated as
    equivalent to 3600").

    Raises:
        ParseError: also for a URI of another scheme than SIP and SIPS: nothing can be delivered there.
        ValueTooLong: a URI has more than ``limits.uri_bytes_max`` octets.
    """
    parts = [part for value in values for part in split_list(value)]
    if parts == ["*"]:
        return STAR
    return tuple(_parse_contact(part, limits) for part in parts)


def parse_cseq(text: str) -> CSeq:
    """Parse a CSeq.

    Raises:
        ParseError: also for a number that is not "less than 2**31" (RFC 3261 section 8.1.1.5).
    """
    match = _CSEQ.fullmatch(text)
    if match is None:
        raise ParseError("a number and a method", text)
    digits, method = match.groups()
    number = int(digits) if len(digits) < _INT31_DIGITS else bounded_int(digits, _INT31_DIGITS)
    if number is None or number >= _INT31_END:
        raise ParseError("a CSeq number below 2**31", text)
    return CSeq(number, method)


def parse_call_id(text: str) -> str:
    """Return a Call-ID: ``word [ "@" word ]``, compared octet by octet."""
    text = text.strip(" \t")
    if _CALL_ID.fullmatch(text) is None:
        raise ParseError("a Call-ID", text)
    return text


def parse_max_forwards(text: str) -> int:
    """Parse a Max-Forwards, 0 to 255 (RFC 3261 section 20.22)."""
    hops = bounded_int(text.strip(" \t"), _MAX_FORWARDS_DIGITS)
    if hops is None or hops > _MAX_FORWARDS_MAX:
        raise ParseError("a Max-Forwards from 0 to 255", text)
    return hops


def parse_content_length(text: str) -> int:
    """Parse a Content-Length in octets, below 10**10."""
    length = bounded_int(text.strip(" \t"), _DIGITS_MAX)
    if length is None:
        raise ParseError("a Content-Length of at most 10 digits", text)
    return length


def parse_delta_seconds(text: str) -> int:
    """Parse ``delta-seconds``; a number above 2**32 - 1 counts as that."""
    seconds = bounded_int(text.strip(" \t"), _DIGITS_MAX)
    return DELTA_SECONDS_MAX if seconds is None else min(seconds, DELTA_SECONDS_MAX)


def parse_date(text: str) -> int:
    """Parse a Date (RFC 3261 section 20.17: RFC 1123 form, GMT, case-sensitive) to seconds since 1970.

    The name of the day is not compared with the date.
    """
    match = _DATE.fullmatch(text.strip(" \t"))
    if match is None:
        raise ParseError("a date such as 'Sat, 13 Nov 2010 23:29:00 GMT'", text)
    day, month, year, hour, minute, second = match.groups()
    try:
        days = date(int(year), _MONTHS.index(month) + 1, int(day)).toordinal() - _EPOCH_DAYS
    except ValueError:
        raise ParseError("a day of the calendar", text) from None
    return days * _DAY_S + int(hour) * 3600 + int(minute) * 60 + int(second)


def format_date(unix_s: int) -> str:
    """Return the value of a Date header for an instant in seconds since 1970; years 1 to 9999."""
    days, second = divmod(unix_s, _DAY_S)
    day = date.fromordinal(_EPOCH_DAYS + days)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return (
        f"{_WEEKDAYS[day.weekday()]}, {day.day:02} {_MONTHS[day.month - 1]} {day.year:04}"
        f" {hour:02}:{minute:02}:{second:02} GMT"
    )


def parse_media_type(text: str) -> MediaType:
    """Parse a Content-Type."""
    text = text.strip(" \t")
    match = _MEDIA_TYPE.match(text)
    if match is None:
        raise ParseError("a media type", text)
    charset = ""
    for name, value in _params(text, match.end(), _MEDIA_PARAM):
        if name == "charset" and not charset:
            charset = _unquote(value).lower()
    return MediaType(match[1].lower(), match[2].lower(), charset)


def check_media_type(text: str) -> None:
    """Check a Content-Type against the grammar."""
    parse_media_type(text)


def split_list(value: str) -> list[str]:
    """Split a header value at its commas, except in quoted strings and ``<>``; blanks around the parts go.

    Empty parts are passed over: RFC 2543 appendix C allowed them, and devices still send them.

    Raises:
        ParseError: a quote or ``<`` is not closed.
    """
    parts: list[str] = []
    start = 0
    while start < len(value):
        end = _element_end(value, start)
        if part := value[start:end].strip(" \t"):
            parts.append(part)
        start = end + 1
    return parts


def split_first(value: str) -> tuple[str, str]:
    """Part a header value at the first comma that :func:`split_list` would part it at; the comma itself goes.

    Raises:
        ParseError: a quote or ``<`` is not closed in the first part.
    """
    end = _element_end(value, 0)
    return value[:end].strip(" \t"), value[end + 1 :].strip(" \t")


# In a shape, an element is written as traffic writes it: no blanks but one, names in lower case, no IPv6.

_VIA_SHAPE: Final = re.compile(
    rf"SIP/2\.0/([A-Z]++) ({NAME_OR_IPV4})(?::([0-9]{{1,5}}+))?+"
    rf"((?:;(?!branch[=;])[a-z]++(?:={TOKEN})?+)*+;branch=({TOKEN})(?:;(?!branch(?:[=;]|$))[a-z]++(?:={TOKEN})?+)*+)"
)
_NAME_ADDR_SHAPE: Final = re.compile(
    rf'(?:"([^"\\\x00-\x1F\x7F]*+)" ?+|({TOKEN}) ?+)?+'
    rf"<(sips?+:(?:{USER}@)?+{NAME_OR_IPV4}(?::[1-9][0-9]{{0,3}}+)?+{URI_PARAMETERS})>"
    rf"((?:;tag=({TOKEN}))?+)"
)

# via-parm       =  sent-protocol LWS sent-by *( SEMI via-params )
# sent-protocol  =  protocol-name SLASH protocol-version SLASH transport
# sent-by        =  host [ COLON port ]
# Name and version are not looked at: what came by another version is answered with 505, and the answer needs a Via.
_SLASH: Final = rf"{SWS}/{SWS}"
_SENT_BY: Final = re.compile(rf"{TOKEN}{_SLASH}{TOKEN}{_SLASH}({TOKEN}){LWS}({HOST})(?:{SWS}:{SWS}({DIGITS}))?+")

# name-addr      =  [ display-name ] LAQUOT addr-spec RAQUOT
# display-name   =  *(token LWS)/ quoted-string
# RFC 4475 section 3.1.1.6: the blank between a token and "<" may be missing.
_NAME_ADDR: Final = re.compile(rf"(?:({QUOTED_STRING})|({TOKEN}(?:{LWS}{TOKEN})*+))?+{SWS}<([^<>]*+)>")

# "If the URI contains a comma, question mark or semicolon, the URI MUST be enclosed in angle brackets" (section 20.10).
_ADDR_SPEC: Final = re.compile(r"""[^ \t;,?<>"]++""")

# generic-param  =  token [ EQUAL gen-value ]
# gen-value      =  token / host / quoted-string
_EQUAL: Final = rf"{SWS}={SWS}"
_PARAM_START: Final = rf"{SWS};{SWS}({TOKEN})"
_VALUE: Final = rf"{TOKEN}|{QUOTED_STRING}|{IPV6_REFERENCE}"
_PARAM: Final = re.compile(rf"{_PARAM_START}(?:{_EQUAL}({_VALUE}))?+")

# via-received   =  "received" EQUAL (IPv4address / IPv6address), and so a value with colons outside of brackets.
# The name is not asked for: no other value can be mistaken for one of hexadecimal digits and colons.
_VIA_VALUE: Final = rf"(?:{TOKEN}(?!:)|{QUOTED_STRING}|{IPV6_REFERENCE}|[0-9A-Fa-f:.]++)"
_VIA_PARAM: Final = re.compile(rf"{_PARAM_START}(?:{_EQUAL}({_VIA_VALUE}))?+")

# What a server writes into a Via. A quoted string is matched too, so that nothing is found inside of one.
_ANSWERED: Final = tuple(
    (
        name,
        re.compile(
            rf"{QUOTED_STRING}|;{SWS}{name}(?:{_EQUAL}{_VIA_VALUE})?+(?={SWS}(?:;|$))", re.ASCII | re.IGNORECASE
        ),
    )
    for name in ("received", "rport")
)

# media-type     =  m-type SLASH m-subtype *(SEMI m-parameter)
# m-parameter    =  m-attribute EQUAL m-value
# m-value        =  token / quoted-string
_MEDIA_TYPE: Final = re.compile(rf"({TOKEN}){_SLASH}({TOKEN})")
_MEDIA_PARAM: Final = re.compile(rf"{_PARAM_START}{_EQUAL}({TOKEN}|{QUOTED_STRING})")

# CSeq           =  "CSeq" HCOLON 1*DIGIT LWS Method
_CSEQ: Final = re.compile(rf"{SWS}({DIGITS}){LWS}({TOKEN}){SWS}")
_INT31_DIGITS: Final = 10
_INT31_END: Final = 2**31

# callid         =  word [ "@" word ]
_CALL_ID: Final = re.compile(rf"{WORD}(?:@{WORD})?+")

# qvalue         =  ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
_QVALUE: Final = re.compile(r"([01])(?:\.([0-9]{0,3}))?+")
_Q_MAX: Final = 1000
_EXPIRES_DEFAULT_S: Final = 3600

_MAX_FORWARDS_DIGITS: Final = 3
_MAX_FORWARDS_MAX: Final = 255
# Enough for 2**32 - 1; more digits are an attack on int() or on a counter.
_DIGITS_MAX: Final = 10

# rfc1123-date   =  wkday "," SP date1 SP time SP "GMT"
# date1          =  2DIGIT SP month SP 4DIGIT
# time           =  2DIGIT ":" 2DIGIT ":" 2DIGIT        ; 00:00:00 - 23:59:59
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE: Final = re.compile(
    rf"(?:{'|'.join(_WEEKDAYS)}), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}})"
    r" ([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]) GMT"
)
_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()
_DAY_S: Final = 86_400

# What may stand between two commas of a list: quoted strings and <> hide theirs.
_LIST_ELEMENT: Final = re.compile(rf'(?:[^",<]++|{QUOTED_STRING}|<[^<>]*+>)*+')

_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def _parse_via(text: str) -> Via:
    text = text.strip(" \t")
    match = _SENT_BY.match(text)
    if match is None:
        raise ParseError("a Via such as 'SIP/2.0/UDP host'", text)
    transport, host, port = match.groups()
    if host.startswith("["):
        require_ipv6_reference(host)
    branch = _identifier("branch", text, match.end(), _VIA_PARAM)
    params = text[match.end() :].lstrip(" \t")
    return Via(transport.upper(), host, None if port is None else parse_port(port), branch, params)


def _parse_name_addr(text: str) -> NameAddr:
    display_name, uri_text, start, text = _parse_address(text)
    tag = _identifier("tag", text, start, _PARAM)
    return NameAddr(display_name, uri_text, tag, text[start:].lstrip(" \t"))


def _parse_contact(text: str, limits: Limits) -> Contact:
    _, uri_text, start, text = _parse_address(text)
    if len(uri_text) > limits.uri_bytes_max:
        raise ValueTooLong(len(uri_text), limits.uri_bytes_max)
    q: int | None = None
    expires_s: int | None = None
    values: dict[str, str] = {}
    for name, value in _params(text, start, _PARAM):
        values.setdefault(name, value)
    if "q" in values:
        q = _parse_q(values["q"])
    if "expires" in values:
        expires_s = _parse_expires(values["expires"])
    return Contact(
        _sip_uri(uri_text),
        uri_text,
        text[start:].lstrip(" \t"),
        q,
        expires_s,
        _unquote(values.get("+sip.instance", "")),
        _parse_reg_id(values.get("reg-id", "0")),
        _unquote(values.get("methods", "")),
    )


def _parse_address(text: str) -> tuple[str, str, int, str]:
    """Return display name, URI, where the header's parameters begin, and the text that they begin in."""
    text = text.strip(" \t")
    match = _NAME_ADDR.match(text)
    if match is not None:
        quoted, tokens, uri_text = match.groups()
        display_name = tokens or "" if quoted is None else _unquote(quoted)
    else:
        match = _ADDR_SPEC.match(text)
        if match is None:
            raise ParseError("a name and a URI in <>, or a URI", text)
        display_name, uri_text = "", match[0]
    check_uri(uri_text)
    return display_name, uri_text, match.end(), text


def _params(text: str, start: int, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield name in lower case and value as received, empty for none, of the parameters from `start` to the end."""
    while start < len(text):
        match = pattern.match(text, start)
        if match is None:
            raise ParseError("';' and a parameter", text[start:], start)
        yield match[1].lower(), match[2] or ""
        start = match.end()


def _identifier(name: str, text: str, start: int, pattern: re.Pattern[str]) -> str:
    """Check all parameters from `start` on and return the one that must be a token and stand there only once."""
    found = ""
    for key, value in _params(text, start, pattern):
        if key == name:
            if found or not is_token(value):
                raise ParseError(f"one {name} parameter, a token", text, start)
            found = value
    return found


def _sip_uri(text: str) -> SipUri:
    try:
        return parse_uri(text, _UNBOUNDED)
    except Unsupported:
        raise ParseError("a SIP or SIPS URI", text) from None


def _parse_q(text: str) -> int:
    match = _QVALUE.fullmatch(text)
    if match is None:
        raise ParseError("a q from 0 to 1 with at most 3 decimals", text)
    q = int(match[1] + (match[2] or "").ljust(3, "0"))
    if q > _Q_MAX:
        raise ParseError("a q from 0 to 1 with at most 3 decimals", text)
    return q


def _parse_expires(text: str) -> int:
    try:
        return parse_delta_seconds(text)
    except ParseError:
        return _EXPIRES_DEFAULT_S


def _parse_reg_id(text: str) -> int:
    reg_id = bounded_int(text, _INT31_DIGITS)
    if reg_id is None or reg_id >= _INT31_END:
        raise ParseError("a reg-id below 2**31", text)
    return reg_id


def _quoted_only(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else ""


def _unquote(value: str) -> str:
    """Return what a ``quoted-string`` says; a token says itself."""
    if not value.startswith('"'):
        return value
    return _QUOTED_PAIR.sub(r"\1", value[1:-1]) if "\\" in value else value[1:-1]


def _element_end(value: str, start: int) -> int:
    match = _LIST_ELEMENT.match(value, start)
    assert match is not None, "the pattern matches empty text too"
    end = match.end()
    if end < len(value) and value[end] != ",":
        raise ParseError("a closing '\"' or '>'", value[end:], end)
    return end
