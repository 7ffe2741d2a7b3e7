"""A story that breaks a promise, made shorter: whatever can be left out while it still breaks the same one, is."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from tests.sim.scenario import OPERATOR, Scenario
from tests.sim.world import tell

__all__ = ["shrink"]

T = TypeVar("T")

_TRIES_MAX: Final = 600


class _Shrinker:
    def __init__(self, scenario: Scenario, promise: str) -> None:
        self.scenario = scenario
        self._promise = promise
        self._tries = 0

    def keep(self, **changes: object) -> bool:
        """Change the story if the promise is still broken then; say whether it is."""
        scenario = msgspec.structs.replace(self.scenario, **changes)
        if self._tries >= _TRIES_MAX or not _is_sound(scenario):
            return False
        self._tries += 1
        if tell(scenario).promise != self._promise:
            return False
        self.scenario = scenario
        return True

    def thin(self, values: Sequence[T], changes_for: Callable[[Sequence[T]], dict[str, object]]) -> None:
        """Leave out as many values as can be, large pieces first."""
        size = len(values)
        while size:
            at = 0
            while at < len(values):
                fewer = [*values[:at], *values[at + size :]]
                if self.keep(**changes_for(fewer)):
                    values = fewer
                else:
                    at += size
            size //= 2


def shrink(scenario: Scenario, promise: str) -> Scenario:
    """Return a shorter story that breaks the same promise."""
    shrinker = _Shrinker(scenario, promise)
    shrinker.keep(limits={})
    for field in ("letters", "faults", "events", "phones", "nodes"):
        _thin_field(shrinker, field)
    struck = tell(shrinker.scenario).struck
    if shrinker.keep(only=struck):
        shrinker.thin(struck, lambda fewer: {"only": tuple(fewer)})
    for field in ("letters", "events", "faults"):
        _thin_field(shrinker, field)
    return shrinker.scenario


def _thin_field(shrinker: _Shrinker, field: str) -> None:
    values: Sequence[object] = getattr(shrinker.scenario, field)

    def changes_for(fewer: Sequence[object]) -> dict[str, object]:
        changes: dict[str, object] = {field: tuple(fewer)}
        if field in ("phones", "nodes"):
            left = msgspec.structs.replace(shrinker.scenario, **changes)
            names = {phone.name for phone in left.phones} | {node.name for node in left.nodes} | {OPERATOR}
            changes["events"] = tuple(event for event in left.events if event.who in names)
            changes["letters"] = tuple(letter for letter in left.letters if letter.owner in left.owners)
        return changes

    shrinker.thin(values, changes_for)


def _is_sound(scenario: Scenario) -> bool:
    """Say whether somebody can deliver, and each owner can take, what is sent."""
    able = {phone.owner for phone in scenario.phones if not phone.methods}
    return bool(scenario.nodes) and bool(scenario.letters) and set(scenario.owners) <= able
