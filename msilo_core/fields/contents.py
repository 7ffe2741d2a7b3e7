"""Headers that say what a body is: Content-Type and its like (RFC 3261 section 20)."""

import re
from typing import Final

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.parameters import EQUAL, PARAM_START, SLASH, parameters, unquote
from msilo_core.grammar import QUOTED_STRING, TOKEN

__all__ = ["MediaType", "check_media_type", "parse_media_type"]


class MediaType(msgspec.Struct, frozen=True, gc=False):
    """Content-Type (RFC 3261 section 20.15), all in lower case; `charset` is empty if there is none."""

    type: str
    subtype: str
    charset: str = ""


def parse_media_type(text: str) -> MediaType:
    """Parse a Content-Type."""
    text = text.strip(" \t")
    match = _MEDIA_TYPE.match(text)
    if match is None:
        raise ParseError("a media type", text)
    charset = ""
    for name, value in parameters(text, match.end(), _MEDIA_PARAM):
        if name == "charset" and not charset:
            charset = unquote(value).lower()
    return MediaType(match[1].lower(), match[2].lower(), charset)


def check_media_type(text: str) -> None:
    """Check a Content-Type against the grammar."""
    parse_media_type(text)


# media-type     =  m-type SLASH m-subtype *(SEMI m-parameter)
# m-parameter    =  m-attribute EQUAL m-value
# m-value        =  token / quoted-string
_MEDIA_TYPE: Final = re.compile(rf"({TOKEN}){SLASH}({TOKEN})")
_MEDIA_PARAM: Final = re.compile(rf"{PARAM_START}{EQUAL}({TOKEN}|{QUOTED_STRING})")
