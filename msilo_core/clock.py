"""The only idea of time in the core: a :class:`Moment` that the caller tells, and :class:`Deadlines`."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

import msgspec

__all__ = ["Deadlines", "Moment", "earliest"]

K = TypeVar("K", bound=Hashable)

# A heap may hold this many disarmed entries for each armed one before it is rebuilt: amortised O(1) a disarm.
_STALE_FACTOR = 2
_STALE_MIN = 64


class Moment(msgspec.Struct, frozen=True, order=True, gc=False):
    """One instant on two scales.

    Attributes:
        mono_ms: milliseconds on a clock that never steps; every timer counts on it. Its origin means nothing.
        unix_ms: milliseconds since 1970-01-01T00:00Z; what is written into rows and Date headers.
    """

    mono_ms: int
    unix_ms: int

    @property
    def unix_s(self) -> int:
        """Whole seconds since 1970, the unit of the table's time columns."""
        return self.unix_ms // 1000


class Deadlines(Generic[K]):
    """Deadlines by key; at most one for each key. Those of equal time come due in the order of arming."""

    __slots__ = ("_armed", "_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, K]] = []
        self._armed: dict[K, tuple[int, int, K]] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._armed)

    def __contains__(self, key: K) -> bool:
        return key in self._armed

    def arm(self, key: K, at_ms: int) -> None:
        """Let `key` come due at `at_ms` on the monotonic scale, instead of at any time armed before."""
        self._order += 1
        entry = self._armed[key] = (at_ms, self._order, key)
        heapq.heappush(self._heap, entry)
        # Without this a key that is armed again and again would grow the heap for ever.
        if len(self._heap) > _STALE_FACTOR * len(self._armed) + _STALE_MIN:
            self._shrink()

    def disarm(self, key: K) -> None:
        """Forget `key`; nothing happens if it is not armed."""
        self._armed.pop(key, None)

    def due_ms(self, key: K) -> int | None:
        """Return the deadline of `key`, or None if it has none."""
        armed = self._armed.get(key)
        return None if armed is None else armed[0]

    def next_ms(self) -> int | None:
        """Return the earliest deadline, or None if nothing is armed."""
        heap = self._heap
        while heap:
            entry = heap[0]
            if self._armed.get(entry[2]) is entry:
                return entry[0]
            heapq.heappop(heap)
        return None

    def pop_due(self, now_ms: int) -> Iterator[K]:
        """Disarm and yield each key that is due, earliest first; keys armed meanwhile count if due."""
        while (at_ms := self.next_ms()) is not None and at_ms <= now_ms:
            key = heapq.heappop(self._heap)[2]
            del self._armed[key]
            yield key

    def _shrink(self) -> None:
        self._heap = [*self._armed.values()]
        heapq.heapify(self._heap)


def earliest(*deadlines_ms: int | None) -> int | None:
    """Return the earliest of several deadlines, or None if there is none."""
    return min((at_ms for at_ms in deadlines_ms if at_ms is not None), default=None)
