"""Writes into the pages of this folder what comes out of the code: the state diagrams and the table of limits.

``make docs`` runs it. What it writes stands between ``<!-- NAME: ... -->`` and ``<!-- end of NAME -->``, where NAME is
one of `PARTS`; everything else is written by hand.

The diagrams are Mermaid, a text that GitHub and many viewers draw. All that leads from one state to another is one
arrow with several lines: of several arrows from a state to itself Mermaid shows but one.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path
from typing import Final, TypeAlias

from msilo_core import Limits, limits
from msilo_core.transactions import CLIENT_TABLE, SERVER_TABLE

Arrow: TypeAlias = tuple[tuple[IntEnum, IntEnum], tuple[Callable[..., object], IntEnum]]

PAGES: Final = tuple(Path(__file__).with_name(name) for name in ("sip.md", "settings.md"))

# What an event is called in the figures of the RFC.
_EVENTS: Final = {
    "TIMER_E": "Timer E",
    "TIMER_F": "Timer F",
    "TIMER_J": "Timer J",
    "TIMER_K": "Timer K",
    "PROVISIONAL": "1xx",
    "FINAL": "200 to 699",
    "REQUEST": "request again",
    "SILENCE": "no answer to come",
    "TRANSPORT_ERROR": "transport error",
}


def main(pages: Iterable[Path]) -> None:
    """Bring pages up to date."""
    for page in pages:
        before = page.read_text("utf-8")
        after = _PART.sub(_renewed, before)
        if after != before:
            page.write_text(after, "utf-8")


def _client_diagram() -> str:
    return _diagram("sent", CLIENT_TABLE.items())


def _server_diagram() -> str:
    return _diagram("request", SERVER_TABLE.items())


def _diagram(begin: str, table: Iterable[Arrow]) -> str:
    labels: dict[tuple[str, str], list[str]] = {}
    for (state, event), (handler, next_state) in table:
        # The name of a handler says what it does: _client_send_again, _server_respond.
        verb = handler.__name__.split("_", 2)[2].replace("_", " ")
        label = _EVENTS[event.name] + ("" if verb == "ignore" else f" / {verb}")
        labels.setdefault((state.name.capitalize(), next_state.name.capitalize()), []).append(label)
    arrows = [f"    {state} --> {next_state}: {'<br/>'.join(lines)}" for (state, next_state), lines in labels.items()]
    return "\n".join(
        ["```mermaid", "stateDiagram-v2", f"    [*] --> Trying: {begin}", *arrows, "    Terminated --> [*]", "```"]
    )


def _limits_table() -> str:
    defaults = Limits()
    rows = ["| key | default | what it bounds |", "| --- | --- | --- |"]
    rows += [f"| `{name}` | `{getattr(defaults, name)}` | {text} |" for name, text in _docstrings_of(Limits)]
    return "\n".join(rows)


def _docstrings_of(kind: type) -> Iterable[tuple[str, str]]:
    """Yield name and text of each attribute that has a docstring, which only the source knows."""
    (definition,) = (
        node
        for node in ast.parse(inspect.getsource(limits)).body
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    )
    for attribute, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(attribute, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(attribute.target, ast.Name)
            assert isinstance(text.value, ast.Constant)
            yield attribute.target.id, " ".join(str(text.value.value).split())


PARTS: Final[dict[str, Callable[[], str]]] = {
    "client transaction": _client_diagram,
    "server transaction": _server_diagram,
    "limits": _limits_table,
}

_PART: Final = re.compile(r"(<!-- ([a-z ]+): [^\n]*-->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def _renewed(part: re.Match[str]) -> str:
    return f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}"


if __name__ == "__main__":
    main(map(Path, sys.argv[1:]) if sys.argv[1:] else PAGES)
