"""A story on paper: JSON lines that hold all that is needed to tell it again, and below them what happened.

The lines in their order: ``story``, one; then ``node``, ``phone``, ``letter``, ``event`` and ``fault``, any number of
each; then what was noted, ``[ms, what, branch]``; at last ``broken``, with the promise and how.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.sim.scenario import Scenario
from tests.sim.world import Result

__all__ = ["read", "write"]

_PARTS: Final = {
    "node": "nodes",
    "phone": "phones",
    "letter": "letters",
    "event": "events",
    "fault": "faults",
}


def write(file: Path, scenario: Scenario, result: Result) -> None:
    """Write a story and what became of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in _lines(scenario, result)))


def _lines(scenario: Scenario, result: Result) -> Iterator[object]:
    story: dict[str, Any] = msgspec.to_builtins(scenario)
    parts = {name: story.pop(field) for name, field in _PARTS.items()}
    yield {"story": story}
    for name, values in parts.items():
        for value in values:
            yield {name: value}
    yield from result.notes
    yield {"broken": result.promise, "text": result.text}


def read(file: Path) -> Scenario:
    """Read a story."""
    story: dict[str, Any] = {}
    for line in file.read_bytes().splitlines():
        if not line.startswith(b"{"):
            continue
        said = msgspec.json.decode(line, type=dict[str, Any])
        story |= said.get("story", {})
        for name, field in _PARTS.items():
            if name in said:
                story.setdefault(field, []).append(said[name])
    return msgspec.convert(story, Scenario)
