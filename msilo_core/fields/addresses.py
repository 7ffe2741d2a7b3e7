"""Headers that hold addresses: From, To, Contact, and those of their form (RFC 3261 section 20)."""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from msilo_core.errors import ParseError, Unsupported, ValueTooLong
from msilo_core.fields.numbers import INT31_DIGITS, INT31_END, parse_delta_seconds
from msilo_core.fields.parameters import (
    WithParams,
    checked_params,
    identifier,
    parameters,
    parse_q,
    quote,
    split_list,
    unquote,
)
from msilo_core.fields.preferences import FeatureValue, parse_features
from msilo_core.grammar import (
    LWS,
    QUOTED_STRING,
    SHAPE_HOST,
    SHAPE_PORT,
    SHAPE_URI_PARAMETERS,
    SHAPE_USER,
    SWS,
    TOKEN,
    bounded_int,
)
from msilo_core.limits import Limits
from msilo_core.uri import AnyUri, SipUri, check_uri, parse_any_uri, parse_uri

__all__ = [
    "STAR",
    "CallInfo",
    "Contact",
    "NameAddr",
    "Star",
    "any_uri",
    "format_name_addr",
    "parse_call_info",
    "parse_contacts",
    "parse_name_addr",
    "read_name_addr",
    "sip_uri",
]

_LIMITS: Final = Limits()
# For URIs whose length somebody else looks after.
_UNBOUNDED: Final = Limits(uri_bytes_max=2**31 - 1)


class Star(Enum):
    """Type of :data:`STAR`."""

    STAR = "*"


STAR: Final = Star.STAR
"""``Contact: *``: all bindings (RFC 3261 section 10.2.2)."""


class NameAddr(WithParams, msgspec.Struct, frozen=True, gc=False):
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
        return sip_uri(self.uri_text)

    @property
    def any_uri(self) -> AnyUri:
        """The URI taken apart, be it that of a telephone.

        Raises:
            ParseError: it is of another scheme than SIP, SIPS and tel, or no tel URI.
        """
        return any_uri(self.uri_text)

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return format_name_addr(self.display_name, self.uri_text, self.params)


class Contact(WithParams, msgspec.Struct, frozen=True, gc=False):
    """One value of Contact (RFC 3261 section 20.10).

    Attributes:
        uri: the URI taken apart.
        uri_text: the URI as received.
        params: from the first ``;`` behind the URI on as received, or empty.
        q: preference in thousandths, 0 to 1000, or None.
        expires_s: ``expires``, 0 to 2**32 - 1, or None.
        instance: ``+sip.instance`` without quotes, or empty (RFC 5626 section 4.1).
        reg_id: ``reg-id``, or 0 (RFC 5626 section 4.2).
        methods: ``methods`` without quotes, or empty for none (RFC 3840 section 10.14).
        display_name: without quotes and backslashes, or empty.
    """

    uri: SipUri
    uri_text: str
    params: str = ""
    q: int | None = None
    expires_s: int | None = None
    instance: str = ""
    reg_id: int = 0
    methods: str = ""
    display_name: str = ""

    @property
    def features(self) -> dict[str, tuple[FeatureValue, ...]]:
        """What the device can do (RFC 3840); see :func:`msilo_core.parse_features`."""
        return parse_features(self.params)

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return format_name_addr(self.display_name, self.uri_text, self.params)


class CallInfo(WithParams, msgspec.Struct, frozen=True, gc=False):
    """One value of Call-Info, Alert-Info or Error-Info (RFC 3261 sections 20.9, 20.4, 20.18).

    Attributes:
        uri_text: the URI as received; checked against the grammar, whatever its scheme.
        params: as received; of a Call-Info, ``purpose`` says what is found there.
    """

    uri_text: str
    params: str = ""

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return format_name_addr("", self.uri_text, self.params)


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
    if len(values) == 1:
        match = _CONTACT_SHAPE.fullmatch(values[0])
        if match is not None:
            return (_contact_of_shape(match, limits),)
    parts = [part for value in values for part in split_list(value)]
    if parts == ["*"]:
        return STAR
    return tuple(_parse_contact(part, limits) for part in parts)


def parse_call_info(values: Sequence[str]) -> tuple[CallInfo, ...]:
    """Parse all lines of Call-Info, Alert-Info or Error-Info in a message."""
    return tuple(_parse_info(part) for value in values for part in split_list(value))


def read_name_addr(text: str) -> tuple[str, str, int] | None:
    """Return display name and URI of the ``name-addr`` that `text` begins with, and where it ends; else None.

    Raises:
        ParseError: what stands in the brackets is no URI.
    """
    match = _NAME_ADDR.match(text)
    if match is None:
        return None
    quoted, tokens, uri_text = match.groups()
    check_uri(uri_text)
    return tokens or "" if quoted is None else unquote(quoted), uri_text, match.end()


def format_name_addr(display_name: str, uri_text: str, params: str) -> str:
    """Return a ``name-addr`` and parameters as they stand in a header; for errors see :func:`escape`."""
    return f"{quote(display_name)} <{uri_text}>{params}" if display_name else f"<{uri_text}>{params}"


def sip_uri(text: str) -> SipUri:
    """Take a URI apart that must be SIP or SIPS; its length is for others to look after."""
    try:
        return parse_uri(text, _UNBOUNDED)
    except Unsupported:
        raise ParseError("a SIP or SIPS URI", text) from None


def any_uri(text: str) -> AnyUri:
    """Take a URI apart that must be SIP, SIPS or tel; its length is for others to look after."""
    try:
        return parse_any_uri(text, _UNBOUNDED)
    except Unsupported:
        raise ParseError("a SIP, SIPS or tel URI", text) from None


# The shapes are written as traffic writes it: no blanks but one, scheme and ``tag`` in lower case, no escapes, no IPv6.
_DISPLAY_NAME_SHAPE: Final = rf'(?:"([^"\\\x00-\x1F\x7F]*+)" ?+|({TOKEN}) ?+|)'
_NAME_ADDR_SHAPE: Final = re.compile(
    rf"{_DISPLAY_NAME_SHAPE}<(sips?+:(?:{SHAPE_USER}@|){SHAPE_HOST}(?::{SHAPE_PORT}|){SHAPE_URI_PARAMETERS})>"
    rf"((?:;tag=({TOKEN})|))"
)
# No quoted value holds a semicolon: the parameters can be split at those.
_CONTACT_SHAPE: Final = re.compile(
    rf"{_DISPLAY_NAME_SHAPE}<((sips?+):(?:({SHAPE_USER})@|)({SHAPE_HOST})(?::({SHAPE_PORT})|)({SHAPE_URI_PARAMETERS}))>"
    rf'((?:;{TOKEN}(?:=(?:{TOKEN}|"[^"\\;\x00-\x1F\x7F]*+")|))*)'
)

# name-addr      =  [ display-name ] LAQUOT addr-spec RAQUOT
# display-name   =  *(token LWS)/ quoted-string
# RFC 4475 section 3.1.1.6: the blank between a token and "<" may be missing.
_NAME_ADDR: Final = re.compile(rf"(?>({QUOTED_STRING})|({TOKEN}(?>(?:{LWS}{TOKEN})*))|){SWS}<([^<>]*+)>")

# "If the URI contains a comma, question mark or semicolon, the URI MUST be enclosed in angle brackets" (section 20.10).
_ADDR_SPEC: Final = re.compile(r"""[^ \t;,?<>"]++""")

_EXPIRES_DEFAULT_S: Final = 3600


def _parse_name_addr(text: str) -> NameAddr:
    display_name, uri_text, start, text = _parse_address(text)
    tag = identifier("tag", text, start)
    return NameAddr(display_name, uri_text, tag, text[start:].lstrip(" \t"))


def _parse_contact(text: str, limits: Limits) -> Contact:
    display_name, uri_text, start, text = _parse_address(text)
    if len(uri_text) > limits.uri_bytes_max:
        raise ValueTooLong(len(uri_text), limits.uri_bytes_max)
    values: dict[str, str] = {}
    for name, value in parameters(text, start):
        values.setdefault(name, value)
    return _contact(display_name, sip_uri(uri_text), uri_text, text[start:].lstrip(" \t"), values)


def _contact_of_shape(match: re.Match[str], limits: Limits) -> Contact:
    quoted, tokens, uri_text, scheme, user, host, port, uri_params, params = match.groups()
    if len(uri_text) > limits.uri_bytes_max:
        raise ValueTooLong(len(uri_text), limits.uri_bytes_max)
    values: dict[str, str] = {}
    for param in params.split(";")[1:]:
        name, _, value = param.partition("=")
        values.setdefault(name.lower(), value)
    uri = SipUri(scheme, user, None, host, None if port is None else int(port), uri_params)
    return _contact(quoted or tokens or "", uri, uri_text, params, values)


def _contact(display_name: str, uri: SipUri, uri_text: str, params: str, values: dict[str, str]) -> Contact:
    return Contact(
        uri,
        uri_text,
        params,
        parse_q(values["q"]) if "q" in values else None,
        _parse_expires(values["expires"]) if "expires" in values else None,
        unquote(values["+sip.instance"]) if "+sip.instance" in values else "",
        _parse_reg_id(values["reg-id"]) if "reg-id" in values else 0,
        unquote(values["methods"]) if "methods" in values else "",
        display_name,
    )


def _parse_info(text: str) -> CallInfo:
    found = read_name_addr(text)
    if found is None or found[0]:
        raise ParseError("a URI in <>", text)
    _, uri_text, end = found
    return CallInfo(uri_text, checked_params(text, end))


def _parse_address(text: str) -> tuple[str, str, int, str]:
    """Return display name, URI, where the header's parameters begin, and the text that they begin in."""
    text = text.strip(" \t")
    found = read_name_addr(text)
    if found is not None:
        return *found, text
    match = _ADDR_SPEC.match(text)
    if match is None:
        raise ParseError("a name and a URI in <>, or a URI", text)
    check_uri(match[0])
    return "", match[0], match.end(), text


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
