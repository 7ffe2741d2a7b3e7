"""What header values are put together from: comma lists, ``;name=value`` parameters, quoted strings."""

import re
from collections.abc import Iterator
from typing import Final

from msilo_core.errors import LocalError, ParseError, excerpt
from msilo_core.grammar import IPV6_REFERENCE, QUOTED_STRING, SWS, TOKEN, is_token

__all__ = [
    "EQUAL",
    "PARAM",
    "PARAM_START",
    "SLASH",
    "WithParams",
    "checked_params",
    "escape",
    "identifier",
    "parameters",
    "parse_q",
    "quote",
    "split_first",
    "split_list",
    "unescape",
    "unquote",
]

SLASH: Final = rf"{SWS}/{SWS}"
EQUAL: Final = rf"{SWS}={SWS}"
PARAM_START: Final = rf"{SWS};{SWS}({TOKEN})"

# generic-param  =  token [ EQUAL gen-value ]
# gen-value      =  token / host / quoted-string
PARAM: Final = re.compile(rf"{PARAM_START}(?>{EQUAL}({TOKEN}|{QUOTED_STRING}|{IPV6_REFERENCE})|)")
"""One ``generic-param`` and the semicolon before it: name, and value or None."""


class WithParams:
    """What values with parameters have in common; their `params` are kept as received, from the first ``;`` on."""

    __slots__ = ()

    params: str

    def param(self, name: str) -> str | None:
        """Return what a parameter says, without quotes and backslashes; None for one that is not there.

        One without a value says nothing, the empty text.
        """
        wanted = name.lower()
        return next((unquote(value) for key, value in parameters(self.params, 0) if key == wanted), None)


def parameters(text: str, start: int, pattern: re.Pattern[str] = PARAM) -> Iterator[tuple[str, str]]:
    """Yield name in lower case and value as received, empty for none, of the parameters from `start` to the end.

    Raises:
        ParseError: something else stands there.
    """
    while start < len(text):
        match = pattern.match(text, start)
        if match is None:
            raise ParseError("';' and a parameter", text[start:], start)
        yield match[1].lower(), match[2] or ""
        start = match.end()


def checked_params(text: str, start: int, pattern: re.Pattern[str] = PARAM) -> str:
    """Check all parameters from `start` on and return them as received, from the first semicolon on."""
    for _ in parameters(text, start, pattern):
        pass
    return text[start:].lstrip(" \t")


def identifier(name: str, text: str, start: int, pattern: re.Pattern[str] = PARAM) -> str:
    """Check all parameters from `start` on and return the one that must be a token and stand there only once."""
    found = ""
    for key, value in parameters(text, start, pattern):
        if key == name:
            if found or not is_token(value):
                raise ParseError(f"one {name} parameter, a token", text, start)
            found = value
    return found


def unquote(value: str) -> str:
    """Return what a ``quoted-string`` says; a token says itself."""
    return unescape(value[1:-1]) if value.startswith('"') else value


def quote(text: str) -> str:
    """Return the ``quoted-string`` that says `text`; for errors see :func:`escape`."""
    return f'"{escape(text, _NOT_QDTEXT)}"'


def unescape(text: str) -> str:
    """Return `text` with each ``quoted-pair`` replaced by what it stands for."""
    return _QUOTED_PAIR.sub(r"\1", text) if "\\" in text else text


def escape(text: str, pattern: re.Pattern[str]) -> str:
    """Return `text` with each character that `pattern` finds made a ``quoted-pair``.

    Raises:
        LocalError: there is a CR or LF in `text`: no header can say that.
    """
    if "\r" in text or "\n" in text:
        raise LocalError(f"a line break in {excerpt(text)}")
    return pattern.sub(r"\\\g<0>", text)


def parse_q(text: str) -> int:
    """Parse a ``qvalue`` to thousandths, 0 to 1000."""
    match = _QVALUE.fullmatch(text)
    if match is None:
        raise ParseError("a q from 0 to 1 with at most 3 decimals", text)
    q = int(match[1] + (match[2] or "").ljust(3, "0"))
    if q > _Q_MAX:
        raise ParseError("a q from 0 to 1 with at most 3 decimals", text)
    return q


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


# What may stand between two commas of a list: quoted strings and <> hide theirs.
_LIST_ELEMENT: Final = re.compile(rf'(?>(?:[^",<]++|{QUOTED_STRING}|<[^<>]*+>)*)')

_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_NOT_QDTEXT: Final = re.compile(r'["\\\x00-\x08\x0A-\x1F\x7F]')

# qvalue         =  ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
_QVALUE: Final = re.compile(r"([01])(?>\.([0-9]{0,3})|)")
_Q_MAX: Final = 1000


def _element_end(value: str, start: int) -> int:
    match = _LIST_ELEMENT.match(value, start)
    assert match is not None, "the pattern matches empty text too"
    end = match.end()
    if end < len(value) and value[end] != ",":
        raise ParseError("a closing '\"' or '>'", value[end:], end)
    return end
