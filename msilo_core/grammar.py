"""Pieces of RFC 3261 section 25.1 as pattern text, the ABNF above each.

They work on text that was decoded with ``surrogateescape`` and unfolded, so linear white space is SP and HTAB alone.
Everything is spelt out in ASCII: ``\\d``, ``\\w`` and ``(?i)`` know letters and digits that SIP does not.

Each piece is deterministic: what repeats is possessive, or cannot match in two ways. So a pattern put together from
them looks at an octet a bounded number of times, whatever a peer sends. Possessive are characters and classes of them
alone, ``[0-9]++``; a group is atomic, ``(?>(?:...)*)``, or ``(?>...|)`` where it is optional. For Python before 3.11.5
does not go back to where it was when a possessive group has matched in part.
"""

import ipaddress
import re
from typing import Final

from msilo_core.errors import ParseError

__all__ = [
    "ABSOLUTE_URI",
    "DIGITS",
    "ESCAPED",
    "HOST",
    "HOSTNAME",
    "IPV6_REFERENCE",
    "LWS",
    "METHODS",
    "NAME_OR_IPV4",
    "PARAM_TEXT",
    "PASSWORD",
    "QUOTED_STRING",
    "SHAPE_HOST",
    "SHAPE_PORT",
    "SHAPE_URI_PARAMETERS",
    "SHAPE_USER",
    "SWS",
    "TOKEN",
    "UNRESERVED",
    "URI_HEADERS",
    "URI_PARAMETERS",
    "USER",
    "USUAL_NUMBERS",
    "WORD",
    "bounded_int",
    "is_token",
    "normalise_escapes",
    "normalise_host",
    "parse_port",
    "require_ipv6_reference",
]

# LWS  =  [*WSP CRLF] 1*WSP          SWS  =  [LWS]
LWS: Final = r"[ \t]++"
SWS: Final = r"[ \t]*+"

# 1*DIGIT
DIGITS: Final = r"[0-9]++"

# token       =  1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" )
TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]++"

# word        =  1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" /
#                "(" / ")" / "<" / ">" / ":" / "\" / DQUOTE / "/" / "[" / "]" / "?" / "{" / "}" )
WORD: Final = r"""[A-Za-z0-9\-.!%*_+`'~()<>:\\"/\[\]?{}]++"""

# quoted-string  =  SWS DQUOTE *(qdtext / quoted-pair ) DQUOTE
# qdtext         =  LWS / %x21 / %x23-5B / %x5D-7E / UTF8-NONASCII
# quoted-pair    =  "\" (%x00-09 / %x0B-0C / %x0E-7F)
QUOTED_STRING: Final = r'"(?>(?:[^"\\\x00-\x08\x0A-\x1F\x7F]++|\\[\x00-\x09\x0B\x0C\x0E-\x7F])*)"'

# hostname       =  *( domainlabel "." ) toplabel [ "." ]
# domainlabel    =  alphanum / alphanum *( alphanum / "-" ) alphanum
# toplabel       =  ALPHA / ALPHA *( alphanum / "-" ) alphanum
_LABEL_REST = r"[A-Za-z0-9]*+(?>(?:-++[A-Za-z0-9]++)*)"
HOSTNAME: Final = rf"(?>(?:[A-Za-z0-9]{_LABEL_REST}\.(?=[A-Za-z0-9]))*)[A-Za-z]{_LABEL_REST}\.?+"

# IPv4address    =  1*3DIGIT "." 1*3DIGIT "." 1*3DIGIT "." 1*3DIGIT
# Above 255 there is no such address, and what looks like one may not be taken for a name.
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})"
_IPV4 = rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}(?![A-Za-z0-9.\-])"

# IPv6reference  =  "[" IPv6address "]"
# The length is that of the longest IPv6address, with one colon more for RFC 5118 section 4.10. Whether the colons are
# right is for `require_ipv6_reference` to say.
IPV6_REFERENCE: Final = r"\[[0-9A-Fa-f:.]{2,46}\]"

# host             =  hostname / IPv4address / IPv6reference
NAME_OR_IPV4: Final = rf"(?:{_IPV4}|{HOSTNAME})"
HOST: Final = rf"(?:{NAME_OR_IPV4}|{IPV6_REFERENCE})"

# escaped     =  "%" HEXDIG HEXDIG
ESCAPED: Final = r"%[0-9A-Fa-f]{2}"

# unreserved  =  alphanum / mark
# mark        =  "-" / "_" / "." / "!" / "~" / "*" / "'" / "(" / ")"
# What stands between the brackets of a class.
UNRESERVED: Final = r"A-Za-z0-9\-_.!~*'()"

# user             =  1*( unreserved / escaped / user-unreserved )
# user-unreserved  =  "&" / "=" / "+" / "$" / "," / ";" / "?" / "/"
USER: Final = rf"(?>(?:[{UNRESERVED}&=+$,;?/]++|{ESCAPED})+)"

# password         =  *( unreserved / escaped / "&" / "=" / "+" / "$" / "," )
PASSWORD: Final = rf"(?>(?:[{UNRESERVED}&=+$,]++|{ESCAPED})*)"

# uri-parameters    =  *( ";" uri-parameter)
# other-param       =  pname [ "=" pvalue ]
# pname, pvalue     =  1*paramchar
# paramchar         =  param-unreserved / unreserved / escaped
# param-unreserved  =  "[" / "]" / "/" / ":" / "&" / "+" / "$"
PARAM_TEXT: Final = rf"(?>(?:[{UNRESERVED}\[\]/:&+$]++|{ESCAPED})+)"
URI_PARAMETERS: Final = rf"(?>(?:;{PARAM_TEXT}(?>={PARAM_TEXT}|))*)"

# headers         =  "?" header *( "&" header )
# header          =  hname "=" hvalue
# hname           =  1*( hnv-unreserved / unreserved / escaped )
# hvalue          =  *( hnv-unreserved / unreserved / escaped )
# hnv-unreserved  =  "[" / "]" / "/" / "?" / ":" / "+" / "$"
_HEADER_TEXT = rf"(?:[{UNRESERVED}\[\]/?:+$]++|{ESCAPED})"
_HEADER = rf"(?>{_HEADER_TEXT}+)=(?>{_HEADER_TEXT}*)"
URI_HEADERS: Final = rf"(?>\?{_HEADER}(?>(?:&{_HEADER})*)|)"

# absoluteURI    =  scheme ":" ( hier-part / opaque-part )
# scheme         =  ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )
# uric           =  reserved / unreserved / escaped
# reserved       =  ";" / "/" / "?" / ":" / "@" / "&" / "=" / "+" / "$" / ","
# Brackets too, as RFC 3986 has them in its reserved set for an IPv6 host.
ABSOLUTE_URI: Final = rf"[A-Za-z][A-Za-z0-9+\-.]*+:(?>(?:[{UNRESERVED};/?:@&=+$,\[\]]++|{ESCAPED})+)"

# Shapes of the same, for the patterns that are tried first (see msilo_core.fields): what traffic writes, of what stands
# above, without escapes, and so that nearly each character has one branch that it can take.
SHAPE_USER: Final = r"[A-Za-z0-9\-_.!~*'()&=+$,;?/]++"
SHAPE_URI_PARAMETERS: Final = r"(?:;[A-Za-z0-9\-_.!~*'()\[\]/:&+$]++(?:=[A-Za-z0-9\-_.!~*'()\[\]/:&+$]++|))*"
SHAPE_PORT: Final = r"(?:[1-5][0-9]{4}|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5])))|[1-9][0-9]{0,3}+)"
_SHAPE_OCTET = r"(?:1[0-9]{0,2}+|2(?:[0-4][0-9]?+|5[0-5]?+|[6-9]|)|[3-9][0-9]?+|0)"
_SHAPE_IPV4 = rf"{_SHAPE_OCTET}\.{_SHAPE_OCTET}\.{_SHAPE_OCTET}\.{_SHAPE_OCTET}"
# A label that begins with a digit is not the last one.
_SHAPE_LABEL = r"(?:[A-Za-z]|[0-9][A-Za-z0-9]*+(?=\.))"
_SHAPE_NAME = rf"{_SHAPE_LABEL}[A-Za-z0-9]*+(?:(?:\.{_SHAPE_LABEL}|-[A-Za-z0-9])[A-Za-z0-9]*+)*"
SHAPE_HOST: Final = rf"(?:{_SHAPE_IPV4}|{_SHAPE_NAME})"

USUAL_NUMBERS: Final[dict[str, int]] = {
    str(number): number for number in (*range(256), 300, 600, 900, 1800, 3600, 7200, 86400)
}
"""Hops, lengths and lifetimes by how nearly everybody writes them: one look-up instead of a look at each digit."""

METHODS: Final = frozenset(
    {
        "ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER",
        "REGISTER", "SUBSCRIBE", "UPDATE",
    }
)  # fmt: skip
"""Tokens that need not be looked at to know that they are."""

_TOKEN = re.compile(TOKEN)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
# "Characters other than those in the 'reserved' set (see RFC 2396) are equivalent to their '%' HEX HEX encoding": of
# those that may stand unescaped in any part of a URI, the unreserved and two more. The rest have one way to be written.
_EQUAL_TO_ESCAPE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()[]")
_TRIPLE_COLON = re.compile(r":::(?=[0-9]++\.)")
_PORT_DIGITS_MAX = 5
_PORT_MAX = 65535


def is_token(text: str) -> bool:
    """Say whether `text` is a ``token``."""
    return _TOKEN.fullmatch(text) is not None


def bounded_int(text: str, digits_max: int) -> int | None:
    """Return the value of ``1*DIGIT``, or None if it has more than `digits_max` digits without leading zeros.

    Raises:
        ParseError: `text` is something else.
    """
    number = USUAL_NUMBERS.get(text)
    if number is not None and len(text) <= digits_max:
        return number
    if not (text.isascii() and text.isdigit()):
        raise ParseError("digits", text)
    if len(text) <= digits_max:
        return int(text)
    # int() of a long text takes quadratic time, and has raised since 3.11.0: the bound comes first.
    significant = text.lstrip("0")
    return int(significant or "0") if len(significant) <= digits_max else None


def parse_port(digits: str) -> int:
    """Return a port, 1 to 65535.

    Args:
        digits: text that matches :data:`DIGITS`.

    Raises:
        ParseError: there is no such port. Nothing can be sent to port 0.
    """
    significant = digits.lstrip("0")
    if len(significant) <= _PORT_DIGITS_MAX:
        port = int(significant or "0")
        if 1 <= port <= _PORT_MAX:
            return port
    raise ParseError("a port from 1 to 65535", digits)


def require_ipv6_reference(host: str) -> ipaddress.IPv6Address:
    """Return the address in `host`, text that matches :data:`IPV6_REFERENCE`.

    Raises:
        ParseError: the brackets do not hold an IPv6 address.
    """
    # RFC 5118 section 4.10: the grammar of RFC 3261 asks for a colon too many before an IPv4 part; "following the
    # Robustness Principle, an implementation must tolerate both".
    address = _TRIPLE_COLON.sub("::", host[1:-1])
    try:
        return ipaddress.IPv6Address(address)
    except ValueError:
        raise ParseError("an IPv6 address in brackets", host) from None


def normalise_escapes(text: str) -> str:
    """Return a form of a part of a URI that is the same for all that differ only in what is escaped.

    RFC 3261 section 19.1.4: escapes are resolved, but for those of reserved characters, which mean something else
    unescaped. Case stays.
    """
    return _ESCAPE.sub(_resolved, text) if "%" in text else text


def normalise_host(host: str) -> str:
    """Return a form of `host` that is equal for equal hosts.

    Names are in lower case without the root's dot; addresses are compared as such, not as text (RFC 5954 section 4.2).
    """
    if host.startswith("["):
        address = require_ipv6_reference(host)
        # This is a key of the store: Python 3.13 writes a mapped address in another way than those before it.
        mapped = address.ipv4_mapped
        return f"[{address.compressed}]" if mapped is None else f"[::ffff:{mapped}]"
    if host[-1:].isdigit() and host.rpartition(".")[2].isdigit():
        # No name ends in a label of digits. 192.0.2.1 and 192.000.002.001 are one address.
        return ".".join(str(int(octet)) for octet in host.split("."))
    return host.lower().removesuffix(".")


def _resolved(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _EQUAL_TO_ESCAPE else escape[0].upper()
