"""Headers that name software: User-Agent and Server; and the comments that stand in them (RFC 3261 section 25.1)."""

import re
from typing import Final, TypeAlias

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.parameters import SLASH, escape
from msilo_core.grammar import TOKEN

__all__ = ["Comment", "Product", "ServerValue", "parse_products", "read_comment"]


class Product(msgspec.Struct, frozen=True, gc=False):
    """A ``product``: name, and version or empty."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return f"{self.name}/{self.version}" if self.version else self.name


class Comment(msgspec.Struct, frozen=True, gc=False):
    """A ``comment``.

    Attributes:
        text: what stands between the outermost parentheses, without backslashes and without blanks around it; comments
            in it are part of it.
    """

    text: str

    def __str__(self) -> str:
        """Return it as it stands in a header.

        Raises:
            LocalError: there is a CR or LF in it, which no comment can say.
        """
        return f"({escape(self.text, _NOT_CTEXT if _is_balanced(self.text) else _NOT_CTEXT_NOR_PAREN)})"


ServerValue: TypeAlias = Product | Comment
"""One ``server-val``."""


def parse_products(text: str) -> tuple[ServerValue, ...]:
    """Parse a User-Agent or Server; an empty one names nothing.

    The blank that must stand between two values may be missing before and after a comment: FreePBX writes its version
    and then that of Asterisk in parentheses.
    """
    text = text.strip(" \t")
    values: list[ServerValue] = []
    at = 0
    while at < len(text):
        if text[at] == "(":
            comment, at = read_comment(text, at)
            values.append(comment)
        else:
            match = _PRODUCT.match(text, at)
            if match is None:
                raise ParseError("a product or a comment", text[at:], at)
            values.append(Product(match[1], match[2] or ""))
            at = match.end()
        blanks = _BLANKS.match(text, at)
        assert blanks is not None, "the pattern matches empty text too"
        at = blanks.end()
    return tuple(values)


def read_comment(text: str, start: int) -> tuple[Comment, int]:
    """Return the comment that begins with the parenthesis at `start`, and where it ends.

    Raises:
        ParseError: it is not closed, or holds what no comment may.
    """
    # Counted, not recursive: a peer chooses how deep they are nested.
    depth = 0
    at = start
    pieces: list[str] = []
    while True:
        match = _COMMENT_PIECE.match(text, at)
        if match is None:
            raise ParseError("a closing ')'", text[start:], at)
        piece = match[0]
        at = match.end()
        depth += (piece == "(") - (piece == ")")
        if depth == 0:
            break
        pieces.append(piece)
    del pieces[0]
    if pieces:
        # LPAREN = SWS "(" SWS, RPAREN = SWS ")" SWS. A blank behind a backslash is one piece with it, and stays.
        pieces[0] = pieces[0].lstrip(" \t")
        pieces[-1] = pieces[-1] if pieces[-1].startswith("\\") else pieces[-1].rstrip(" \t")
    return Comment("".join(piece[1] if piece.startswith("\\") else piece for piece in pieces)), at


# product          =  token [SLASH product-version]
# product-version  =  token
_PRODUCT: Final = re.compile(rf"({TOKEN})(?>{SLASH}({TOKEN})|)(?![^ \t(])")
_BLANKS: Final = re.compile(r"[ \t]*+")

# comment      =  LPAREN *(ctext / quoted-pair / comment) RPAREN
# ctext        =  %x21-27 / %x2A-5B / %x5D-7E / UTF8-NONASCII / LWS
# quoted-pair  =  "\" (%x00-09 / %x0B-0C / %x0E-7F)
_COMMENT_PIECE: Final = re.compile(r"[()]|[^()\\\x00-\x08\x0A-\x1F\x7F]++|\\[\x00-\x09\x0B\x0C\x0E-\x7F]")
_NOT_CTEXT: Final = re.compile(r"[\\\x00-\x08\x0A-\x1F\x7F]|\A[ \t]|[ \t]\Z")
_NOT_CTEXT_NOR_PAREN: Final = re.compile(r"[()\\\x00-\x08\x0A-\x1F\x7F]|\A[ \t]|[ \t]\Z")


def _is_balanced(text: str) -> bool:
    """Say whether the parentheses in `text` open and close comments."""
    depth = 0
    for paren in _PAREN.findall(text):
        depth += 1 if paren == "(" else -1
        if depth < 0:
            return False
    return depth == 0


_PAREN: Final = re.compile(r"[()]")
