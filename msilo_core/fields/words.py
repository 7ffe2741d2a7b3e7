"""Headers that hold words: tokens and their like (RFC 3261 section 20)."""

import re
from typing import Final

from msilo_core.errors import ParseError
from msilo_core.grammar import WORD

__all__ = ["parse_call_id"]


def parse_call_id(text: str) -> str:
    """Return a Call-ID: ``word [ "@" word ]``, compared octet by octet."""
    text = text.strip(" \t")
    if _CALL_ID.fullmatch(text) is None:
        raise ParseError("a Call-ID", text)
    return text


# callid         =  word [ "@" word ]
_CALL_ID: Final = re.compile(rf"{WORD}(?:@{WORD})?+")
