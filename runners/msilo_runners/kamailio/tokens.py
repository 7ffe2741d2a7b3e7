"""A ``kamailio.cfg`` and the files that it includes, as tokens.

Kamailio's preprocessor is no pass of its own: its directives stand anywhere between two tokens, also in an included
file or in a route, and what they say holds from there on. So they are carried out here, while tokens are read.
"""

import enum
import os.path
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from msilo_runners.errors import SettingsError
from msilo_runners.kamailio.preprocessor import Define, Defines, Place, Substitution, parse_substitution

__all__ = ["Kind", "Token", "Tokens"]

INCLUDES_MAX: Final = 10
"""Files within one another, as in Kamailio."""


class Kind(enum.Enum):
    """What a token is."""

    WORD = enum.auto()
    """A name or a number, or a name of which it is not known what it stands for."""
    STRING = enum.auto()
    VARIABLE = enum.auto()
    """A pseudo-variable with all that belongs to it, such as ``$(hdr(To){nameaddr.uri})``."""
    SIGN = enum.auto()
    """Any other character."""


class Token(msgspec.Struct, frozen=True):
    """A token.

    Attributes:
        kind: what it is.
        text: as it was written; of a string what it means, with substitutions made.
        place: where it began, or where the name stands that it came of.
        glued: whether it follows the one before without a blank.
        unknown: why `text` is not what Kamailio has; empty: it is.
    """

    kind: Kind
    text: str
    place: Place
    glued: bool
    unknown: str = ""


class Tokens:
    """The tokens of a file.

    Args:
        path: the file.
        given: names that are defined from the beginning.
        environ: environment variables, for ``#!defenv``.

    Attributes:
        notes: what is worth telling of the reading, such as files to import that are not there.
        defines: what is defined after all that was read.

    Raises:
        SettingsError: in the course of iteration: a file cannot be read, or Kamailio would not start with it. The
            text has file and line.
    """

    def __init__(self, path: Path, given: Mapping[str, Define], environ: Mapping[str, str]) -> None:
        self.notes: list[tuple[Place, str]] = []
        self.defines = Defines(given, environ)
        self._substitutions: list[Substitution] = []
        self._sources: list[_Source] = []
        # Of each #!ifdef that is open: whether what is being read of it holds, and where it stands.
        self._conditions: list[tuple[bool, Place]] = []
        self._glued = False
        self._open(path, None)

    def __iter__(self) -> Iterator[Token]:
        while self._sources:
            source = self._sources[-1]
            if source.at_end:
                self._sources.pop()
            elif not all(holds for holds, _ in self._conditions):
                self._skip(source)
            else:
                yield from self._next(source)
        if self._conditions:
            raise SettingsError(f"{self._conditions[-1][1]}: an #!ifdef without its #!endif")

    def _next(self, source: "_Source") -> Iterator[Token]:
        place = source.place
        match = source.take(_PIECE)
        kind, text = match.lastgroup, match[0]
        if kind in ("blank", "comment"):
            self._glued = False
        elif kind == "block":
            self._glued = False
            _take_block_comment(source, place)
        elif kind == "directive":
            self._glued = False
            self._carry_out(text[2:], source, place)
        elif kind == "word" and text in _INCLUDES:
            self._carry_out(text, source, place)
        elif kind == "word" and (define := self.defines.get(text)) is not None:
            yield from self._expand(text, define, place)
        else:
            glued, self._glued = self._glued, True
            if kind == "string":
                value, unknown = self._string(source, text, place)
                yield Token(Kind.STRING, value, place, glued, unknown)
            else:
                yield Token(_KINDS.get(kind or "", Kind.SIGN), text, place, glued)

    def _expand(self, name: str, define: Define, place: Place) -> Iterator[Token]:
        if any(source.name == name for source in self._sources):
            raise SettingsError(f"{place}: {name} stands for itself, by way of {define.place}")
        if define.unknown:
            glued, self._glued = self._glued, True
            yield Token(Kind.WORD, name, place, glued, define.unknown)
        else:
            self._sources.append(_Source(define.text, place, name))

    # -- Directives ----------------------------------------------------------------------------------------------------

    def _carry_out(self, directive: str, source: "_Source", place: Place) -> None:
        if directive in _INCLUDES:
            self._include(directive, source, place)
        elif directive in ("else", "endif"):
            self._turn(directive, source, place)
        elif directive.startswith("if"):
            self._begin_condition(directive, source, place)
        elif directive.startswith("subst"):
            self._add_substitution(directive, source, place)
        elif "env" in directive:
            (text,) = _arguments(source, r"[ \t]*([^ \t\r\n]+)", f"#!{directive} NAME", place)
            self.defines.define_from_environment(directive, text, place)
            self.notes.append((place, f"{text.partition('=')[0]} is taken from the environment"))
        elif "undef" in directive:
            (name,) = _arguments(source, rf"{_NAME}[ \t\r]*(?=\n|\Z)", f"#!{directive} NAME", place)
            self.defines.undefine(directive, name, place)
        else:
            name, text = _arguments(
                source, rf"{_NAME}(?![-\w])[ \t]*((?:\\\n|[^\n])*)", f"#!{directive} NAME value", place
            )
            self.defines.define(directive, name, text.replace("\\\n", ""), place)

    def _begin_condition(self, directive: str, source: "_Source", place: Place) -> None:
        if directive == "ifexp":
            raise SettingsError(
                f"{place}: #!ifexp is not understood here: write #!ifdef in its place, and give the name by --define"
            )
        (name,) = _arguments(source, rf"{_NAME}[ \t\r]*(?=\n|\Z)", f"#!{directive} NAME and nothing else", place)
        self._conditions.append(((name in self.defines) == (directive == "ifdef"), place))

    def _turn(self, directive: str, source: "_Source", place: Place) -> None:
        # Kamailio takes "#!else  # otherwise" for a comment, which nobody who wrote it meant.
        _arguments(source, r"[ \t\r]*(?=\n|\Z)", f"#!{directive} and nothing else", place)
        if not self._conditions:
            raise SettingsError(f"{place}: an #!{directive} without its #!ifdef")
        holds, began = self._conditions.pop()
        if directive == "else":
            self._conditions.append((not holds, began))

    def _skip(self, source: "_Source") -> None:
        match = source.find(_CONDITION)
        if match is None:
            return
        if match[1] in ("else", "endif"):
            self._turn(match[1], source, source.place)
        else:
            # Within what does not hold it does not matter which half would.
            self._conditions.append((True, source.place))

    def _add_substitution(self, directive: str, source: "_Source", place: Place) -> None:
        source.take(_BLANK)
        match = source.match(_QUOTE)
        if match is None:
            raise SettingsError(f"{place}: #!{directive} wants a string behind it, such as '!NAME!value!g'")
        text, unknown = self._string(source, match[0], place)
        substitution, name, written = parse_substitution(text, self.defines, place)
        if unknown:
            substitution = msgspec.structs.replace(substitution, unknown=unknown)
        self._substitutions.append(substitution)
        if directive != "subst":
            value, why = self.defines.evaluate(written)
            text = f'"{value}"' if directive == "substdefs" else value
            self.defines.define("define", name, text, place, why or unknown)

    def _include(self, directive: str, source: "_Source", place: Place) -> None:
        (quoted,) = _arguments(source, r"[ \t]*([^ \t\r\n]+)", f'{directive} "FILE"', place)
        if re.fullmatch(r'"[^"]+"', quoted) is None:
            raise SettingsError(f'{place}: {quoted!r} is no name of a file: give it in double quotes: "FILE"')
        name, unknown = self._substituted(_INCLUDE_ESCAPE.sub(_include_escape, quoted[1:-1]))
        if unknown:
            raise SettingsError(f"{place}: {directive} {quoted}: {unknown}")
        if sum(not source.name for source in self._sources) > INCLUDES_MAX:
            raise SettingsError(f"{place}: more than {INCLUDES_MAX} files within one another")
        path = Path(place.file).parent / name
        if directive == "import_file" and not os.path.exists(path):
            self.notes.append((place, f"{path} is not there, and passed over as Kamailio does"))
            return
        self._open(path, place)

    def _open(self, path: Path, place: Place | None) -> None:
        where = f"{place}: " if place else ""
        try:
            # Comments may be in any encoding; values are looked at where they are used.
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            raise SettingsError(f"{where}{path}: {error.strerror}") from None
        except ValueError:
            raise SettingsError(f"{where}{str(path)!r} is no name of a file") from None
        self._sources.append(_Source(text, Place(str(path), 1)))

    # -- Strings -------------------------------------------------------------------------------------------------------

    def _string(self, source: "_Source", quote: str, place: Place) -> tuple[str, str]:
        if quote == "'":
            return self._substituted(_body(source, _SINGLE, place))
        written = _body(source, _DOUBLE, place)
        # Strings that follow one another are one.
        while source.match(_NEXT_DOUBLE) is not None:
            written += _body(source, _DOUBLE, place)
        return self._substituted(_unescaped(written))

    def _substituted(self, text: str) -> tuple[str, str]:
        unknown = ""
        for substitution in self._substitutions:
            text, why = substitution.run(text)
            unknown = unknown or why
        return text, unknown


class _Source:
    """A text that is being read: a file, or what a name stands for."""

    def __init__(self, text: str, place: Place, name: str = "") -> None:
        self.name = name
        self._text = text
        self._at = 0
        self._place = place

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._text)

    @property
    def place(self) -> Place:
        return self._place

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Take what matches here, if anything does."""
        match = pattern.match(self._text, self._at)
        self._advance(match)
        return match

    def take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Take what matches here, as something always does."""
        match = self.match(pattern)
        assert match is not None, "the pattern matches any text"
        return match

    def find(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Take all up to the end of the next match, or all."""
        match = pattern.search(self._text, self._at)
        self._advance(match, None if match else len(self._text))
        return match

    def _advance(self, match: re.Match[str] | None, end: int | None = None) -> None:
        end = match.end() if match else end
        if end is None:
            return
        if not self.name:
            self._place = Place(self._place.file, self._place.line + self._text.count("\n", self._at, end))
        self._at = end


_NAME: Final = r"[ \t]+([A-Za-z_][A-Za-z0-9_]*)"
_INCLUDES: Final = frozenset({"include_file", "import_file"})
_DIRECTIVES: Final = (
    "define", "def", "trydefine", "trydef", "redefine", "redef", "undefine", "undef", "tryundefine", "tryundef",
    "defexp", "defexps", "defenv", "defenvs", "trydefenv", "trydefenvs", "subst", "substdef", "substdefs",
    "ifdef", "ifndef", "ifexp", "else", "endif", *sorted(_INCLUDES),
)  # fmt: skip

_PIECE: Final = re.compile(
    rf"""
    (?P<blank>(?:[ \t\b\r\n]|\\\n)+)
    |(?P<directive>(?:\#!|!!)(?:{"|".join(_DIRECTIVES)})\b)
    |(?P<comment>(?:\#|//)[^\n]*)
    |(?P<block>/\*)
    |(?P<string>["'])
    |(?P<variable>\$(?:\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|[A-Za-z_]\w*(?:\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))?))
    |(?P<word>[A-Za-z0-9_]+)
    |(?P<sign>.)
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_KINDS: Final = {"word": Kind.WORD, "variable": Kind.VARIABLE}
_BLANK: Final = re.compile(r"[ \t\b\r\n]*")
_CONDITION: Final = re.compile(r"(?:#!|!!)((?:ifdef|ifndef|ifexp)(?=[ \t])|(?:else|endif)\b)")
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")

_QUOTE: Final = re.compile("[\"']")
_SINGLE: Final = re.compile("([^']*)'")
_DOUBLE: Final = re.compile(r'((?:[^"\\]|\\.)*)"', re.DOTALL)
_NEXT_DOUBLE: Final = re.compile(r'[ \t\b\r\n]*"')
_ESCAPE: Final = re.compile(r'\\(?:(?P<sign>[nrat"\\])|x(?P<hex>[0-9a-fA-F]{1,2})|(?P<octal>[0-7]{2,3})|\n)')
_SIGNS: Final = {"n": "\n", "r": "\r", "a": "\a", "t": "\t", '"': '"', "\\": "\\"}
_INCLUDE_ESCAPE: Final = re.compile(r"\\(.)")


def _arguments(source: _Source, pattern: str, form: str, place: Place) -> tuple[str, ...]:
    match = source.match(re.compile(pattern))
    if match is None:
        raise SettingsError(f"{place}: this should be {form}")
    return match.groups()


def _take_block_comment(source: _Source, place: Place) -> None:
    depth = 1
    while depth:
        match = source.find(_COMMENT_EDGE)
        if match is None:
            raise SettingsError(f"{place}: a comment without its */")
        depth += 1 if match[0] == "/*" else -1


def _body(source: _Source, pattern: re.Pattern[str], place: Place) -> str:
    match = source.match(pattern)
    if match is None:
        raise SettingsError(f"{place}: a string without its end")
    return match[1]


def _unescaped(written: str) -> str:
    text = _ESCAPE.sub(_escape, written)
    # Octets that were written one by one may be a character together.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _escape(match: re.Match[str]) -> str:
    if match["sign"]:
        return _SIGNS[match["sign"]]
    if not (match["hex"] or match["octal"]):
        return ""
    octet = int(match["hex"], 16) if match["hex"] else int(match["octal"], 8) & 0xFF
    return chr(octet) if octet < 0x80 else chr(0xDC00 + octet)


def _include_escape(match: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r", "t": "\t"}.get(match[1], match[1])
