"""What an operator sees of a store and does to it: the values, as every store gives them."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from msilo_core.actions import Message
from msilo_core.uri import Aor
from msilo_storage.rules import TAKEN

__all__ = ["SWEEP_ROWS_MAX", "Entry", "Sweep", "Totals", "swept", "totals"]

SWEEP_ROWS_MAX: Final = 2_000
"""Messages that are requeued or purged in one call: a tenth of a second in which SQLite takes nothing else."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A message as an operator sees it: the whole row.

    Attributes:
        message: what is stored, how often it was tried, and when it is next.
        last_status: status of the response to the last attempt that failed; 0: there was none.
        repeats: how often its sender sent it again after it was stored.
        lease_node: the server that delivers it at present, and the number of its lease; empty if none does.
        lease_until_ms: until when no other may, in Unix ms; 0 if none does.
    """

    message: Message
    last_status: int = 0
    repeats: int = 0
    lease_node: str = ""
    lease_until_ms: int = 0


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of :meth:`Storage.requeue` or :meth:`Storage.purge` did.

    Attributes:
        done: numbers of the messages that it was done to, ascending.
        left: numbers of those that were meant and stay as they are, ascending: see the method for which.
        after: what the next call takes as `after` to go on; None if this one came to the end.
    """

    done: tuple[int, ...]
    left: tuple[int, ...]
    after: int | None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What :meth:`Storage.stats` counted.

    Attributes:
        waiting: messages that wait for delivery.
        deferred: those of them that are for a time of their own.
        leased: those that a server delivers at present.
        dead: messages that were set aside.
        dead_by_status: those by the status that set them aside, ascending.
        oldest_inc_time_s: when the oldest that waits, and is not deferred, arrived, in Unix s; 0 if there is none.
        body_bytes: octets of all bodies.
        owners: those with the most messages, whatever their state, and how many.
        taken: messages that a device took, kept for others of their owners.
    """

    waiting: int
    deferred: int
    leased: int
    dead: int
    dead_by_status: dict[int, int]
    oldest_inc_time_s: int
    body_bytes: int
    owners: tuple[tuple[Aor, int], ...]
    taken: int = 0


def swept(page: Sequence[tuple[int, bool]], *, is_last: bool) -> Sweep:
    """Return what a page of an operator's work did.

    Args:
        page: number of each row that was meant, ascending, and whether it was done to it.
        is_last: there are no more.
    """
    return Sweep(
        done=tuple(number for number, is_done in page if is_done),
        left=tuple(number for number, is_done in page if not is_done),
        after=None if is_last else page[-1][0],
    )


def totals(counts: Iterable[Sequence[Any]], crowd: Iterable[Sequence[Any]]) -> Totals:
    """Add up what lies in a table.

    Args:
        counts: for each status: itself; its rows; those of them that are deferred, and that are leased; arrival of the
            oldest that is not deferred (Unix s), or None; octets of bodies.
        crowd: columns ``username`` and ``domain`` of the owners with the most rows, and how many.
    """
    waiting = deferred = leased = oldest_inc_time_s = body_bytes = taken = 0
    dead: dict[int, int] = {}
    for status, rows, rows_deferred, rows_leased, oldest_s, octets in sorted(counts, key=lambda row: int(row[0])):
        leased += rows_leased
        body_bytes += octets
        if status == TAKEN:
            taken = rows
        elif status:
            dead[status] = rows
        else:
            waiting, deferred, oldest_inc_time_s = rows, rows_deferred, oldest_s or 0
    return Totals(
        waiting=waiting,
        deferred=deferred,
        leased=leased,
        dead=sum(dead.values()),
        dead_by_status=dead,
        oldest_inc_time_s=oldest_inc_time_s,
        body_bytes=body_bytes,
        owners=tuple((Aor(username, domain), number) for username, domain, number in crowd),
        taken=taken,
    )
