"""Start-line and header lines, found and named but not interpreted.

A head is decoded once, as UTF-8 with ``surrogateescape`` so that encoding it the same way gives the octets
back; split into lines; each line split at its colon; each name looked up among the usual spellings. Whether
all this was allowed is asked once, over the whole head. Anything unusual, be it legal (folds, blanks before
the colon, tabs) or not, goes to a second way that is slow and strict.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from msilo_core.errors import ParseError, TooManyHeaders
from msilo_core.grammar import TOKEN, is_token

__all__ = ["COMPACT", "HEAD_END", "Head", "answerable_head", "encode_head", "split_head"]

HEAD_END: Final = b"\r\n\r\n"
"""The last header's line end and the empty line."""

COMPACT: Final = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""Compact forms: RFC 3261 section 7.3.3, and the IANA registry for the extensions."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """A start-line and header lines.

    A key is a header's name in lower case, always the long form: ``call-id`` for a line that begins with
    ``i:``.

    Attributes:
        start_line: as received, decoded.
        keys: one for each header line, in their order.
        first: value of the first line of each key, unfolded; blanks may stand around it.
        repeated: the keys of several lines.
        size_bytes: octets, without :data:`HEAD_END`.
    """

    start_line: str
    keys: list[str]
    first: dict[str, str]
    repeated: frozenset[str]
    size_bytes: int
    _lines: list[str]

    @property
    def lines(self) -> list[str]:
        """The header lines as received, folds included, each without its last CRLF."""
        return self._lines.copy()

    @property
    def text(self) -> str:
        """The head as received, decoded, without :data:`HEAD_END`."""
        return "\r\n".join([self.start_line, *self._lines])

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield key and line of each header, in order; a line is as received, folds included, without its last CRLF."""
        return zip(self.keys, self._lines, strict=True)

    def values(self, key: str) -> list[str]:
        """Return the values of all lines of a key, unfolded, without blanks around them."""
        value = self.first.get(key)
        if value is None:
            return []
        values = [value.strip(" \t")]
        if key in self.repeated:
            at = self.keys.index(key)
            for _ in range(self.keys.count(key) - 1):
                at = self.keys.index(key, at + 1)
                values.append(_unfolded(self._lines[at].partition(":")[2]))
        return values


def split_head(data: bytes, headers_max: int) -> tuple[Head, bytes]:
    """Return the head of a message and the octets behind it.

    CRLFs before the start-line are passed over (RFC 3261 section 7.5).

    Raises:
        ParseError: no empty line ends the head; a line is not of the form ``name: value``; a control
            character stands where it may not, CR or LF alone among them.
        TooManyHeaders: there are more than `headers_max` header lines.
    """
    if data.startswith(b"\r\n"):
        start = 2
        while data.startswith(b"\r\n", start):
            start += 2
        data = data[start:]
    raw, end, body = data.partition(HEAD_END)
    if not end:
        raise ParseError("an empty line after the headers", data)
    text = raw.decode("utf-8", "surrogateescape")
    lines = text.split("\r\n")
    size = len(raw)
    head = None
    # CR and LF are control characters too: each line end is allowed its two, and nothing else one.
    if len(raw.translate(None, _CONTROLS)) + 2 * len(lines) - 2 == size and len(lines) <= headers_max + 1:
        head = _split_usual(lines, size)
    return _split_strictly(text, headers_max, size) if head is None else head, body


def answerable_head(data: bytes) -> bytes | None:
    """Return of a head that :func:`split_head` refuses what its answer is made of (RFC 3261 section 8.2.6.2).

    None where the way back is in doubt: it does not end, or a Via is what is wrong with it.
    """
    raw, end, _ = data.lstrip(b"\r\n").partition(HEAD_END)
    if not end:
        return None
    start_line, *lines = _LINE_END.split(raw.decode("utf-8", "surrogateescape"))
    kept = [start_line]
    for line in lines:
        match = _COPIED.match(line)
        if match is None:
            continue
        if _TEXT.fullmatch(line) is not None:
            kept.append(line)
        elif match[1].lower() in ("via", "v"):
            return None
    return encode_head("\r\n".join(kept)) + HEAD_END


def encode_head(text: str) -> bytes:
    """Return the octets that `text` was decoded from."""
    return text.encode("utf-8", "surrogateescape")


# header-value allows no control character but HTAB, and quoted-pair every one but CR and LF. Whether a
# backslash stands in a quoted string is for whoever parses the value.
_CONTROLS: Final = bytes([*range(0x20), 0x7F])
_CONTROL: Final = re.compile(r"[\x00-\x1F\x7F]")
_TEXT_RUN = r"[^\\\x00-\x08\x0A-\x1F\x7F]*+"
_TEXT: Final = re.compile(rf"{_TEXT_RUN}(?:(?:\r\n|\\[\x00-\x09\x0B\x0C\x0E-\x7F]?+){_TEXT_RUN})*")

# message-header  =  (header-name HCOLON header-value) CRLF
# HCOLON          =  *( SP / HTAB ) ":" SWS
_NAME: Final = re.compile(rf"({TOKEN})[ \t]*+:")

# What a response has of its request.
_COPIED: Final = re.compile(r"(via|v|from|f|to|t|call-id|i|cseq)[ \t]*+:", re.IGNORECASE)

# A line ends where no blank follows: LWS  =  [*WSP CRLF] 1*WSP.
_LINE_END: Final = re.compile(r"\r\n(?![ \t])")
# Blanks before the CRLF stay: to look for them at every blank would take quadratic time.
_FOLD: Final = re.compile(r"\r\n[ \t]++")

# As real traffic spells them. A name that is missing here is only slower.
_USUAL_NAMES: Final = """
    Via From To Call-ID CSeq Max-Forwards Content-Length Content-Type Contact Expires Route Record-Route Path Date
    Allow Supported Require Proxy-Require User-Agent Server Authorization Proxy-Authorization WWW-Authenticate
    Accept Subject Priority Reply-To In-Reply-To Content-Encoding Content-Disposition Event Privacy Organization
    P-Asserted-Identity P-Preferred-Identity P-Access-Network-Info MIME-Version Timestamp
"""


_NONE: Final[frozenset[str]] = frozenset()
_KEYS: Final = {name: name.lower() for name in _USUAL_NAMES.split()} | COMPACT
_KEYS_BY_WORD: Final = {f"{name}:": key for name, key in _KEYS.items()}


def _split_usual(lines: list[str], size: int) -> Head | None:
    """Return the head of a start-line and lines without folds of the form ``name: value``; None if one is of another.

    Such a line's first word is the name with its colon, so one look-up says whether it is of that form and one of the
    usual names.
    """
    start_line = lines.pop(0)
    keys: list[str] = []
    first: dict[str, str] = {}
    # Backwards: of several lines with one key, the first is written last and stays.
    for line in reversed(lines):
        word, _, value = line.partition(" ")
        try:
            key = _KEYS_BY_WORD[word]
        except KeyError:
            if word[-1:] != ":" or not is_token(word[:-1]):
                return None
            key = _unusual_key(word[:-1])
        keys.append(key)
        first[key] = value
    keys.reverse()
    return Head(start_line, keys, first, _repeated(keys, first), size, lines)


def _split_strictly(text: str, headers_max: int, size: int) -> Head:
    """Return the head of all that the grammar allows, and raise for everything else."""
    match = _TEXT.match(text)
    assert match is not None, "the pattern matches empty text too"
    if match.end() < len(text):
        raise ParseError("no control character in the head", text[match.end() :], match.end())
    start_line, *lines = _LINE_END.split(text)
    if _CONTROL.search(start_line) is not None:
        raise ParseError("a start-line without folds and control characters", start_line)
    if len(lines) > headers_max:
        raise TooManyHeaders(len(lines), headers_max)
    keys: list[str] = []
    first: dict[str, str] = {}
    for line in lines:
        match = _NAME.match(line)
        if match is None:
            raise ParseError("a header name and a colon", line)
        key = _unusual_key(match[1])
        keys.append(key)
        if key not in first:
            first[key] = _unfolded(line[match.end() :])
    return Head(start_line, keys, first, _repeated(keys, first), size, lines)


def _repeated(keys: list[str], first: dict[str, str]) -> frozenset[str]:
    if len(first) == len(keys):
        return _NONE
    seen: set[str] = set()
    repeated: set[str] = set()
    for key in keys:
        (repeated if key in seen else seen).add(key)
    return frozenset(repeated)


def _unusual_key(name: str) -> str:
    # Not kept for the next time: a peer chooses such names, as many as it likes.
    key = name.lower()
    return COMPACT.get(key, key)


def _unfolded(value: str) -> str:
    return (_FOLD.sub(" ", value) if "\r" in value else value).strip(" \t")
