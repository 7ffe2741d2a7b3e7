"""What every store does alike: who may lease, what REGISTERs add up to, and how one bad row fails alone."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec

from msilo_core.actions import Bind, Binding, Dump, Message, Outcome, Retry, Settle, StorageAction, StorageFailed
from msilo_core.errors import PeerError, StorageError
from msilo_core.registrar import Rebinding, Rejection, rebind
from msilo_core.uri import Aor
from msilo_core.users import User

__all__ = [
    "DUE_ROWS_MAX",
    "EXPIRE_ROWS_MAX",
    "PAUSE_DOUBLED_MAX",
    "REGISTERED_LOOK_S",
    "RETRY_ROWS_MAX",
    "TAKEN",
    "UNTOLD_ROWS_MAX",
    "Changes",
    "Inventory",
    "RowError",
    "fold",
    "is_lacked",
    "isolating_bad_rows",
    "leasable",
    "legible",
    "look_again_at",
    "look_again_s",
    "page_of_users",
    "status_after",
    "taken_by",
    "taken_over",
    "without_repeats",
]

A = TypeVar("A", bound=StorageAction)
C = TypeVar("C")

RETRY_ROWS_MAX: Final = 1_000
"""Messages that one :class:`msilo_core.Retry` looks at, those that have been due longest."""

REGISTERED_LOOK_S: Final = 30
"""How long after a REGISTER others look for what waits, if the server that answered it has leased nothing by then: it
may have died in between. See :class:`msilo_core.Bind`."""

EXPIRE_ROWS_MAX: Final = 10_000
"""Messages deleted by one :class:`msilo_core.Expire`: a tenth of a second of work, so that nobody waits long for it."""

UNTOLD_ROWS_MAX: Final = 100
"""Messages with an ``imdn`` that one Expire deletes, and returns: 6 MB of the longest. Others wait until they are gone,
so that no message is walked over again and again."""

DUE_ROWS_MAX: Final = 10_000
"""Deferred messages that one :class:`msilo_core.Remind` looks at, those that have been due longest: as above."""

TAKEN: Final = 200
"""Column ``status`` of what a device took and is kept for others of its owner."""

_DEVICES_MAX: Final = 64

PAUSE_DOUBLED_MAX: Final = 5
"""Times that the pause of a Retry doubles for what a device took: from half a minute to a quarter of an hour."""

Inventory: TypeAlias = dict[Aor, dict[str, Binding]]
"""Bindings by owner and Contact URI."""


class RowError(StorageError):
    """The database refused the data of a row; the rest of the batch may be sound."""


async def isolating_bad_rows(
    carry_out: Callable[[Sequence[A]], Awaitable[list[C]]], batch: Sequence[A]
) -> list[C | StorageFailed]:
    """Carry out a batch; one whose data is refused is halved until the bad action fails alone."""
    if not batch:
        return []
    try:
        return [*await carry_out(batch)]
    except RowError as error:
        if len(batch) == 1:
            return [StorageFailed(batch[0].token, str(error))]
    middle = len(batch) // 2
    first = await isolating_bad_rows(carry_out, batch[:middle])
    return first + await isolating_bad_rows(carry_out, batch[middle:])


class Changes(msgspec.Struct):
    """What a batch of REGISTERs adds up to.

    Attributes:
        results: what became of each, in order.
        written: bindings to insert or replace, with their owners.
        removed: bindings to delete, by owner and Contact URI.
    """

    results: list[Rebinding | Rejection]
    written: list[tuple[Aor, Binding]]
    removed: list[tuple[Aor, str]]


def fold(inventory: Inventory, binds: Iterable[Bind]) -> Changes:
    """Apply REGISTERs in order to the bindings that their owners have, in place.

    Args:
        inventory: all bindings of every owner in `binds`, expired ones too where there are some.
        binds: the REGISTERs; two of the same owner build on each other.

    Raises:
        RowError: a Contact is no URI; `inventory` is then as the REGISTER before it left it.
    """
    results: list[Rebinding | Rejection] = []
    touched: dict[tuple[Aor, str], None] = {}
    for bind in binds:
        bindings = inventory.setdefault(bind.owner, {})
        try:
            result = rebind(tuple(bindings.values()), bind)
        except PeerError as error:
            raise RowError(f"a Contact cannot be compared: {error}") from error
        results.append(result)
        if isinstance(result, Rebinding):
            for contact in result.removed:
                bindings.pop(contact, None)
            for binding in result.written:
                bindings[binding.contact] = binding
            touched.update(((bind.owner, contact), None) for contact in result.removed)
            touched.update(((bind.owner, binding.contact), None) for binding in result.written)
    # In one order on every node: two that lock rows in different orders would wait for each other.
    keys = sorted(touched)
    return Changes(
        results,
        written=[(owner, inventory[owner][contact]) for owner, contact in keys if contact in inventory[owner]],
        removed=[(owner, contact) for owner, contact in keys if contact not in inventory[owner]],
    )


def leasable(waiting: Iterable[tuple[str, int, int]], dump: Dump, now_ms: int) -> tuple[int, int, bool]:
    """Say how much of an inbox may be leased.

    Args:
        waiting: node and end (Unix ms) of the lease of each waiting row, and when it is to be tried (Unix s; -1 for one
            that a device took), oldest first.
        dump: who asks.
        now_ms: the present by the store's clock.

    Returns:
        How many of the rows, from the first on; where that is none, how many ms another node holds the first, or 0, and
        whether it is to be tried later.
    """
    count = 0
    is_oldest = True
    for node, until_ms, next_time_s in waiting:
        if node != dump.lease and until_ms > now_ms:
            return count, 0 if count else until_ms - now_ms, False
        if is_oldest and not dump.is_early and next_time_s > dump.now_ms // 1000:
            return 0, 0, True
        is_oldest &= next_time_s < 0
        count += 1
    return count, 0, False


def taken_over(message: Message, lease_node: str) -> Message:
    """Return a message that is leased anew.

    Whoever leased it before, `lease_node`, and never said what became of it may have sent it: a phone may have it.
    """
    return msgspec.structs.replace(message, reached=message.reached + 1) if lease_node else message


def is_lacked(taken: str, devices: Iterable[str]) -> bool:
    """Say whether a message that some devices took, column ``taken_by``, is lacked by one of these."""
    return not {*devices} <= {*taken.split()}


def taken_by(taken: str, settle: Settle) -> str:
    """Return the column ``taken_by`` after more devices took it."""
    devices = dict.fromkeys([*settle.taken_by.split(), *taken.split()])
    return " ".join([*devices][:_DEVICES_MAX])


def look_again_at(retry: Retry, message: Message) -> Message:
    """Return a message that was due and is left to who asked.

    What a device took may be lacked by nobody who is there, or by one that another node reaches: each look is after
    twice the pause of the last, so that it costs little.
    """
    if not message.status:
        return msgspec.structs.replace(message, next_time_s=retry.now_s + retry.pause_s)
    pause_s = retry.pause_s << min(message.attempts, PAUSE_DOUBLED_MAX)
    return msgspec.structs.replace(message, next_time_s=retry.now_s + pause_s, attempts=message.attempts + 1)


def look_again_s(dump: Dump) -> int:
    """Return when others look whether the node that leases a page is still there.

    It is the ``next_time`` of the row behind the page, for the node may die with the whole page delivered; of the last
    row of the page where there is none, or another node has it.
    """
    return (dump.now_ms + dump.lease_ms) // 1000 + 1


def page_of_users(users: Iterable[User], after: Aor | None, limit: int) -> list[User]:
    """Return so many users behind one, in the order of domain and name."""

    def place(owner: Aor) -> tuple[str, str]:
        return owner.domain, owner.username

    ordered = sorted(users, key=lambda user: place(user.owner))
    return [user for user in ordered if after is None or place(user.owner) > place(after)][:limit]


def without_repeats(settles: Sequence[Settle]) -> Iterator[Sequence[Settle]]:
    """Cut before each settle of a row that was settled since the last cut: a statement changes a row once."""
    start = 0
    seen: set[tuple[Aor, int]] = set()
    for n, settle in enumerate(settles):
        row = (settle.owner, settle.message_id)
        if row in seen:
            yield settles[start:n]
            start = n
            seen.clear()
        seen.add(row)
    yield settles[start:]


def status_after(settle: Settle) -> int:
    """Return the column ``status`` after a delivery was tried in vain: 0 if the message waits on, else not 0."""
    return settle.status or 1 if settle.outcome is Outcome.REFUSED else 0


def legible(text: str) -> str:
    """Return a peer's text as any database takes it: octets that are not UTF-8, and NUL, become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
