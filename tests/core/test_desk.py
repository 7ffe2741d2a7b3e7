"""Tokens: one completion each, a deadline, and a second handler for what comes after it."""

import pytest

from msilo_core import Limits, LocalError, Moment, StorageFailed, Stored
from msilo_core.actions import Action, Completion
from msilo_core.desk import Desk, Share


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
    first = desk.issue(Share.STORE, book.take, book.take_late, at(0))
    second = desk.issue(Share.STORE, book.take, book.take_late, at(10))
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


def test_a_share_is_full_on_the_limit_late_ones_included() -> None:
    desk, book = Desk(Limits(storage_actions_max=2, storage_ms=100)), Notebook()
    late = desk.issue(Share.STORE, book.take, book.take_late, at(0))
    desk.handle_timeout(at(100))
    before = desk.is_full(Share.STORE)
    desk.issue(Share.STORE, book.take, book.take_late, at(100))
    assert (before, desk.is_full(Share.STORE)) == (False, True)
    desk.issue_patiently(book.take)
    assert not desk.is_full(Share.LOOK_UP)
    assert not desk.is_full(Share.REGISTER)
    desk.complete(Stored(late, 1), at(101))
    assert not desk.is_full(Share.STORE)


def test_deadlines_of_all_shares_are_kept() -> None:
    desk, book = Desk(Limits(storage_ms=100)), Notebook()
    tokens = [desk.issue(share, book.take, book.take_late, at(10 * share)) for share in reversed(Share)]
    assert len(set(tokens)) == 3
    for share, token in zip(Share, reversed(tokens), strict=True):
        assert desk.next_timeout() == 100 + 10 * share
        desk.handle_timeout(at(100 + 10 * share))
        assert book.told[-1] == StorageFailed(token, "no completion in time")
    assert desk.next_timeout() is None
    patient = desk.issue_patiently(book.take)
    assert desk.next_timeout() is None
    desk.complete(Stored(patient, 1), at(10_000))
    assert book.told[-1] == Stored(patient, 1)


def admitted(desk: Desk, book: Notebook, now_ms: int) -> list[int]:
    """Issue as many tokens as there is room for."""
    tokens: list[int] = []
    while not desk.is_full(Share.STORE):
        tokens.append(desk.issue(Share.STORE, book.take, book.take_late, at(now_ms)))
    return tokens


def test_no_more_are_under_way_than_the_store_does_in_a_quarter_of_the_time() -> None:
    limits = Limits(storage_actions_max=1000, storage_ms=8_000, batch_max=10)
    desk, book = Desk(limits), Notebook()
    waiting = admitted(desk, book, 0)
    assert len(waiting) == 1000
    # It does 100 a second. Those that are done within 2 s say nothing.
    for number, token in enumerate(waiting[:200]):
        desk.complete(Stored(token, 1), at(10 * (number + 1)))
    assert len(admitted(desk, book, 2_000)) == 200
    # The next one was one of 201 that took more than 2 s.
    desk.complete(Stored(waiting[200], 1), at(2_010))
    assert desk.is_full(Share.STORE)
    desk, book = Desk(limits), Notebook()
    waiting = admitted(desk, book, 0)
    for number, token in enumerate(waiting[:800]):
        desk.complete(Stored(token, 1), at(10 * (number + 1)))
    # The others have waited 8 s, and are late.
    desk.handle_timeout(at(8_000))
    assert (len(book.told), len(admitted(desk, book, 8_000))) == (1000, 50)
    for number, token in enumerate(waiting[800:]):
        desk.complete(Stored(token, 1), at(8_010 + 10 * number))
    # The last of 1,000 took 8 s, or so it seemed: 250 in 2 s, of which 50 are under way.
    assert len(admitted(desk, book, 10_000)) == 200
    desk, book = Desk(limits), Notebook()
    waiting = admitted(desk, book, 0)
    desk.handle_timeout(at(8_000))
    for token in waiting:
        desk.complete(Stored(token, 1), at(8_000))
    waiting = admitted(desk, book, 10_000)
    assert len(waiting) == 250
    for number, token in enumerate(waiting):
        desk.complete(Stored(token, 1), at(10_010 + 10 * number))
    # 200 were quick, and each found room for one more; then it was too many again.
    assert len(admitted(desk, book, 13_000)) == 2_000 * 250 // 2_500


def test_what_goes_into_a_batch_is_never_too_much() -> None:
    desk, book = Desk(Limits(storage_actions_max=1000, storage_ms=8_000, batch_max=10)), Notebook()
    desk.complete(Stored(desk.issue(Share.STORE, book.take, book.take_late, at(0)), 1), at(7_999))
    waiting = admitted(desk, book, 8_000)
    assert len(waiting) == 10
    for token in waiting:
        desk.complete(Stored(token, 1), at(8_001))
    assert len(admitted(desk, book, 8_002)) == 20
    # And the limit is the limit.
    desk = Desk(Limits(storage_actions_max=3, batch_max=10))
    desk.complete(Stored(desk.issue(Share.STORE, book.take, book.take_late, at(0)), 1), at(7_999))
    for token in admitted(desk, book, 8_000):
        desk.complete(Stored(token, 1), at(8_001))
    assert len(admitted(desk, book, 8_002)) == 3
