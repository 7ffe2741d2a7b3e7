"""message/cpim (RFC 3862), read as far as somebody on the way may: headers by namespace, and what the content is.

Nothing is ever written back: "Message processors MUST preserve all octets of all headers ... exactly" (section 2.2).
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from msilo_core.errors import HeadTooLong, ParseError, TooManyHeaders
from msilo_core.grammar import SWS, TOKEN
from msilo_core.limits import Limits

__all__ = ["CPIM_HEADERS", "Cpim", "formal_address", "parse_cpim", "unescape_cpim"]

CPIM_HEADERS: Final = "urn:ietf:params:cpim-headers:"
"""The namespace of the headers that RFC 3862 defines, and of those without a prefix unless a message says otherwise."""

_LIMITS: Final = Limits()


class Cpim(msgspec.Struct, frozen=True, gc=False):
    """A message in this format, without its content.

    Attributes:
        headers: namespace, name and value of each header whose namespace is known, in their order; values as received.
        content_headers: those of the MIME content by their names in lower case, folds undone; the first of each name.
    """

    headers: tuple[tuple[str, str, str], ...]
    content_headers: dict[str, str]

    def values(self, name: str, namespace: str = CPIM_HEADERS) -> list[str]:
        """Return the values of a header, in their order: "Header names MUST match exactly" (section 2.2)."""
        return [value for space, key, value in self.headers if (space, key) == (namespace, name)]


def parse_cpim(data: bytes, limits: Limits = _LIMITS) -> Cpim:
    """Parse a body of type message/cpim.

    Lines may end in LF alone, and any blanks stand around a value: what is meant is clear.

    Args:
        data: the body.
        limits: of each of its two heads, as of the head of a SIP message.

    Raises:
        ParseError: it is none, or not UTF-8.
        HeadTooLong: one of the heads is.
        TooManyHeaders: one of the heads has them.
    """
    lines, data = _head(data, limits)
    content_lines, _ = _head(data, limits)
    content_headers: dict[str, str] = {}
    for line in _unfolded(content_lines):
        match = _CONTENT_HEADER.fullmatch(line)
        if match is None:
            raise ParseError("a MIME header", line)
        content_headers.setdefault(match[1].lower(), match[2].strip(" \t"))
    if "content-type" not in content_headers:
        # "The MIME content headers MUST include at least a Content-Type header" (section 2.4).
        raise ParseError("a Content-Type of the content", data)
    return Cpim(tuple(_headers(lines)), content_headers)


def formal_address(value: str) -> str:
    """Return the URI in the value of a header such as From: ``[ Formal-name ] "<" URI ">"``.

    Raises:
        ParseError: it is of another form.
    """
    match = _ADDRESS.fullmatch(value)
    if match is None:
        raise ParseError("a name and a URI in <>", value)
    return match[1]


def unescape_cpim(value: str) -> str:
    r"""Return the value of a header with what is escaped in it replaced by what it stands for (section 2.3).

    "Any unrecognized escape sequence SHOULD be treated as an instance of the character following the backslash
    character. An isolated backslash that is the last character of a header SHOULD be ignored." Half of a surrogate
    pair, which is no character, becomes U+FFFD.
    """
    if "\\" not in value:
        return value
    # UCS-2: characters beyond it are escaped as two.
    text = _ESCAPE.sub(_unescaped, value)
    return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace")


_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_LINE_END: Final = re.compile(r"\r?\n")

# Name         = 1*NAMECHAR
# NAMECHAR     = %x21 / %x23-27 / %x2a-2b / %x2d / %x5e-60 / %x7c / %x7e / ALPHA / DIGIT
_NAME: Final = r"[!#-'*+\-0-9A-Z^-z|~]++"

# String       = DQUOTE *( Str-char / Escape ) DQUOTE
_STRING: Final = r'"(?>(?:[^"\\]++|\\.)*)"'

# Header       = Header-name ":" *( ";" Parameter ) SP Header-value CRLF
# Header-name  = [ Name-prefix "." ] Name
# Parameter    = Lang-param / Ext-param
# "The header MUST NOT contain any control characters (0-31)" (section 2.2)
_HEADER: Final = re.compile(
    rf'(?>({_NAME})\.|)({_NAME}):(?>(?:;{_NAME}=(?>{_STRING}|[^\s";]*+))*) *+([^\x00-\x1F\x7F]*+)'
)

# NS-header    = "NS" ": " [ Name-prefix ] "<" URI ">", with a blank before the "<" in all examples
_NAMESPACE: Final = re.compile(rf"(?>({_NAME}) *+|)<([^<>\s]++)>")

# Formal-name  = 1*( Token SP ) / String
_ADDRESS: Final = re.compile(rf'(?>{_STRING}|[^"<>]*+) *+<([^<>\s"\\]++)>')

_ESCAPE: Final = re.compile(r"\\(?>u([0-9A-Fa-f]{4})|(.?))", re.DOTALL)
_CONTROLS: Final = {"b": "\b", "t": "\t", "n": "\n", "r": "\r"}

_CONTENT_HEADER: Final = re.compile(rf"({TOKEN}){SWS}:([^\x00-\x08\x0A-\x1F\x7F]*+)")


def _head(data: bytes, limits: Limits) -> tuple[list[str], bytes]:
    """Return the lines up to an empty one, and what is behind that."""
    match = _HEAD_END.search(data, 0, limits.head_bytes_max + 4)
    if match is None:
        if len(data) > limits.head_bytes_max:
            raise HeadTooLong(len(data), limits.head_bytes_max)
        raise ParseError("an empty line after the headers", data)
    try:
        lines = _LINE_END.split(data[: match.start()].decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ParseError("UTF-8", data, error.start) from error
    if len(lines) > limits.headers_max:
        raise TooManyHeaders(len(lines), limits.headers_max)
    return lines, data[match.end() :]


def _headers(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    namespaces = {"": CPIM_HEADERS}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise ParseError("a header", line)
        prefix, name, value = match[1] or "", match[2], match[3].rstrip(" ")
        if not prefix and name == "NS":
            declared = _NAMESPACE.fullmatch(value)
            if declared is None:
                raise ParseError("a prefix and a URI in <>", line)
            # "A namespace prefix declaration MUST precede any use of that prefix" (section 3.4).
            namespaces[declared[1] or ""] = declared[2]
        elif prefix in namespaces:
            yield namespaces[prefix], name, value


def _unfolded(lines: list[str]) -> list[str]:
    unfolded: list[list[str]] = []
    for line in lines:
        if unfolded and line[:1] in (" ", "\t"):
            unfolded[-1].append(line.lstrip(" \t"))
        else:
            unfolded.append([line])
    return [" ".join(parts) for parts in unfolded]


def _unescaped(match: re.Match[str]) -> str:
    if match[1] is not None:
        return chr(int(match[1], 16))
    return _CONTROLS.get(match[2], match[2])
