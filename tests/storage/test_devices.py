"""What every store does with a message that each device of its owner is to have."""

import msgspec
import pytest

from msilo_core.actions import Bound, Expire, Expired, LookedUp, LookUp, Outcome, Refused, Settle, Settled, Stored
from msilo_core.targets import device_of
from msilo_storage import Storage
from tests.storage.values import (
    BOB,
    CAROL,
    NOW_MS,
    NOW_S,
    append,
    bind,
    binding,
    dump,
    message,
    renew,
    retry,
    settle,
    stores,
    take,
)

PHONE = binding("sip:bob@192.0.2.1", instance="<urn:uuid:1>")
TABLET = binding("sip:bob@192.0.2.2", instance="<urn:uuid:2>")
A, B = device_of(PHONE), device_of(TABLET)


async def taken(store: Storage, *devices: str, next_time_s: int = 0) -> list[int]:
    """Store a message for each of `devices`, which took it; return the numbers."""
    numbers = await append(store, *(message(n) for n in range(len(devices))))
    await dump(store)
    for number, device in zip(numbers, devices, strict=True):
        assert await take(store, number, device, next_time_s=next_time_s)
    return numbers


async def leased(store: Storage, *devices: str, now_ms: int = NOW_MS) -> list[int]:
    page = await dump(store, devices=devices, now_ms=now_ms)
    return [m.message_id for m in page.messages]


async def test_what_a_device_took_waits_for_the_others_alone(store: Storage) -> None:
    numbers = await taken(store, "a", "b", "a b", "")
    (waiting,) = await append(store, message(9))
    assert await leased(store, "a") == [numbers[1], numbers[3], waiting]
    assert await leased(store, "a", "b") == [numbers[0], numbers[1], numbers[3], waiting]
    assert await leased(store) == [waiting]
    assert [m.message_id for m in await store.list()] == [waiting]


async def test_it_is_neither_dead_nor_among_what_waits(store: Storage) -> None:
    (number,) = await taken(store, "a")
    assert await store.list() == await store.list(dead=True) == []
    report = await store.check()
    assert (report.messages, report.dead) == (0, 0)
    totals = await store.stats(str(BOB))
    assert (totals.waiting, totals.dead, totals.dead_by_status, totals.taken) == (0, 0, {}, 1)
    assert (await store.requeue([number])).done == (await store.purge([number])).done == ()
    entry = await store.find(number)
    assert entry is not None
    assert (entry.message.status, entry.message.taken_by, entry.lease_node) == (200, "a", "")
    assert (await store.purge([number], waiting=True)).done == (number,)


async def test_a_repeat_of_it_is_one(store: Storage) -> None:
    (number,) = await append(store, message())
    await dump(store)
    await take(store, number, "a")
    (again,) = stores(message())
    assert await store.append([again]) == [Stored(again.token, number, repeated=True)]


async def test_devices_add_up_the_latest_first_and_no_more_than_64(store: Storage) -> None:
    (number,) = await taken(store, "a b")
    await take(store, number, "b c")
    entry = await store.find(number)
    assert entry is not None
    assert entry.message.taken_by == "b c a"
    await take(store, number, " ".join(f"d{n}" for n in range(62)))
    entry = await store.find(number)
    assert entry is not None
    assert entry.message.taken_by.split() == [*(f"d{n}" for n in range(62)), "b", "c"]


async def test_it_expires_at_the_end_of_the_window_at_the_latest_and_not_as_a_failure(store: Storage) -> None:
    first, second = await append(store, message(1), message(2, exp_time_s=NOW_S + 100))
    await dump(store, lease_ms=0)
    await take(store, first, "a", until_s=NOW_S + 300)
    await take(store, first, "b", until_s=NOW_S + 400)
    await take(store, second, "a", until_s=NOW_S + 300)
    (waiting,) = await append(store, message(3, exp_time_s=NOW_S + 300))
    assert await leased(store, "c", now_ms=NOW_MS + 299_999) == [first, waiting]
    assert await settle(store, first, Outcome.RELEASED)
    assert await settle(store, waiting, Outcome.RELEASED)
    assert await store.expire([Expire(1, NOW_MS + 299_999)]) == [Expired(1, 1, taken=1)]
    assert await leased(store, "c", now_ms=NOW_MS + 300_000) == []
    assert await store.expire([Expire(2, NOW_MS + 300_000)]) == [Expired(2, 2, taken=1)]


async def test_leases_of_it_are_as_any(store: Storage, peer: Storage) -> None:
    (number,) = await taken(store, "a")
    assert await leased(store, "b") == [number]
    assert await renew(store, number) == (number,)
    busy = await dump(peer, node="two", devices=("c",))
    assert (busy.messages, busy.busy_ms > 5_000) == ((), True)
    assert not await settle(peer, number, Outcome.RELEASED, node="two")
    assert await settle(store, number, Outcome.RELEASED, next_time_s=7)
    (again,) = (await dump(peer, node="two", devices=("c",))).messages
    assert (again.next_time_s, again.status, again.taken_by) == (7, 200, "a")


async def test_a_late_answer_leaves_lease_and_time_alone(store: Storage, peer: Storage) -> None:
    (number,) = await taken(store, "a", next_time_s=NOW_S + 60)
    assert await leased(store, "b", "c") == [number]
    assert await take(store, number, "b", next_time_s=5, is_late=True)
    assert await take(peer, number, "d", next_time_s=5, node="two")
    entry = await store.find(number)
    assert entry is not None
    assert (entry.lease_node, entry.message.taken_by, entry.message.attempts) == ("one", "d b a", 1)
    assert await take(store, number, "c")
    entry = await store.find(number)
    assert entry is not None
    assert (entry.lease_node, entry.message.next_time_s, entry.message.attempts) == ("", 0, 0)
    assert not await take(store, number + 1, "b")


async def test_what_is_taken_hands_on_when_others_look_at_the_inbox(store: Storage) -> None:
    first, second, third = await append(store, message(1), message(2), message(3))
    await dump(store)
    looked_for = await store.find(third)
    assert looked_for is not None
    assert looked_for.message.next_time_s > 0
    assert await take(store, third, "a")
    entry = await store.find(first)
    assert entry is not None
    assert entry.message.next_time_s == looked_for.message.next_time_s
    assert await take(store, second, "a")
    entry = await store.find(first)
    assert entry is not None
    assert entry.message.next_time_s == looked_for.message.next_time_s


async def test_what_was_taken_hands_on_too_when_it_expires(store: Storage) -> None:
    first, second = await append(store, message(1), message(2))
    await dump(store, lease_ms=0)
    assert await take(store, second, "a", next_time_s=NOW_S + 60, until_s=NOW_S + 50)
    assert await settle(store, first, Outcome.RELEASED)
    assert await store.expire([Expire(1, NOW_MS + 50_000)]) == [Expired(1, 1, taken=1)]
    entry = await store.find(first)
    assert entry is not None
    assert entry.message.next_time_s == NOW_S + 60


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNREACHED, Outcome.REFUSED])
async def test_who_does_not_know_that_one_has_it_cannot_undo_that(
    store: Storage, peer: Storage, outcome: Outcome
) -> None:
    (number,) = await append(store, message())
    await dump(peer, node="two")
    assert await take(store, number, "a")
    assert await settle(peer, number, outcome, node="two", status=488, next_time_s=7)
    entry = await store.find(number)
    assert entry is not None
    assert (entry.message.status, entry.message.taken_by, entry.lease_node) == (200, "a", "")
    assert (entry.message.next_time_s, entry.last_status) == (7, 488)


async def test_outcomes_of_one_batch(store: Storage) -> None:
    first, second, third = await append(store, message(1), message(2), message(3))
    await dump(store)
    told = [
        Settle(1, BOB, first, "one", Outcome.DELIVERED),
        Settle(2, BOB, second, "one", Outcome.TAKEN, taken_by="a", until_s=NOW_S + 9),
        Settle(3, BOB, third, "one", Outcome.RELEASED),
        Settle(4, BOB, second, "one", Outcome.TAKEN, taken_by="b", until_s=NOW_S + 9, is_late=True),
        Settle(5, BOB, third, "two", Outcome.RELEASED),
    ]
    assert await store.settle(told) == [*(Settled(n) for n in range(1, 5)), Settled(5, lost=True)]
    entry = await store.find(second)
    assert entry is not None
    assert entry.message.taken_by == "b a"


async def test_too_early_is_what_nobody_took(store: Storage) -> None:
    (late,) = await taken(store, "a", next_time_s=NOW_S + 60)
    page = await dump(store, devices=("b",), is_early=False)
    assert [m.message_id for m in page.messages] == [late]
    (waiting,) = await append(store, message(7, next_time_s=NOW_S + 60))
    page = await dump(store, devices=("b",), is_early=False)
    assert (page.messages, page.is_early) == ((), True)
    assert await leased(store, "b") == [late, waiting]


async def test_pages_are_of_all_in_the_order_of_arrival(store: Storage) -> None:
    numbers = await append(store, *(message(n) for n in range(6)))
    await dump(store)
    for number in numbers[1::2]:
        await take(store, number, "a")
    await append(store, message(1, CAROL))
    page = await dump(store, devices=("b",), messages_max=4)
    assert [m.message_id for m in page.messages] == numbers[:4]


async def test_waiting_is_what_a_device_that_is_there_lacks(store: Storage) -> None:
    await taken(store, A)

    async def waits(cseq: int, *, each: bool) -> tuple[bool, bool]:
        (bound,) = await store.bind([bind(cseq=cseq, each=each)])
        (looked_up,) = await store.look_up([LookUp(1, BOB, NOW_S, each)])
        assert isinstance(bound, Bound)
        assert isinstance(looked_up, LookedUp)
        return bound.waiting, looked_up.waiting

    assert await waits(1, each=True) == (False, False)
    await store.bind([bind(PHONE, cseq=2)])
    assert await waits(3, each=True) == (False, False)
    await store.bind([bind(binding("sip:bob@192.0.2.3", methods="INVITE"), cseq=4)])
    assert await waits(5, each=True) == (False, False)
    answers = await store.bind([bind(TABLET, cseq=6, each=True), bind(owner=CAROL, each=True)])
    assert [isinstance(answer, Bound) and answer.waiting for answer in answers] == [True, False]
    assert await waits(7, each=True) == (True, True)
    assert await waits(8, each=False) == (False, False)
    (refused,) = await store.bind([bind(TABLET, cseq=1, each=True)])
    assert isinstance(refused, Refused)
    await append(store, message(8))
    assert await waits(9, each=True) == (True, True)


async def test_it_is_tried_again_when_it_is_due(store: Storage) -> None:
    (number,) = await taken(store, "a", next_time_s=NOW_S)
    await append(store, message(5, next_time_s=NOW_S + 900))
    assert await retry(store, now_s=NOW_S - 1) == ()
    await store.bind([bind(PHONE)])
    assert await retry(store) == (BOB,)
    assert await retry(store, now_s=NOW_S + 59) == ()
    # Who took it was asked for, and nobody lacks it: whoever gave the time is told that it has come.
    assert number in await leased(store, "a", now_ms=NOW_MS + 61_000)
    assert await settle(store, number, Outcome.RELEASED)
    assert await retry(store, now_s=NOW_S + 61) == ()


async def test_looks_in_vain_are_less_and_less_often(store: Storage) -> None:
    (number,) = await taken(store, "a", next_time_s=NOW_S)
    await store.bind([bind(msgspec.structs.replace(PHONE, expires_s=NOW_S + 100_000))])
    pauses: list[int] = []
    now_s = NOW_S
    await take(store, number, until_s=NOW_S + 500, is_late=True)
    for _ in range(5):
        assert await retry(store, now_s=now_s, pause_s=10) == (BOB,)
        entry = await store.find(number)
        assert entry is not None
        pauses.append(entry.message.next_time_s - now_s)
        now_s = entry.message.next_time_s
    assert pauses == [20, 40, 80, 160, 320]


async def test_what_is_due_of_somebody_who_left_waits_for_him(store: Storage) -> None:
    (number,) = await taken(store, "a", next_time_s=NOW_S)
    assert await retry(store) == ()
    entry = await store.find(number)
    assert entry is not None
    assert entry.message.next_time_s == 0


async def test_a_reminder_stays_one_for_the_others(store: Storage) -> None:
    (number,) = await append(store, message(snd_time_s=NOW_S - 5))
    await dump(store)
    await take(store, number, "a", next_time_s=NOW_S)
    await store.bind([bind(PHONE)])
    assert await retry(store) == (BOB,)
    (again,) = (await dump(store, devices=("b",))).messages
    assert again.snd_time_s == NOW_S - 5
