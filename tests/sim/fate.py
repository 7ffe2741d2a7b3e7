"""All that is left to chance in a story, drawn from its seed and the name of what is drawn.

Nothing depends on how much was drawn before: where a message is taken out of a story, the others fare as they did.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from tests.sim.scenario import Fault, Scenario

__all__ = ["Fate"]

T = TypeVar("T")


class Fate:
    """Chance, and the faults of a story.

    Attributes:
        struck: each fault that struck, as ``kind key``, in the order of time, and its kind.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.struck: dict[str, str] = {}
        self._salt = scenario.seed.to_bytes(8, "big")
        self._only = None if scenario.only is None else frozenset(scenario.only)
        self._windows: dict[str, list[Fault]] = defaultdict(list)
        for fault in scenario.faults:
            self._windows[fault.kind].append(fault)

    def number(self, key: str) -> float:
        """Return what is drawn for `key`, 0 to 1."""
        return int.from_bytes(hashlib.blake2b(key.encode(), key=self._salt, digest_size=6).digest(), "big") / 2**48

    def between(self, low: int, high: int, key: str) -> int:
        """Return one of low to high."""
        return low + int(self.number(key) * (high - low + 1))

    def pick(self, values: Sequence[T], key: str) -> T:
        """Return one of several."""
        return values[int(self.number(key) * len(values))]

    def strikes(self, kind: str, key: str, ms: int, *where: str) -> bool:
        """Say whether a fault of a kind strikes `key`, which concerns those at `where`."""
        for fault in self._windows.get(kind, ()):
            if fault.from_ms <= ms < fault.to_ms and (not fault.where or fault.where in where):
                name = f"{kind} {key}"
                if self.number(name) < fault.rate if self._only is None else name in self._only:
                    self.struck[name] = kind
                    return True
        return False

    def until_ms(self, kind: str, ms: int, *where: str) -> int:
        """Return until when a fault of a kind that lasts goes on for those at `where`; 0 if there is none now."""
        end_ms = 0
        for at, fault in enumerate(self._windows.get(kind, ())):
            if fault.from_ms <= ms < fault.to_ms and (not fault.where or fault.where in where):
                end_ms = max(end_ms, fault.to_ms)
                self.struck[f"{kind} {at}"] = kind
        return end_ms
