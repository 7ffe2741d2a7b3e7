"""Headers that say what a body is: Content-Type and its like (RFC 3261 section 20)."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.parameters import EQUAL, PARAM_START, SLASH, WithParams, checked_params
from msilo_core.fields.words import parse_tokens
from msilo_core.grammar import QUOTED_STRING, TOKEN, is_token

__all__ = [
    "MEDIA_TYPE",
    "Disposition",
    "MediaType",
    "check_media_type",
    "parse_codings",
    "parse_disposition",
    "parse_media_type",
]


class MediaType(WithParams, msgspec.Struct, frozen=True, gc=False):
    """Content-Type (RFC 3261 section 20.15).

    Attributes:
        type: in lower case.
        subtype: in lower case.
        params: as received.
    """

    type: str
    subtype: str
    params: str = ""

    @property
    def charset(self) -> str:
        """The ``charset`` parameter in lower case, or empty."""
        return (self.param("charset") or "").lower()

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return f"{self.type}/{self.subtype}{self.params}"


class Disposition(WithParams, msgspec.Struct, frozen=True, gc=False):
    """Content-Disposition (RFC 3261 section 20.11).

    Attributes:
        type: ``render``, ``session``, ``icon``, ``alert`` or another, in lower case.
        params: as received.
    """

    type: str
    params: str = ""

    @property
    def handling(self) -> str:
        """What to do with a body that is not understood: ``optional`` or ``required`` or another, in lower case.

        "If the handling parameter is missing, the value 'required' SHOULD be assumed."
        """
        return (self.param("handling") or "required").lower()

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return self.type + self.params


def parse_media_type(text: str) -> MediaType:
    """Parse a Content-Type."""
    text = text.strip(" \t")
    match = _MEDIA_TYPE.match(text)
    if match is None:
        raise ParseError("a media type", text)
    return MediaType(match[1].lower(), match[2].lower(), checked_params(text, match.end(), _MEDIA_PARAM))


def check_media_type(text: str) -> None:
    """Check a Content-Type against the grammar."""
    parse_media_type(text)


def parse_disposition(text: str) -> Disposition:
    """Parse a Content-Disposition."""
    text = text.strip(" \t")
    match = _TOKEN.match(text)
    if match is None:
        raise ParseError("a disposition", text)
    value = Disposition(match[0].lower(), checked_params(text, match.end()))
    handling = value.param("handling")
    if handling is not None and not is_token(handling):
        raise ParseError("a token for handling", text)
    return value


def parse_codings(values: Sequence[str]) -> tuple[str, ...]:
    """Return the codings of all Content-Encoding lines, in lower case.

    "If multiple encodings have been applied to an entity-body, the content codings MUST be listed in the order in which
    they were applied" (RFC 3261 section 20.12).
    """
    return tuple(coding.lower() for coding in parse_tokens(values))


# media-type     =  m-type SLASH m-subtype *(SEMI m-parameter)
MEDIA_TYPE: Final = rf"({TOKEN}){SLASH}({TOKEN})"
_MEDIA_TYPE: Final = re.compile(MEDIA_TYPE)

# m-parameter    =  m-attribute EQUAL m-value
# m-value        =  token / quoted-string
_MEDIA_PARAM: Final = re.compile(rf"{PARAM_START}{EQUAL}({TOKEN}|{QUOTED_STRING})")

# Content-Disposition   =  disp-type *( SEMI disp-param )
# disp-type             =  "render" / "session" / "icon" / "alert" / disp-extension-token
_TOKEN: Final = re.compile(TOKEN)
