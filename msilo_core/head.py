"""Start-line and header lines, found and named but not interpreted.

A head is decoded once, as UTF-8 with ``surrogateescape`` so that encoding it the same way gives the octets
back; split into lines; each line split at its colon; each name looked up among the usual spellings. Whether
all this was allowed is asked once, over the whole head. Anything unusual, be it legal (folds, blanks before
the colon, tabs) or not, goes to a second way that is slow and strict.
"""

import re
from typing import Final

import msgspec

from msilo_core.errors import ParseError, TooManyHeaders
from msilo_core.grammar import TOKEN, is_token

__all__ = ["COMPACT", "HEAD_END", "Head", "encode_head", "split_head"]

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
        text: as received, decoded, without :data:`HEAD_END`.
        start_line: its first line.
        keys: one for each header line, in their order.
        first: value of the first line of each key, unfolded; blanks may stand around it.
        size_bytes: octets of `text`.
    """

    text: str
    start_line: str
    keys: list[str]
    first: dict[str, str]
    size_bytes: int

    @property
    def lines(self) -> list[str]:
        """The header lines as received, folds included, each without its last CRLF."""
        text = self.text
        if "\r\n " in text or "\r\n\t" in text:
            return _LINE_END.split(text)[1:]
        return text.split("\r\n")[1:]

    def values(self, key: str) -> list[str]:
        """Return the values of all lines of a key, unfolded, without blanks around them."""
        if key not in self.first:
            return []
        lines = [line for name, line in zip(self.keys, self.lines, strict=True) if name == key]
        return [_unfolded(line.partition(":")[2]) for line in lines]


def split_head(data: bytes, headers_max: int) -> tuple[Head, bytes]:
    """Return the head of a message and the octets behind it.

    CRLFs before the start-line are passed over (RFC 3261 section 7.5).

    Raises:
        ParseError: no empty line ends the head; a line is not of the form ``name: value``; a control
            character stands where it may not, CR or LF alone among them.
        TooManyHeaders: there are more than `headers_max` header lines.
    """
    start = 0
    while data.startswith(b"\r\n", start):
        start += 2
    end = data.find(HEAD_END, start)
    if end < 0:
        raise ParseError("an empty line after the headers", data[start:])
    raw = data[start:end]
    text = raw.decode("utf-8", "surrogateescape")
    lines = text.split("\r\n")
    start_line = lines.pop(0)
    found = None
    # CR and LF are control characters too: each line end is allowed its two, and nothing else one.
    if len(raw.translate(None, _CONTROLS)) + 2 * len(lines) == len(raw) and len(lines) <= headers_max:
        found = _split_usual(lines)
    keys, first = _split_strictly(text, headers_max) if found is None else found
    return Head(text, start_line, keys, first, len(raw)), data[end + len(HEAD_END) :]


def encode_head(text: str) -> bytes:
    """Return the octets that `text` was decoded from."""
    return text.encode("utf-8", "surrogateescape")


# header-value allows no control character but HTAB, and quoted-pair every one but CR and LF. Whether a
# backslash stands in a quoted string is for whoever parses the value.
_CONTROLS: Final = bytes([*range(0x20), 0x7F])
_CONTROL: Final = re.compile(r"[\x00-\x1F\x7F]")
_TEXT: Final = re.compile(r"(?:[^\\\x00-\x08\x0A-\x1F\x7F]++|\r\n|\\[\x00-\x09\x0B\x0C\x0E-\x7F]?+)*+")

# message-header  =  (header-name HCOLON header-value) CRLF
# HCOLON          =  *( SP / HTAB ) ":" SWS
_NAME: Final = re.compile(rf"({TOKEN})[ \t]*+:")

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


_KEYS: Final = {name: name.lower() for name in _USUAL_NAMES.split()} | COMPACT


def _split_usual(lines: list[str]) -> tuple[list[str], dict[str, str]] | None:
    """Return keys and first values of unfolded lines of the form ``name: value``; None if one is of another."""
    keys: list[str] = []
    first: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(": ")
        try:
            key = _KEYS[name]
        except KeyError:
            if not is_token(name):
                return None
            key = _unusual_key(name)
        if not separator:
            return None
        keys.append(key)
        first.setdefault(key, value)
    return keys, first


def _split_strictly(text: str, headers_max: int) -> tuple[list[str], dict[str, str]]:
    """Return keys and first values of all that the grammar allows, and raise for everything else."""
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
    return keys, first


def _unusual_key(name: str) -> str:
    # Not kept for the next time: a peer chooses such names, as many as it likes.
    key = name.lower()
    return COMPACT.get(key, key)


def _unfolded(value: str) -> str:
    return _FOLD.sub(" ", value).strip(" \t")
