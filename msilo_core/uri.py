"""SIP and SIPS URIs (RFC 3261 section 19.1) and addresses of record; tel URIs have a module of their own."""

import re
from typing import Final, TypeAlias
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec

from msilo_core.errors import ParseError, Unsupported, UriTooLong
from msilo_core.grammar import (
    ABSOLUTE_URI,
    DIGITS,
    HOST,
    PASSWORD,
    SHAPE_HOST,
    SHAPE_PORT,
    SHAPE_URI_PARAMETERS,
    SHAPE_USER,
    URI_HEADERS,
    URI_PARAMETERS,
    USER,
    normalise_escapes,
    normalise_host,
    parse_port,
    require_ipv6_reference,
)
from msilo_core.head import COMPACT
from msilo_core.limits import Limits
from msilo_core.tel import TEL_URI, TelUri, parse_tel_uri

__all__ = ["AnyUri", "Aor", "SipUri", "check_uri", "parse_any_uri", "parse_aor", "parse_uri"]

_LIMITS: Final = Limits()


class Aor(msgspec.Struct, frozen=True, order=True, gc=False):
    """An address of record in the canonical form that owns an inbox: the key of every table.

    Attributes:
        username: user part, escapes resolved, case kept (RFC 3261 section 19.1.4: the user part is
            case-sensitive).
        domain: host part in lower case, IPv6 in brackets; a port does not count.
    """

    username: str
    domain: str

    def __str__(self) -> str:
        """Return a SIP URI; :func:`parse_aor` gives the same value back."""
        return f"sip:{quote(self.username, safe=_USER_SAFE)}@{self.domain}"


class SipUri(msgspec.Struct, frozen=True, gc=False):
    """A SIP or SIPS URI, taken apart but not unescaped.

    Attributes:
        scheme: ``sip`` or ``sips``.
        user: user part as received, or None.
        password: password as received, or None; empty after a lone colon.
        host: name, IPv4 address, or IPv6 address in brackets, as received.
        port: 1 to 65535, or None.
        params: from the first ``;`` on, or empty.
        headers: from the ``?`` on, or empty.
    """

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int | None
    params: str = ""
    headers: str = ""

    def __str__(self) -> str:
        """Return the URI as text; it parses to an equal value."""
        password = "" if self.password is None else f":{self.password}"
        userinfo = "" if self.user is None else f"{self.user}{password}@"
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}:{userinfo}{self.host}{port}{self.params}{self.headers}"

    def param(self, name: str) -> str | None:
        """Return the value of a parameter, empty for one without a value, None for one not there.

        Escapes are resolved, in names too (RFC 4475 section 3.1.1.3), and once: ``%2541`` is ``%41``. So any character
        may come out. An octet that is not UTF-8 is a lone surrogate, as in a :class:`msilo_core.head.Head`.
        """
        return _resolved(self.params).get(name.lower()) if self.params else None

    @property
    def transport(self) -> str | None:
        """The ``transport`` parameter in lower case, or None."""
        transport = self.param("transport")
        return None if transport is None else transport.lower()

    @property
    def maddr(self) -> str | None:
        """The ``maddr`` parameter, or None."""
        return self.param("maddr")

    def aor(self, limits: Limits = _LIMITS) -> Aor:
        """Return the address of record that this URI names, whatever its scheme, port and parameters.

        Raises:
            ParseError: there is no user part, or unescaped it is not UTF-8 or holds control characters: such
                text is neither shown nor stored safely.
            UriTooLong: user or host pass ``limits.user_bytes_max`` octets.
        """
        if self.user is None:
            raise ParseError("a URI with a user part", str(self))
        username = self.user
        user_bytes = len(username)
        if "%" in username:
            raw_user = unquote_to_bytes(username)
            user_bytes = len(raw_user)
            try:
                username = raw_user.decode()
            except UnicodeDecodeError:
                raise ParseError("UTF-8 in the user part", self.user) from None
            if _CONTROL.search(username):
                raise ParseError("a user part without control characters", self.user)
        domain = normalise_host(self.host)
        size = max(user_bytes, len(domain))
        if size > limits.user_bytes_max:
            raise UriTooLong(size, limits.user_bytes_max)
        return Aor(username, domain)

    def equivalent(self, other: "SipUri") -> bool:
        """Compare as RFC 3261 section 19.1.4 says, and IP addresses as RFC 5954 section 4.2.

        The relation is not transitive, as the example there shows: what needs a key has :meth:`aor`.
        """
        return (
            self.scheme == other.scheme
            and self.port == other.port
            and _optional(self.user) == _optional(other.user)
            and _optional(self.password) == _optional(other.password)
            and normalise_host(self.host) == normalise_host(other.host)
            and _params_match(self.params, other.params)
            and _headers(self.headers) == _headers(other.headers)
        )


def parse_uri(text: str, limits: Limits = _LIMITS) -> SipUri:
    """Take a SIP or SIPS URI apart.

    Raises:
        ParseError: it does not follow the grammar.
        Unsupported: a well-formed URI of another scheme; the hint is 416.
        UriTooLong: it has more than ``limits.uri_bytes_max`` octets.
    """
    if len(text) > limits.uri_bytes_max:
        raise UriTooLong(len(text), limits.uri_bytes_max)
    match = _SIP_URI_SHAPE.fullmatch(text)
    if match is None:
        return _parse_uri(text)
    scheme, user, host, port, params = match.groups()
    return SipUri(scheme, user, None, host, None if port is None else int(port), params)


AnyUri: TypeAlias = SipUri | TelUri
"""A URI that names who wrote a message or whom it is for (RFC 3325 section 9.1: "a sip, sips, or tel URI")."""


def parse_any_uri(text: str, limits: Limits = _LIMITS) -> AnyUri:
    """Take a SIP, SIPS or tel URI apart.

    Raises:
        ParseError: it does not follow the grammar of its scheme.
        Unsupported: a well-formed URI of another scheme; the hint is 416.
        UriTooLong: it has more than ``limits.uri_bytes_max`` octets.
    """
    return parse_tel_uri(text, limits) if text[:4].lower() == "tel:" else parse_uri(text, limits)


def check_uri(text: str) -> None:
    """Check that `text` is an ``addr-spec``: a SIP or SIPS URI, or a URI of any other scheme.

    Raises:
        ParseError: it is not.
    """
    match = _SIP_URI.fullmatch(text)
    if match is None:
        if _SIP_SCHEME.match(text) is not None or _OTHER_URI.fullmatch(text) is None:
            raise ParseError("a URI", text)
        return
    if match[4].startswith("["):
        require_ipv6_reference(match[4])
    if match[5] is not None:
        parse_port(match[5])


def parse_aor(text: str) -> Aor:
    """Return the address of record that an operator wrote, with or without a scheme: ``bob@example.com``.

    Raises:
        ParseError: it is not one.
        UriTooLong: a part of it is longer than the store takes.
    """
    return parse_uri(text if _SIP_SCHEME.match(text) else f"sip:{text}").aor()


# The shape is written as traffic writes it: the scheme in lower case, no escapes, no password, no IPv6, no headers.
_SIP_URI_SHAPE: Final = re.compile(
    rf"(sips?+):(?:({SHAPE_USER})@|)({SHAPE_HOST})(?::({SHAPE_PORT})|)({SHAPE_URI_PARAMETERS})"
)

# SIP-URI          =  "sip:" [ userinfo ] hostport uri-parameters [ headers ]
# userinfo         =  ( user / telephone-subscriber ) [ ":" password ] "@"
# hostport         =  host [ ":" port ]
_SIP_URI: Final = re.compile(
    rf"([Ss][Ii][Pp][Ss]?+):(?>({USER})(?>:({PASSWORD})|)@|)({HOST})(?>:({DIGITS})|)({URI_PARAMETERS})({URI_HEADERS})"
)
_SIP_SCHEME: Final = re.compile(r"[Ss][Ii][Pp][Ss]?+:")
# RFC 3966 has a "#" in the numbers of telephones, which absoluteURI has nowhere.
_OTHER_URI: Final = re.compile(rf"(?:{ABSOLUTE_URI}|{TEL_URI})")

# What `user` allows unescaped; `quote` never escapes letters, digits and "_.-~".
_USER_SAFE: Final = "!*'()&=+$,;?/"

# C0, DEL and C1.
_CONTROL: Final = re.compile(r"[\x00-\x1F\x7F-\x9F]")

# "A user, ttl, or method uri-parameter appearing in only one URI never matches", the same for maddr; and
# transport, for "a URI omitting any component with a default value will not match a URI explicitly containing
# that component".
_NEVER_IGNORED: Final = ("user", "ttl", "method", "maddr", "transport")

# "The matching rules are defined for each header field in Section 20": in any case, but for these. `body` is no header
# but what the request has below them.
_CASE_SENSITIVE: Final = frozenset(("body", "call-id", "cseq", "date", "in-reply-to"))


def _parse_uri(text: str) -> SipUri:
    match = _SIP_URI.fullmatch(text)
    if match is None:
        if _SIP_SCHEME.match(text) is None and _OTHER_URI.fullmatch(text) is not None:
            raise Unsupported(text.partition(":")[0] + ":", 416)
        raise ParseError("a SIP URI", text)
    scheme, user, password, host, port, params, headers = match.groups()
    if host.startswith("["):
        require_ipv6_reference(host)
    return SipUri(scheme.lower(), user, password, host, None if port is None else parse_port(port), params, headers)


def _params(params: str) -> dict[str, str]:
    """Parameters as received by name in lower case; the first of a name counts."""
    found: dict[str, str] = {}
    for param in params.split(";")[1:]:
        name, _, value = param.partition("=")
        found.setdefault(name.lower(), value)
    return found


def _resolved(params: str) -> dict[str, str]:
    """Parameters by name in lower case, escapes resolved; the first of a name counts."""
    if "%" not in params:
        return _params(params)
    found: dict[str, str] = {}
    for name, value in _params(params).items():
        found.setdefault(_unescape(name).lower(), _unescape(value))
    return found


def _unescape(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _optional(text: str | None) -> str | None:
    return None if text is None else normalise_escapes(text)


def _comparable(params: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in _params(params).items():
        found.setdefault(_lowered(name), _lowered(value))
    return found


def _lowered(text: str) -> str:
    return normalise_escapes(text).lower()


def _params_match(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    left, right = _comparable(ours), _comparable(theirs)
    if any((name in left) != (name in right) for name in _NEVER_IGNORED):
        return False
    return all(right.get(name, value) == value for name, value in left.items())


def _headers(headers: str) -> list[tuple[str, str]]:
    """Headers of a URI in an order that does not depend on theirs."""
    pairs = (header.partition("=") for header in headers[1:].split("&") if header)
    return sorted(_comparable_header(_lowered(name), value) for name, _, value in pairs)


def _comparable_header(name: str, value: str) -> tuple[str, str]:
    name = COMPACT.get(name, name)
    return name, normalise_escapes(value) if name in _CASE_SENSITIVE else _lowered(value)
