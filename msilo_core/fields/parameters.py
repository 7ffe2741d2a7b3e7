"""What header values are put together from: comma lists, ``;name=value`` parameters, quoted strings."""

import re
from collections.abc import Iterator
from typing import Final

from msilo_core.errors import ParseError
from msilo_core.grammar import IPV6_REFERENCE, QUOTED_STRING, SWS, TOKEN, is_token

__all__ = ["EQUAL", "PARAM", "PARAM_START", "SLASH", "identifier", "parameters", "split_first", "split_list", "unquote"]

SLASH: Final = rf"{SWS}/{SWS}"
EQUAL: Final = rf"{SWS}={SWS}"
PARAM_START: Final = rf"{SWS};{SWS}({TOKEN})"

# generic-param  =  token [ EQUAL gen-value ]
# gen-value      =  token / host / quoted-string
PARAM: Final = re.compile(rf"{PARAM_START}(?:{EQUAL}({TOKEN}|{QUOTED_STRING}|{IPV6_REFERENCE}))?+")
"""One ``generic-param`` and the semicolon before it: name, and value or None."""


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
    if not value.startswith('"'):
        return value
    return _QUOTED_PAIR.sub(r"\1", value[1:-1]) if "\\" in value else value[1:-1]


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
_LIST_ELEMENT: Final = re.compile(rf'(?:[^",<]++|{QUOTED_STRING}|<[^<>]*+>)*+')

_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def _element_end(value: str, start: int) -> int:
    match = _LIST_ELEMENT.match(value, start)
    assert match is not None, "the pattern matches empty text too"
    end = match.end()
    if end < len(value) and value[end] != ",":
        raise ParseError("a closing '\"' or '>'", value[end:], end)
    return end
