"""Tokens: one completion each, a deadline, and a second handler for what comes after it."""

import pytest

from msilo_core import Limits, LocalError, Moment, StorageFailed, Stored
from msilo_core.actions import Action, Completion
from msilo_core.desk import Desk


class Notebook:
    def __init__(self) -> None:
        self.told: list[Completion] = []
        self.late: list[Completion] = []

    def take(self, completion: Completion, now: Moment) -> list[Action]:
        del now
        self.told.append(completion)
        return []

    def take_late(self, completion: Completion, now: Moment) -> list[Action]:
        del now
        self.late.append(completion)
        return []


def at(mono_ms: int) -> Moment:
    return Moment(mono_ms, 0)


def test_deadlines_come_in_the_order_of_issue() -> None:
    desk, book = Desk(Limits(storage_ms=100)), Notebook()
    first = desk.issue(book.take, book.take_late, at(0))
    second = desk.issue(book.take, book.take_late, at(10))
    assert desk.next_timeout() == 100
    desk.handle_timeout(at(99))
    assert book.told == []
    desk.handle_timeout(at(100))
    assert book.told == [StorageFailed(first, "no completion in time")]
    assert desk.next_timeout() == 110
    desk.complete(Stored(second, 7), at(105))
    assert book.told[1:] == [Stored(second, 7)]
    assert desk.next_timeout() is None
    before = desk.is_idle
    desk.complete(Stored(first, 6), at(200))
    assert book.late == [Stored(first, 6)]
    assert (before, desk.is_idle) == (False, True)
    with pytest.raises(LocalError):
        desk.complete(Stored(first, 6), at(200))


def test_it_is_full_on_the_limit_late_ones_included() -> None:
    desk, book = Desk(Limits(storage_actions_max=2, storage_ms=100)), Notebook()
    desk.issue(book.take, book.take_late, at(0))
    desk.handle_timeout(at(100))
    before = desk.is_full
    desk.issue(book.take, book.take_late, at(100))
    assert (before, desk.is_full, desk.is_overfull) == (False, True, False)
    for _ in range(2):
        desk.issue(book.take, book.take_late, at(100))
    assert desk.is_overfull
