"""What names and texts of a ``kamailio.cfg`` stand for: ``#!define``, ``#!subst`` and their kin.

A define is text that takes the place of its name, and is read in turn. A substitution changes every string that comes
after it, as sed's ``s`` does; ``#!substdef`` is both at once. A value that only a running Kamailio has is carried along
as the reason why it is not known, so that it is told where it matters and nowhere else.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from msilo_runners.errors import SettingsError

__all__ = ["Define", "Defines", "Place", "Substitution", "parse_define_option", "parse_substitution", "posix_pattern"]


class Place(msgspec.Struct, frozen=True):
    """A line of a file, counted from 1; 0: the command line."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Define(msgspec.Struct, frozen=True):
    """What a name stands for.

    Attributes:
        text: as it was written; empty: nothing.
        place: where that was.
        unknown: why the text is not known; empty: it is.
    """

    text: str
    place: Place
    unknown: str = ""


class Defines:
    """The names that are defined, and the environment that they may be taken from.

    Args:
        given: those of the command line.
        environ: the environment.
    """

    def __init__(self, given: Mapping[str, Define], environ: Mapping[str, str]) -> None:
        self._defines = dict(given)
        self._environ = environ

    def __contains__(self, name: str) -> bool:
        return name in self._defines

    def get(self, name: str) -> Define | None:
        """Return what `name` stands for, or None."""
        return self._defines.get(name)

    def define(self, directive: str, name: str, text: str, place: Place, unknown: str = "") -> None:
        """Carry out ``define``, ``trydef``, ``redef``, ``defexp`` or ``defexps``; `unknown`: see :class:`Define`.

        Raises:
            SettingsError: the name is defined already.
        """
        stands = self._defines.get(name)
        if stands is not None and directive.startswith("try"):
            return
        if stands is not None and not directive.startswith("redef"):
            raise SettingsError(
                f"{place}: {name} is defined already, at {stands.place}: Kamailio does not start with this; "
                f"write #!trydef or #!redefine"
            )
        if directive.startswith("defexp"):
            unknown = f"Kamailio computes {name} at {place}"
        self._defines[name] = Define(text, place, unknown)

    def undefine(self, directive: str, name: str, place: Place) -> None:
        """Carry out ``undef`` or ``tryundef``.

        Raises:
            SettingsError: the name is not defined.
        """
        if self._defines.pop(name, None) is None and not directive.startswith("try"):
            raise SettingsError(f"{place}: {name} is not defined: Kamailio does not start with this; write #!tryundef")

    def define_from_environment(self, directive: str, text: str, place: Place) -> None:
        """Carry out ``defenv``, ``defenvs``, ``trydefenv`` or ``trydefenvs`` of ``NAME`` or ``NAME=VARIABLE``.

        Raises:
            SettingsError: there is no such variable, or the name is defined already.
        """
        name, _, variable = text.partition("=")
        value = self._environ.get(variable or name)
        if value is None:
            if directive.startswith("try"):
                return
            raise SettingsError(
                f"{place}: there is no environment variable {variable or name}: set it to what it is for Kamailio"
            )
        self.define("define", name, f'"{value}"' if directive.endswith("s") else value, place)

    def evaluate(self, text: str) -> tuple[str, str]:
        """Return a text with what its pseudo-variables stand for, and why that is not known, or an empty text."""
        unknown = ""

        def value_of(match: re.Match[str]) -> str:
            nonlocal unknown
            if match[0] == "$$":
                return "$"
            kind, name = match["kind"], match["name"]
            if kind == "env" and name in self._environ:
                return self._environ[name]
            if kind in ("def", "defv") and (define := self._defines.get(name)) is not None:
                unknown = unknown or define.unknown
                return define.text.strip("\"'") if kind == "defv" else define.text
            unknown = unknown or f"{match[0]} has a value in Kamailio alone"
            return match[0]

        return _EVALUATED.sub(value_of, text), unknown


class Substitution(msgspec.Struct, frozen=True):
    """One ``#!subst``.

    Attributes:
        pattern: what is looked for.
        pieces: what takes its place: texts, and numbers of groups.
        all: whether every place is changed; otherwise the first.
        unknown: why the replacement is not known; empty: it is.
    """

    pattern: re.Pattern[str]
    pieces: tuple[str | int, ...]
    all: bool
    unknown: str

    def run(self, text: str) -> tuple[str, str]:
        """Return a text changed by it, and why that is not known, or an empty text."""
        changed, count = self.pattern.subn(self._replacement, text, count=0 if self.all else 1)
        return changed, self.unknown if count else ""

    def _replacement(self, match: re.Match[str]) -> str:
        return "".join([piece if isinstance(piece, str) else match[piece] or "" for piece in self.pieces])


def parse_substitution(text: str, defines: Defines, place: Place) -> tuple[Substitution, str, str]:
    """Read ``/expression/replacement/flags``, any separator.

    Returns:
        The substitution, its expression, and its replacement as it was written.

    Raises:
        SettingsError: it is none, or its expression is one that this program does not understand.
    """
    separator = re.escape(text[:1])
    part = rf"((?:(?!{separator})[^\\]|\\.)*){separator}"
    match = re.fullmatch(f"{separator}{part}{part}([a-z]*)", text, re.DOTALL)
    if not text or text[0] == "\\" or match is None or not match[1] or set(match[3]) - set("gis"):
        raise SettingsError(f"{place}: {text!r} is no substitution: give one such as '/NAME/value/g'")
    expression, written, flags = match.groups()
    pattern = posix_pattern(
        expression, re.DOTALL if "s" in flags else re.MULTILINE, ignore_case="i" in flags, longest=True
    )
    if pattern is None:
        raise SettingsError(
            f"{place}: the expression {expression!r} is not understood here: write it without |, classes and escapes"
        )
    pieces, unknown = _pieces(written, pattern.groups, defines)
    if unknown is None:
        raise SettingsError(f"{place}: {written!r} names a group that {expression!r} does not have")
    return Substitution(pattern, pieces, "g" in flags, unknown), expression, written


def posix_pattern(text: str, flags: int = 0, *, ignore_case: bool, longest: bool = False) -> re.Pattern[str] | None:
    """Compile a POSIX extended expression, if it means the same here.

    Args:
        text: the expression.
        flags: of :mod:`re`.
        ignore_case: whether a is A.
        longest: whether it matters how much is matched: of two alternatives POSIX takes the longer, Python the first.

    Returns:
        None if it does not mean the same, or is none.
    """
    if _POSIX.fullmatch(text) is None or (longest and "|" in text):
        return None
    try:
        return re.compile(text, flags | (re.IGNORECASE if ignore_case else 0))
    except re.error:
        return None


def parse_define_option(text: str) -> tuple[str, Define]:
    """Read ``NAME`` or ``NAME=VALUE``, as Kamailio's option ``-A`` takes it.

    Raises:
        SettingsError: the name is none.
    """
    name, _, value = text.partition("=")
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) is None:
        raise SettingsError(f"{text!r} defines nothing: give NAME or NAME=VALUE")
    return name, Define(value, Place("the command line", 0))


_EVALUATED: Final = re.compile(
    r"\$(?:\$|(?P<open>\()?(?P<kind>[A-Za-z_]\w*)\((?P<name>[^()]*)\)(?(open)\))|\([^()]*\)|\w*)", re.ASCII
)

# Outside brackets a backslash before a letter or a digit is an extension, and in brackets it is none; "(?" and "*?"
# are Python's alone.
_POSIX: Final = re.compile(
    r"(?:\((?!\?)|[^\[\]\\(*+?}]|\\[^A-Za-z0-9\n]|\[\^?\]?[^\[\]\\]+\]|[*+?}](?![*+?]))*"
)  # fmt: skip

_PIECE: Final = re.compile(
    r"\\(?P<escaped>.)"
    r"|(?P<variable>\$(?:\([^()]*(?:\([^()]*\))?[^()]*\)|\w+(?:\([^()]*\))?))"
    r"|(?P<text>[^\\$]+|.)",
    re.DOTALL | re.ASCII,
)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


def _pieces(written: str, groups: int, defines: Defines) -> tuple[tuple[str | int, ...], str | None]:
    pieces: list[str | int] = []
    unknown = ""
    for match in _PIECE.finditer(written):
        escaped = match["escaped"]
        if escaped is None:
            value, why = defines.evaluate(match[0]) if match["variable"] else (match[0], "")
            unknown = unknown or why
            pieces.append(value)
        elif escaped in "0123456789":
            if int(escaped) > groups:
                return (), None
            pieces.append(int(escaped))
        elif escaped == "u":
            unknown = unknown or "\\u stands for the URI of a request"
        else:
            pieces.append(_ESCAPED.get(escaped, escaped))
    return tuple(pieces), unknown
