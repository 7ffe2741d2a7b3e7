"""tel URIs: the numbers of telephones (RFC 3966)."""

import re
from typing import Final

import msgspec

from msilo_core.errors import ParseError, UriTooLong
from msilo_core.grammar import ESCAPED, HOSTNAME, PARAM_TEXT, UNRESERVED, normalise_escapes, normalise_host
from msilo_core.limits import Limits

__all__ = ["TelUri", "parse_tel_uri"]

_LIMITS: Final = Limits()


class TelUri(msgspec.Struct, frozen=True, gc=False):
    """A ``tel`` URI, taken apart but not unescaped.

    Attributes:
        number: as received, with its visual separators; that of a global number begins with ``+``.
        params: from the first ``;`` on, or empty; a local number has a ``phone-context`` among them.
    """

    number: str
    params: str = ""

    def __str__(self) -> str:
        """Return the URI as text; it parses to an equal value."""
        return f"tel:{self.number}{self.params}"

    def param(self, name: str) -> str | None:
        """Return the value of a parameter as received, empty for one without a value, None for one not there."""
        return _params(self.params).get(name.lower())

    @property
    def is_global(self) -> bool:
        """Whether the number means the same everywhere (RFC 3966 section 5.1.4)."""
        return self.number.startswith("+")

    @property
    def digits(self) -> str:
        """The number without visual separators, in lower case; with its ``+`` if it is global."""
        return _digits(self.number)

    @property
    def phone_context(self) -> str | None:
        """Where a local number is valid: a domain name, or the first digits of a global number; or None."""
        return self.param("phone-context")

    @property
    def ext(self) -> str | None:
        """The extension behind the number, or None (RFC 3966 section 5.3)."""
        return self.param("ext")

    @property
    def isub(self) -> str | None:
        """The ISDN subaddress, escapes and all, or None (RFC 3966 section 5.2)."""
        return self.param("isub")

    def canonical(self) -> "TelUri":
        """Return the form that all equivalent URIs have in common, with its parameters in the order of section 3.

        "The 'isdn-subaddress' or 'extension' MUST appear first, if present, followed by the 'context' parameter, if
        present, followed by any other parameters in lexicographical order."
        """
        params = sorted(_params(self.params).items(), key=_order)
        return TelUri(self.digits, "".join(_canonical_param(name, value) for name, value in params))

    def equivalent(self, other: "TelUri") -> bool:
        """Compare as RFC 3966 section 4 says; unlike that of SIP URIs, this relation is transitive."""
        return self == other or self.canonical() == other.canonical()


def parse_tel_uri(text: str, limits: Limits = _LIMITS) -> TelUri:
    """Take a tel URI apart.

    The order of the parameters, which section 3 prescribes for those who write one, is not looked at.

    Raises:
        ParseError: it does not follow the grammar; or a parameter stands there twice, or ``isub`` beside ``ext``; or
            a local number has no ``phone-context``.
        UriTooLong: it has more than ``limits.uri_bytes_max`` octets.
    """
    if len(text) > limits.uri_bytes_max:
        raise UriTooLong(len(text), limits.uri_bytes_max)
    match = _TEL_URI.fullmatch(text)
    if match is None:
        raise ParseError("a tel URI", text)
    number, params = match.groups()
    names: set[str] = set()
    for param in params.split(";")[1:]:
        name = param.partition("=")[0].lower()
        if name in names or _VALUES.get(name, _OTHER_VALUE).fullmatch(param, len(name)) is None:
            raise ParseError(f"one {name} parameter with a value of its kind", text)
        names.add(name)
    if "isub" in names and "ext" in names:
        raise ParseError("isub or ext, not both", text)
    if not number.startswith("+") and "phone-context" not in names:
        raise ParseError("a phone-context for a local number", text)
    return TelUri(number, params)


# global-number-digits = "+" *phonedigit DIGIT *phonedigit
# phonedigit           = DIGIT / [ visual-separator ]
# visual-separator     = "-" / "." / "(" / ")"
_SEPARATORS: Final = "-.()"
_PHONE_DIGITS: Final = r"[\-.()]*+[0-9][0-9\-.()]*+"
_GLOBAL: Final = rf"\+{_PHONE_DIGITS}"

# local-number-digits  = *phonedigit-hex (HEXDIG / "*" / "#")*phonedigit-hex
# phonedigit-hex       = HEXDIG / "*" / "#" / [ visual-separator ]
_LOCAL: Final = r"[\-.()]*+[0-9A-Fa-f*#][0-9A-Fa-f*#\-.()]*+"

# parameter            = ";" pname ["=" pvalue ]
# pname                = 1*( alphanum / "-" )
# Here a value is whatever some parameter allows; `parse_tel_uri` asks for what its own does.
_ANY_VALUE: Final = rf"(?>(?:[{UNRESERVED}/?:@&=+$,\[\]]++|{ESCAPED})+)"
TEL_URI: Final = rf"[Tt][Ee][Ll]:(?:{_GLOBAL}|{_LOCAL})(?>(?:;[A-Za-z0-9\-]++(?>={_ANY_VALUE}|))*)"
_TEL_URI: Final = re.compile(rf"[Tt][Ee][Ll]:({_GLOBAL}|{_LOCAL})((?>(?:;[A-Za-z0-9\-]++(?>={_ANY_VALUE}|))*))")

# isdn-subaddress      = ";isub=" 1*uric
# extension            = ";ext=" 1*phonedigit
# context              = ";phone-context=" descriptor
# descriptor           = domainname / global-number-digits
# An uric may be a semicolon, but "These characters MUST be percent encoded if they appear in tel URI parameter values".
# A phonedigit may be nothing but a separator; an extension that has no digit is none.
_VALUES: Final = {
    "isub": re.compile(f"={_ANY_VALUE}"),
    "ext": re.compile(f"={_PHONE_DIGITS}"),
    "phone-context": re.compile(f"=(?:{HOSTNAME}|{_GLOBAL})"),
}
_OTHER_VALUE: Final = re.compile(rf"(?>={PARAM_TEXT}|)")

_FIRST: Final = {"isub": 0, "ext": 0, "phone-context": 1}
_ORDER_OF_OTHERS: Final = 2


def _params(params: str) -> dict[str, str]:
    pairs = (param.partition("=") for param in params.split(";")[1:])
    return {name.lower(): value for name, _, value in pairs}


def _digits(number: str) -> str:
    return number.translate(_WITHOUT_SEPARATORS).lower()


_WITHOUT_SEPARATORS: Final = str.maketrans("", "", _SEPARATORS)


def _order(param: tuple[str, str]) -> tuple[int, str]:
    name = param[0]
    return _FIRST.get(name, _ORDER_OF_OTHERS), name


def _canonical_param(name: str, value: str) -> str:
    # "the 'phone-context' parameter value is compared as a host name if it is a 'domainname' or digit by digit if it is
    # 'global-number-digits'. The latter is compared after removing all 'visual-separator' characters."
    if name == "phone-context" and not value.startswith("+"):
        value = normalise_host(value)
    elif name in ("phone-context", "ext"):
        value = _digits(value)
    else:
        # "URI comparisons are case-insensitive."
        value = normalise_escapes(value).lower()
    return f";{name}={value}" if value else f";{name}"
