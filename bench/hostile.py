"""Inputs made to be slow: a begin, a piece again and again, and an end that spoils it, in all combinations.

Begins and pieces are cut from samples of what the parsers take, so that a run begins in every state that a parser can
be in, and repeats everything that one of its patterns can repeat.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

__all__ = ["Recipe", "of_octets", "of_text"]


class Recipe(msgspec.Struct, frozen=True):
    """How an input of any size is made.

    Attributes:
        before: what stands in front, such as other header lines.
        start: where the run begins.
        piece: what is repeated.
        mirror: what is repeated behind that as often, such as closing brackets; or empty.
        end: behind the run.
    """

    start: str
    piece: str
    mirror: str = ""
    end: str = ""
    before: str = ""

    def text(self, size: int) -> str:
        """Return it with `size` characters, or a few less."""
        room = size - len(self.before) - len(self.start) - len(self.end)
        times = max(0, room // (len(self.piece) + len(self.mirror)))
        return f"{self.before}{self.start}{self.piece * times}{self.mirror * times}{self.end}"

    def octets(self, size: int) -> bytes:
        """Return it as octets."""
        return self.text(size).encode("latin-1")

    def __str__(self) -> str:
        before = "a request's begin + " if self.before else ""
        mirrored = f" + {_short(self.mirror)} * n" if self.mirror else ""
        return f"{before}{_short(self.start)} + {_short(self.piece)} * n{mirrored} + {_short(self.end)}"


def of_text(accepts: Callable[[str], bool]) -> Iterator[Recipe]:
    """Yield recipes for a parser of a value.

    Args:
        accepts: whether the parser takes a text: so much of that text, and of its pieces, is what it can be in.

    Raises:
        LookupError: it takes none of the samples, so nothing would get far into it.
    """
    taken = [sample for sample in _SAMPLES if accepts(sample)]
    if not taken:
        raise LookupError(f"a parser takes none of the samples: add one that it takes in {__name__}")
    starts = list(dict.fromkeys(start for sample in taken for start in _prefixes(sample)))
    pieces = list(dict.fromkeys([*_PIECES, *(part for sample in taken for part in _PART.findall(sample))]))
    for start in [*_STARTS, *starts[:: len(starts) // _STARTS_MAX + 1]]:
        for piece in pieces:
            for end in _ENDS:
                yield Recipe(start, piece, "", end)
        for piece, mirror in _MIRRORED:
            yield Recipe(start, piece, mirror)


def of_octets() -> Iterator[Recipe]:
    """Yield recipes for whole messages."""
    for piece in (*_PIECES, *_LINES):
        for end in ("", "\r\n\r\n", "\0\r\n\r\n"):
            yield Recipe("", piece, "", end)
            yield Recipe("MESSAGE ", piece, "", f" SIP/2.0\r\n{_BASE}\r\n{end}")
            yield Recipe("MESSAGE sip:", piece, "", f"@example.com SIP/2.0\r\n{_BASE}\r\n{end}")
            yield Recipe("MESSAGE sip:bob@example.com", piece, "", f" SIP/2.0\r\n{_BASE}\r\n{end}")
            yield Recipe("SIP/2.0 200 ", piece, "", f"\r\n{_BASE}\r\n{end}")
            yield Recipe("X", piece, "", f": x{end}", _BEGIN)
        yield Recipe("Content-Length: 60000\r\n\r\n", piece, "", "", _BEGIN)
        yield Recipe("Content-Length: 1\r\n\r\n", piece, "", "", _BEGIN)
    for body in ("", "x"):
        yield Recipe("", f"{_BEGIN}\r\n{body}")
    for name, values in _HEADERS.items():
        others = "".join(f"{line}\r\n" for line in _BEGIN.split("\r\n")[:-1] if not line.startswith(f"{name}:"))
        for value in values:
            line = f"{name}: {value}\r\n"
            for end in ("\r\n", "\r\n\0\r\n\r\n"):
                yield Recipe(line, line, "", end, others)
                yield Recipe(f"{name}: {value}", f", {value}", "", end, others)
                yield Recipe(f"{name}: {value}", f",\r\n {value}", "", end, others)
            for piece in (*_PIECES, *_LINES):
                for start in ("", value):
                    yield Recipe(f"{name}: {start}", piece, "", "\r\n\r\n", others)
                    yield Recipe(f"{name}: {start}", piece, "", "\0\r\n\r\n", others)


_VIA: Final = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport;received=2001:db8::9"
_ADDRESS: Final = '"B\\" b" <sip:bob;x=y:pw%41@a-b.example.com:5060;transport=tcp;lr?h=v&i=j>;tag=t;x="y"'
_CONTACT: Final = (
    'Bob <sip:b@[2001:db8::1]:5060;ob>;+sip.instance="<urn:uuid:1>";reg-id=1;q=0.5;expires=60;methods="A, B"'
)
_CREDENTIALS: Final = (
    'Digest username="u", realm="r", nonce="n", uri="sip:r", response="0123456789abcdef0123456789abcdef",'
    ' algorithm=MD5, cnonce="c", opaque="o", qop=auth, nc=00000001'
)
_CHALLENGE: Final = (
    'Digest realm="r", domain="sip:r sip:s", nonce="n", opaque="o", stale=FALSE, algorithm=MD5, qop="auth,x"'
)

_SAMPLES: Final = (
    _VIA,
    _ADDRESS,
    _CONTACT,
    "sip:bob%41;x=y:pw@a-b.example.com:5060;transport=tcp;lr?h=v&i=j",
    "bob@example.com",
    "tel:+1-201;ext=1;isub=a%41;x=y",
    "tel:12(3)#;phone-context=a-b.example.com;x=%41",
    "[2001:db8::1]",
    "1 MESSAGE",
    "word.1@word.example.com",
    'text/plain; charset="utf-8"; x=y',
    "Sat, 13 Nov 2010 23:29:00 GMT",
    "4294967295",
    "255",
    "120 (I'm (in) a meeting);duration=60",
    _CREDENTIALS,
    _CHALLENGE,
    "path, outbound,gruu",
    "presence;id=1;x",
    "active;expires=60;reason=x",
    'SIP ;cause=200 ;text="x"',
    "4711.5 0.1",
    "1.0",
    "text/plain;q=0.5;x=y, text/*, */*",
    "da, en-gb;q=0.8",
    '<http://h/x>;purpose=icon, <sip:a@b>;x="y"',
    '307 isi.edu "Session \\"x\\""',
    "f81d4fae-7dec-11d0@bar.com;to-tag=1;from-tag=2",
    ';+x="#<=5,#1:2,!TRUE,<s>";audio;methods="A,!B"',
    '*;audio;+x="TRUE";explicit;require',
    "proxy, fork, no-cancel",
)
"""Values of headers, at least one that each parser takes."""

_CHARS_SHOWN: Final = 80
_TOKEN: Final = re.compile(r"[A-Za-z]+|[0-9]+|.")
_PART: Final = re.compile(r"[;,&?. ]+[^;,&?. ]+")
_STARTS_MAX: Final = 150

_STARTS: Final = ("", "a", "1", " ", '"', "<", "(", "sip:", ";")
"""Begins for every parser."""

_PIECES: Final = (
    *" \t\\-'!?*()[]{}<>/:;,=@%&+$.~_`|^#\xe9\x00\x7fa10\"",
    '\\"', "\\\\", '""', '"",', '"a",', "<>", "<,>", "a ", "a=", ";a", "; a", " ; a", ";a=", ";a=b", ';a="b"', "a;",
    "a.", "1.", "a-", "-a", "1-", "::", "[::1]", "%41", "*,", "a,", ", ", ",,", ",a=b", ', a="b"', "a b ", "()", "(a)",
    "a/b,", "*/*,", ";q=1", ";rport", "; rport ", ";received=1", ";branch=b", ";tag=t", ";lr", "?a=b", "&a=b",
    "a@", "@a", "a:", "1:", "<sip:a@b>,", "sip:a@b,", "1 a ",
)  # fmt: skip
"""What is repeated."""

_MIRRORED: Final = (("(", ")"), ("<", ">"), ("[", "]"), ('"', '"'), ("a", "-"), ("a.", "-"), ("\\", '"'), (" ", ";"))

_ENDS: Final = ("", "\0", '"', ">")

_LINES: Final = (
    "\r\n", "\r", "\n", "\r\n ", "\r\n\t", " \r\n", " \r\n ", "\r\n a", "a\r\n ", "a: b\r\n", "a:\r\n", "Via: a\r\n",
    "a : b\r\n", "X: \\\r\n", ": \r\n", "\r\r\n", "\r\n\r", "\r\n\r\n", "\\\r\n ",
)  # fmt: skip
"""What is repeated between lines."""

_BASE: Final = (
    "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:a@example.com>;tag=t\r\nTo: <sip:b@example.com>\r\n"
    "Call-ID: c\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0"
)
_BEGIN: Final = f"MESSAGE sip:bob@example.com SIP/2.0\r\n{_BASE}\r\n"

_HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "Via": (_VIA,),
    "From": (_ADDRESS, "sip:a@b;tag=t"),
    "To": (_ADDRESS, "<tel:1>"),
    "Call-ID": ("word.1@word",),
    "CSeq": ("1 MESSAGE",),
    "Max-Forwards": ("70",),
    "Content-Length": ("0",),
    "Content-Type": ('text/plain; charset="utf-8"',),
    "Contact": (_CONTACT, "*", "<sip:a@b>"),
    "Expires": ("60",),
    "Route": ("<sip:a@b;lr>;x",),
    "Path": ("<sip:a@b;lr>;x",),
    "Supported": ("path",),
    "Require": ("path",),
    "Authorization": (_CREDENTIALS,),
    "Retry-After": ("120 (a);duration=60",),
    "WWW-Authenticate": (_CHALLENGE,),
    "User-Agent": ("a/1 (b (c)) d",),
    "Accept": ("text/plain;q=0.5, */*",),
    "Accept-Contact": ('*;audio;+x="#1:2"',),
    "P-Asserted-Identity": (_ADDRESS, "<tel:1>"),
    "Call-Info": ("<http://h/x>;purpose=icon",),
    "Warning": ('307 isi.edu "x"',),
    "Date": ("Sat, 13 Nov 2010 23:29:00 GMT",),
    "X-Unknown": ("x",),
}


def _short(text: str) -> str:
    return repr(text) if len(text) <= _CHARS_SHOWN else f"{text[:_CHARS_SHOWN]!r}…"


def _prefixes(sample: str) -> Iterator[str]:
    for match in _TOKEN.finditer(sample):
        yield sample[: match.end()]
