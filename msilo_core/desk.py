"""Storage actions that wait for their completions: the token of each, its deadline, and who wants the answer.

The runner owes exactly one completion for each token. Where the sender of a request waits for it there is a deadline:
whoever asked is told :class:`StorageFailed` then, once, and what the store still says goes to a second handler. What
nobody waits for, leases and outcomes, has none: asking again while the first is under way would only add to the load
of a store that hangs, and the two could overtake each other.

What has a deadline belongs to one of three shares, each with a bound of its own, so that a store that is slow at one
kind of work keeps out nothing else. The bound follows the store. Where n actions were under way when one was asked for
that took w ms, the store does n/w a ms (Little's law), and as many as it does in `_PATIENCE` of ``storage_ms`` may be
under way; one more each time that it is quicker again. Without that a store that does 500 a second would have 10,000
before it, each of them 20 s late and answered 503 long before; so most are refused at once, and the others are done in
time. What goes into one batch costs the store as much as one, and is never too much.
"""

from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import Final, TypeAlias

from msilo_core.actions import Action, Completion, StorageFailed
from msilo_core.clock import Moment
from msilo_core.errors import LocalError
from msilo_core.limits import Limits

__all__ = ["Desk", "Handler", "Share"]

Handler: TypeAlias = Callable[[Completion, Moment], list[Action]]


class Share(IntEnum):
    """What an action is asked for. The lowest bits of a token say it."""

    LOOK_UP = 0
    """To find out who sent a MESSAGE and where it goes, or where somebody is that stored ones are for."""
    STORE = 1
    """To keep a MESSAGE."""
    REGISTER = 2
    """To carry out a REGISTER."""


# The share of what has no deadline, of which silo and housekeeping ask for no more than they may.
_PATIENT: Final = 3
_SHARE_BITS: Final = 2

# Of `storage_ms`: a quarter is waited, half where the bound grows until it is too high again, and the rest is spare.
_PATIENCE: Final = 4


class Desk:
    """Tokens under way. Deadlines are all equally long, so that those of a share come in the order of issue."""

    def __init__(self, limits: Limits) -> None:
        self._storage_ms = limits.storage_ms
        self._patience_ms = limits.storage_ms // _PATIENCE
        self._most = limits.storage_actions_max
        self._least = min(limits.batch_max, self._most)
        self._tokens = 0
        self._shares = [_Share(self._most) for _ in range(len(Share) + 1)]

    def is_full(self, share: Share) -> bool:
        """Say whether nothing more of a share should be begun; what was begun goes on."""
        books = self._shares[share]
        return books.count >= books.count_max

    @property
    def is_idle(self) -> bool:
        """Whether no completion is awaited, a late one included."""
        return not any(share.count for share in self._shares)

    def issue(self, share: Share, handler: Handler, late: Handler, now: Moment) -> int:
        """Return a token for an action that has ``storage_ms`` to be carried out.

        Args:
            share: what it is for.
            handler: gets the completion, or :class:`StorageFailed` at the deadline.
            late: gets a completion that comes after the deadline.
            now: the present.
        """
        books = self._shares[share]
        books.count += 1
        self._tokens += 1
        token = self._tokens << _SHARE_BITS | share
        books.awaited[token] = (now.mono_ms, books.count, handler, late)
        return token

    def issue_patiently(self, handler: Handler, share: Share | None = None) -> int:
        """Return a token for an action whose completion is awaited however long it takes.

        Args:
            handler: gets the completion.
            share: what it counts for; None: something else bounds how many there are.
        """
        place = _PATIENT if share is None else share
        books = self._shares[place]
        books.count += 1
        self._tokens += 1
        token = self._tokens << _SHARE_BITS | place
        books.late[token] = handler
        return token

    def complete(self, completion: Completion, now: Moment) -> list[Action]:
        """Hand a completion to whoever waits for it.

        Raises:
            LocalError: the token was never issued, or was completed before: a bug of the runner.
        """
        token = completion.token
        share = self._shares[token & _PATIENT]
        awaited = share.awaited.pop(token, None)
        if awaited is not None:
            asked_ms, count, handler, _ = awaited
            took_ms = now.mono_ms - asked_ms
            if took_ms > self._patience_ms or share.count_max < self._most:
                self._learn(share, count, took_ms)
        else:
            late = share.late.pop(token, None)
            if late is None:
                raise LocalError(f"token {token} of {type(completion).__name__} is not awaited")
            handler = late
        share.count -= 1
        return handler(completion, now)

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Give up on what is overdue."""
        actions: list[Action] = []
        for share in self._shares:
            while share.awaited:
                token, (asked_ms, count, handler, late) = next(iter(share.awaited.items()))
                if asked_ms + self._storage_ms > now.mono_ms:
                    break
                del share.awaited[token]
                share.late[token] = late
                self._learn(share, count, now.mono_ms - asked_ms)
                actions += handler(StorageFailed(token, "no completion in time"), now)
        return actions

    def next_timeout(self) -> int | None:
        """Return the deadline of the oldest action, in ``mono_ms``, or None."""
        oldest_ms = [next(iter(share.awaited.values()))[0] for share in self._shares if share.awaited]
        return min(oldest_ms) + self._storage_ms if oldest_ms else None

    def _learn(self, share: "_Share", count: int, took_ms: int) -> None:
        if took_ms > self._patience_ms:
            share.count_max = min(max(count * self._patience_ms // took_ms, self._least), self._most)
        else:
            share.count_max = min(share.count_max + 1, self._most)


class _Share:
    """The books of one share.

    Attributes:
        awaited: by token: when it was asked for in ``mono_ms``, how many were under way with it, and its handlers.
            Taken from the front: a plain dict would walk over all that was deleted there before.
        late: handlers of those whose deadline has passed, or that have none.
        count: how many both are.
        count_max: how many there may be at present.
    """

    __slots__ = ("awaited", "count", "count_max", "late")

    def __init__(self, count_max: int) -> None:
        self.awaited: OrderedDict[int, tuple[int, int, Handler, Handler]] = OrderedDict()
        self.late: dict[int, Handler] = {}
        self.count = 0
        self.count_max = count_max
