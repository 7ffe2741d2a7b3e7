"""The outcomes of messages on their way into the store: each until it is recorded."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeAlias

import msgspec

from msilo_core.actions import Action, Completion, Outcome, Settle, Settled, StorageFailed
from msilo_core.clock import Deadlines, Moment
from msilo_core.desk import Desk
from msilo_core.errors import LocalError
from msilo_core.fields.numbers import DELTA_SECONDS_MAX
from msilo_core.inbox import Inbox
from msilo_core.statistics import Statistics
from msilo_core.uri import Aor

__all__ = ["STORE_RETRY_MS", "Ledger"]

STORE_RETRY_MS: Final = 2_000
"""Between two tries of what the store could not do: short against the lifetime of a message and the patience of a
person, long enough not to hammer a database that is starting."""

InboxOf: TypeAlias = Callable[[Aor], Inbox]
Advance: TypeAlias = Callable[[Inbox, Moment], list[Action]]


class Ledger:
    """Records what became of leased messages, again and again until the store has done it.

    Args:
        desk: where completions are awaited.
        statistics: counted in.
        inbox_of: returns the inbox of an owner, a new one if there is none.
        advance: begins what can begin in an inbox.
    """

    def __init__(self, desk: Desk, statistics: Statistics, inbox_of: InboxOf, advance: Advance) -> None:
        self._desk = desk
        self._statistics = statistics
        self._inbox_of = inbox_of
        self._advance = advance
        self._unsettled: dict[int, Settle] = {}
        self._deadlines: Deadlines[None] = Deadlines()

    @property
    def is_clear(self) -> bool:
        """Whether no outcome waits to be recorded that the store failed to."""
        return not self._unsettled

    def settle(
        self,
        owner: Aor,
        message_id: int,
        outcome: Outcome,
        status: int = 0,
        reason: str = "",
        next_time_s: int = 0,
    ) -> list[Action]:
        """Record what became of a message; see :class:`~msilo_core.Settle`.

        That it was delivered is not told before :meth:`tell`, or with the next other outcome of its inbox.
        """
        inbox = self._inbox_of(owner)
        if outcome is Outcome.RELEASED and message_id in inbox.settling:
            # The store is being told that a device took it late: the lease is given up behind that.
            return self.take(owner, message_id, (), DELTA_SECONDS_MAX, next_time_s)
        settle = Settle(0, owner, message_id, inbox.lease, outcome, status, reason, next_time_s)
        if outcome is Outcome.DELIVERED:
            inbox.untold.append(settle)
            inbox.settling.add(message_id)
            return []
        return self.tell(inbox) + self._ask(settle)

    def tell(self, inbox: Inbox) -> list[Action]:
        """Tell the store which messages of an inbox were delivered."""
        actions: list[Action] = []
        for settle in inbox.untold:
            actions += self._ask(settle)
        inbox.untold.clear()
        return actions

    def take(
        self,
        owner: Aor,
        message_id: int,
        devices: Iterable[str],
        until_s: int,
        next_time_s: int = 0,
        *,
        is_late: bool = False,
    ) -> list[Action]:
        """Record that devices took a message, which is kept for others; see :class:`~msilo_core.Settle`."""
        inbox = self._inbox_of(owner)
        settle = Settle(
            0, owner, message_id, inbox.lease, Outcome.TAKEN,
            next_time_s=next_time_s, taken_by=" ".join(devices), until_s=until_s, is_late=is_late,
        )  # fmt: skip
        if message_id not in inbox.settling:
            return self._ask(settle)
        # Whoever looks at the row when the one is recorded must find the other, too.
        before = inbox.taken_next.get(message_id)
        if before is not None:
            taken_by = f"{before.taken_by} {settle.taken_by}".strip()
            until_s = min(before.until_s, settle.until_s)
            settle = msgspec.structs.replace(before if is_late else settle, taken_by=taken_by, until_s=until_s)
        inbox.taken_next[message_id] = settle
        return []

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Ask again for what the store failed to do."""
        actions: list[Action] = []
        for _ in self._deadlines.pop_due(now.mono_ms):
            again, self._unsettled = self._unsettled, {}
            for settle in again.values():
                actions += self._ask(settle)
        return actions

    def next_timeout(self) -> int | None:
        """Return the next deadline in ``mono_ms``, or None."""
        return self._deadlines.next_ms()

    def _ask(self, settle: Settle) -> list[Action]:
        self._inbox_of(settle.owner).settling.add(settle.message_id)
        handler = partial(self._settled, settle)
        return [msgspec.structs.replace(settle, token=self._desk.issue_patiently(handler))]

    def _settled(self, settle: Settle, completion: Completion, now: Moment) -> list[Action]:
        inbox = self._inbox_of(settle.owner)
        if isinstance(completion, StorageFailed):
            self._statistics.storage_failures += 1
            inbox.lease_spent = True
        elif not isinstance(completion, Settled):
            raise LocalError(f"{type(completion).__name__} does not answer Settle")
        elif completion.lost:
            self._statistics.lost_leases += 1
        if settle.message_id in inbox.withdrawn_next:
            inbox.withdrawn_next.discard(settle.message_id)
            return self.settle(settle.owner, settle.message_id, Outcome.WITHDRAWN)
        if isinstance(completion, StorageFailed) and settle.outcome is not Outcome.RELEASED:
            # Until it is recorded the row is still there, and must not be sent again. (A lease ends by itself.)
            self._unsettled[settle.message_id] = settle
            self._deadlines.arm(None, now.mono_ms + STORE_RETRY_MS)
            return []
        if (late := inbox.taken_next.pop(settle.message_id, None)) is not None:
            return self._ask(late)
        inbox.settling.discard(settle.message_id)
        return self._advance(inbox, now)
