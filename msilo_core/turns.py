"""Whose inbox is delivered at the same time as others, and who waits for that."""

from collections import OrderedDict

from msilo_core.limits import Limits
from msilo_core.uri import Aor

__all__ = ["Turns"]


class Turns:
    """So many owners at a time, in the order in which they came.

    Attributes:
        taken: how many have a turn.
        awaited: who waits for one, the first first.
    """

    def __init__(self, limits: Limits) -> None:
        self.taken = 0
        self.awaited: OrderedDict[Aor, None] = OrderedDict()
        self._taken_max = limits.deliveries_max
        self._awaited_max = limits.deliveries_waiting_max

    def take(self, owner: Aor) -> bool:
        """Take a turn for an owner without one, and say whether there was one; else he waits for it."""
        if self.taken < self._taken_max:
            self.taken += 1
            return True
        if len(self.awaited) < self._awaited_max:
            self.awaited[owner] = None
        return False

    @property
    def is_quiet(self) -> bool:
        """Whether a quarter of the turns are taken at most."""
        return 4 * self.taken <= self._taken_max

    def give_up(self) -> None:
        """A turn is over; :meth:`next` says whose is next."""
        self.taken -= 1

    def next(self) -> Aor | None:
        """Return who is to be looked after next, and waits no longer; None if nobody can or is."""
        if not self.awaited or self.taken >= self._taken_max:
            return None
        return self.awaited.popitem(last=False)[0]
