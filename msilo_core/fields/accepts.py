"""Headers that say which bodies a peer takes: Accept, Accept-Encoding, Accept-Language (RFC 3261 section 20)."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.contents import MEDIA_TYPE
from msilo_core.fields.parameters import WithParams, parameters, parse_q, split_list
from msilo_core.fields.words import LANGUAGE_TAG
from msilo_core.grammar import TOKEN

__all__ = [
    "CodingRange",
    "LanguageRange",
    "MediaRange",
    "parse_accept",
    "parse_accept_encoding",
    "parse_accept_language",
]

_Q_DEFAULT: Final = 1000


class _Range(WithParams):
    __slots__ = ()

    @property
    def q(self) -> int:
        """How welcome it is, in thousandths: 0, not at all, to 1000, which it is without a ``q``."""
        q = self.param("q")
        return _Q_DEFAULT if q is None else parse_q(q)


class MediaRange(_Range, msgspec.Struct, frozen=True, gc=False):
    """One value of Accept.

    Attributes:
        type: in lower case, or ``*``.
        subtype: in lower case, or ``*``.
        params: as received, ``q`` among them.
    """

    type: str
    subtype: str
    params: str = ""

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return f"{self.type}/{self.subtype}{self.params}"


class CodingRange(_Range, msgspec.Struct, frozen=True, gc=False):
    """One value of Accept-Encoding.

    Attributes:
        coding: in lower case, or ``*``.
        params: as received, ``q`` among them.
    """

    coding: str
    params: str = ""

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return self.coding + self.params


class LanguageRange(_Range, msgspec.Struct, frozen=True, gc=False):
    """One value of Accept-Language.

    Attributes:
        language: in lower case, or ``*``; ``en`` takes ``en-gb`` too (RFC 2616 section 14.4).
        params: as received, ``q`` among them.
    """

    language: str
    params: str = ""

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return self.language + self.params


def parse_accept(values: Sequence[str]) -> tuple[MediaRange, ...]:
    """Parse all Accept lines of a message; none in them means that no body is taken at all."""
    return tuple(
        MediaRange(match[1].lower(), match[2].lower(), params) for match, params in _ranges(values, _MEDIA_RANGE)
    )


def parse_accept_encoding(values: Sequence[str]) -> tuple[CodingRange, ...]:
    """Parse all Accept-Encoding lines of a message; none in them means ``identity``, which is no coding."""
    return tuple(CodingRange(match[0].lower(), params) for match, params in _ranges(values, _CODING))


def parse_accept_language(values: Sequence[str]) -> tuple[LanguageRange, ...]:
    """Parse all Accept-Language lines of a message."""
    return tuple(LanguageRange(match[0].lower(), params) for match, params in _ranges(values, _LANGUAGE_RANGE))


# accept-range     =  media-range *(SEMI accept-param)
# media-range      =  ( "*/*" / ( m-type SLASH "*" ) / ( m-type SLASH m-subtype ) ) *( SEMI m-parameter )
# accept-param     =  ("q" EQUAL qvalue) / generic-param
# A token may be an asterisk, and a generic-param every m-parameter.
_MEDIA_RANGE: Final = re.compile(MEDIA_TYPE)

# encoding         =  codings *(SEMI accept-param)
# codings          =  content-coding / "*"
_CODING: Final = re.compile(TOKEN)

# language         =  language-range *(SEMI accept-param)
# language-range   =  ( ( 1*8ALPHA *( "-" 1*8ALPHA ) ) / "*" )
_LANGUAGE_RANGE: Final = re.compile(rf"(?:{LANGUAGE_TAG}|\*)")


def _ranges(values: Sequence[str], pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], str]]:
    """Yield what `pattern` finds, and the parameters behind it, of each element of a list."""
    for value in values:
        for text in split_list(value):
            match = pattern.match(text)
            if match is None:
                raise ParseError("a media type, a coding or a language", text)
            for name, weight in parameters(text, match.end()):
                if name == "q":
                    parse_q(weight)
            yield match, text[match.end() :].lstrip(" \t")
