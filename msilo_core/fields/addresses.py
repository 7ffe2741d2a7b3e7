"""Headers that hold addresses: From, To, Contact, and those of their form (RFC 3261 section 20)."""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from msilo_core.errors import ParseError, Unsupported, ValueTooLong
from msilo_core.fields.numbers import INT31_DIGITS, INT31_END, parse_delta_seconds
from msilo_core.fields.parameters import identifier, parameters, split_list, unquote
from msilo_core.grammar import LWS, NAME_OR_IPV4, QUOTED_STRING, SWS, TOKEN, URI_PARAMETERS, USER, bounded_int
from msilo_core.limits import Limits
from msilo_core.uri import SipUri, check_uri, parse_uri

__all__ = ["STAR", "Contact", "NameAddr", "Star", "parse_contacts", "parse_name_addr"]

_LIMITS: Final = Limits()
# For URIs whose length somebody else looks after.
_UNBOUNDED: Final = Limits(uri_bytes_max=2**31)


class Star(Enum):
    """Type of :data:`STAR`."""

    STAR = "*"


STAR: Final = Star.STAR
"""``Contact: *``: all bindings (RFC 3261 section 10.2.2)."""


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


# The shape is written as traffic writes it: no blanks but one, names in lower case, no IPv6.
_NAME_ADDR_SHAPE: Final = re.compile(
    rf'(?:"([^"\\\x00-\x1F\x7F]*+)" ?+|({TOKEN}) ?+)?+'
    rf"<(sips?+:(?:{USER}@)?+{NAME_OR_IPV4}(?::[1-9][0-9]{{0,3}}+)?+{URI_PARAMETERS})>"
    rf"((?:;tag=({TOKEN}))?+)"
)

# name-addr      =  [ display-name ] LAQUOT addr-spec RAQUOT
# display-name   =  *(token LWS)/ quoted-string
# RFC 4475 section 3.1.1.6: the blank between a token and "<" may be missing.
_NAME_ADDR: Final = re.compile(rf"(?:({QUOTED_STRING})|({TOKEN}(?:{LWS}{TOKEN})*+))?+{SWS}<([^<>]*+)>")

# "If the URI contains a comma, question mark or semicolon, the URI MUST be enclosed in angle brackets" (section 20.10).
_ADDR_SPEC: Final = re.compile(r"""[^ \t;,?<>"]++""")

# qvalue         =  ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
_QVALUE: Final = re.compile(r"([01])(?:\.([0-9]{0,3}))?+")
_Q_MAX: Final = 1000
_EXPIRES_DEFAULT_S: Final = 3600


def _parse_name_addr(text: str) -> NameAddr:
    display_name, uri_text, start, text = _parse_address(text)
    tag = identifier("tag", text, start)
    return NameAddr(display_name, uri_text, tag, text[start:].lstrip(" \t"))


def _parse_contact(text: str, limits: Limits) -> Contact:
    _, uri_text, start, text = _parse_address(text)
    if len(uri_text) > limits.uri_bytes_max:
        raise ValueTooLong(len(uri_text), limits.uri_bytes_max)
    q: int | None = None
    expires_s: int | None = None
    values: dict[str, str] = {}
    for name, value in parameters(text, start):
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
        unquote(values.get("+sip.instance", "")),
        _parse_reg_id(values.get("reg-id", "0")),
        unquote(values.get("methods", "")),
    )


def _parse_address(text: str) -> tuple[str, str, int, str]:
    """Return display name, URI, where the header's parameters begin, and the text that they begin in."""
    text = text.strip(" \t")
    match = _NAME_ADDR.match(text)
    if match is not None:
        quoted, tokens, uri_text = match.groups()
        display_name = tokens or "" if quoted is None else unquote(quoted)
    else:
        match = _ADDR_SPEC.match(text)
        if match is None:
            raise ParseError("a name and a URI in <>, or a URI", text)
        display_name, uri_text = "", match[0]
    check_uri(uri_text)
    return display_name, uri_text, match.end(), text


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
    reg_id = bounded_int(text, INT31_DIGITS)
    if reg_id is None or reg_id >= INT31_END:
        raise ParseError("a reg-id below 2**31", text)
    return reg_id
