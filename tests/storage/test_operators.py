"""What every store does for an operator: showing, requeuing and purging messages, and counting them.

Leases and expiry go by the store's own clock here, so that the times of these tests are real ones.
"""

import time

import pytest

from msilo_core.actions import Expire, Expired, Message, Outcome, Stored
from msilo_core.errors import ParseError
from msilo_core.uri import Aor
from msilo_storage import Entry, Storage, Sweep, Totals
from tests.storage.values import BOB, CAROL, append, bind, binding, dump, message, settle, stores

NOW_S = time.time_ns() // 1_000_000_000
NOW_MS = 1000 * NOW_S


def fresh(n: int = 1, owner: Aor = BOB, **changes: object) -> Message:
    """The `n`-th message to `owner`; it arrived an hour ago and expires in one."""
    return message(n, owner, **{"inc_time_s": NOW_S - 3600, "exp_time_s": NOW_S + 3600, **changes})


async def set_aside(store: Storage, *messages: Message, status: int = 403, reason: str = "Forbidden") -> list[int]:
    """Store messages that their phones refuse; return their numbers."""
    numbers = await append(store, *messages)
    for owner in dict.fromkeys(refused.owner for refused in messages):
        await dump(store, owner, now_ms=NOW_MS)
    for number, refused in zip(numbers, messages, strict=True):
        assert await settle(store, number, Outcome.REFUSED, owner=refused.owner, status=status, reason=reason)
    return numbers


async def lease(store: Storage, owner: Aor = BOB) -> list[int]:
    """Let a server deliver what waits; return the numbers."""
    leased = await dump(store, owner, node="one", now_ms=NOW_MS, lease_ms=60_000)
    return [message.message_id for message in leased.messages]


async def numbers_of(store: Storage, *, dead: bool) -> list[int]:
    return [message.message_id for message in await store.list(dead=dead)]


class TestFind:
    async def test_one_that_was_never_tried(self, store: Storage) -> None:
        number, _ = await append(store, fresh(1, extra_hdrs="Subject: lunch\r\n"), fresh(2))
        found = await store.find(number)
        assert found is not None
        assert found.message in await store.list()
        assert found.message.extra_hdrs == "Subject: lunch\r\n"
        assert found == Entry(message=found.message)

    async def test_one_that_is_not_there(self, store: Storage) -> None:
        (number,) = await append(store, fresh())
        assert await store.find(number + 1) is None
        assert await store.find(0) is None

    async def test_what_was_answered_and_how_often_it_came_again(self, store: Storage) -> None:
        (number,) = await append(store, fresh())
        await dump(store, now_ms=NOW_MS)
        assert await settle(store, number, Outcome.FAILED, status=486, reason="Busy Here")
        for _ in range(2):
            (again,) = await store.append(stores(fresh()))
            assert isinstance(again, Stored)
            assert again.repeated
        found = await store.find(number)
        assert found is not None
        assert (found.last_status, found.repeats) == (486, 2)
        assert (found.message.status, found.message.attempts, found.message.reason) == (0, 1, "Busy Here")

    async def test_one_that_was_set_aside(self, store: Storage) -> None:
        (number,) = await set_aside(store, fresh())
        found = await store.find(number)
        assert found is not None
        assert (found.last_status, found.message.status, found.message.reason) == (403, 403, "Forbidden")
        assert (found.lease_node, found.lease_until_ms) == ("", 0)

    async def test_who_delivers_it_and_until_when(self, store: Storage, peer: Storage) -> None:
        (number,) = await append(store, fresh())
        await lease(store)
        found = await peer.find(number)
        assert found is not None
        assert found.lease_node == "one"
        assert 0 < found.lease_until_ms - time.time_ns() // 1_000_000 <= 60_000
        await dump(store, now_ms=NOW_MS, lease_ms=0)
        ended = await peer.find(number)
        assert ended is not None
        assert (ended.lease_node, ended.lease_until_ms) == ("", 0)


class TestListDead:
    async def test_in_pages(self, store: Storage) -> None:
        numbers = await set_aside(store, fresh(1), fresh(2, CAROL), fresh(3), fresh(4))
        await append(store, fresh(5), fresh(6, CAROL))
        assert [m.message_id for m in await store.list(dead=True, limit=2)] == numbers[:2]
        assert [m.message_id for m in await store.list(dead=True, after=numbers[1])] == numbers[2:]
        of_bob = await store.list(str(BOB), dead=True, after=numbers[0])
        assert [m.message_id for m in of_bob] == numbers[2:]
        assert await store.list(str(CAROL), dead=True, limit=0) == []


class TestRequeue:
    async def test_it_waits_again_as_if_it_had_never_been_tried(self, store: Storage, peer: Storage) -> None:
        (dead,) = await set_aside(store, fresh(1))
        (waiting,) = await append(store, fresh(2))
        assert await peer.requeue([dead]) == Sweep(done=(dead,), left=(), after=None)
        assert await numbers_of(store, dead=True) == []
        found = await store.find(dead)
        assert found is not None
        assert (found.message.status, found.message.attempts, found.message.reached) == (0, 0, 0)
        # What happened to it is still to be seen.
        assert (found.message.reason, found.last_status) == ("Forbidden", 403)
        assert [m.message_id for m in (await dump(store, now_ms=NOW_MS)).messages] == [dead, waiting]
        assert await numbers_of(store, dead=False) == [dead, waiting]

    async def test_only_what_was_named_and_set_aside(self, store: Storage) -> None:
        first, second, third = await set_aside(store, fresh(1), fresh(2), fresh(3))
        (waiting,) = await append(store, fresh(4))
        swept = await store.requeue([third, waiting, first, 10**9, first])
        assert swept == Sweep(done=(first, third), left=(), after=None)
        assert await numbers_of(store, dead=True) == [second]
        assert await store.requeue([]) == Sweep(done=(), left=(), after=None)

    async def test_those_of_an_owner_or_all(self, store: Storage) -> None:
        first, carols, third = await set_aside(store, fresh(1), fresh(2, CAROL), fresh(3))
        assert (await store.requeue([first, carols], owner=str(CAROL))).done == (carols,)
        assert (await store.requeue(owner=str(CAROL))).done == ()
        assert (await store.requeue(owner=str(BOB))).done == (first, third)
        await set_aside(store, fresh(4), fresh(5, CAROL))
        assert len((await store.requeue()).done) == 2

    async def test_what_has_expired_stays_dead(self, store: Storage) -> None:
        expired, alive = await append(store, fresh(1, exp_time_s=NOW_S - 5), fresh(2))
        await dump(store, now_ms=NOW_MS - 10_000)
        for number in (expired, alive):
            assert await settle(store, number, Outcome.REFUSED, status=403)
        assert await store.requeue() == Sweep(done=(alive,), left=(expired,), after=None)
        assert await numbers_of(store, dead=True) == [expired]

    async def test_in_pages(self, store: Storage) -> None:
        numbers = await set_aside(store, *(fresh(n) for n in range(5)))
        assert await store.requeue(limit=2) == Sweep(done=(*numbers[:2],), left=(), after=numbers[1])
        rest = await store.requeue(limit=10, after=numbers[2])
        assert rest == Sweep(done=(*numbers[3:],), left=(), after=None)
        assert await numbers_of(store, dead=True) == [numbers[2]]

    async def test_a_deferred_one_keeps_its_time(self, store: Storage) -> None:
        (number,) = await append(store, fresh(snd_time_s=NOW_S - 10))
        await dump(store, now_ms=NOW_MS)
        assert await settle(store, number, Outcome.REFUSED, status=403)
        await store.requeue()
        (again,) = (await dump(store, now_ms=NOW_MS)).messages
        assert again.snd_time_s == NOW_S - 10

    async def test_whoever_is_registered_need_not_register_again(self, store: Storage) -> None:
        bobs, carols = await set_aside(store, fresh(1), fresh(2, CAROL))
        here, gone = binding(expires_s=NOW_S + 3600), binding(expires_s=NOW_S - 1)
        await store.bind([bind(here, now_s=NOW_S), bind(gone, owner=CAROL, now_s=NOW_S - 60)])
        await store.requeue()
        found = [await store.find(number) for number in (bobs, carols)]
        times = [entry.message.next_time_s for entry in found if entry is not None]
        assert NOW_S <= times[0] <= time.time()
        assert times[1] == 0

    async def test_an_owner_that_is_none(self, store: Storage) -> None:
        for call in (store.requeue, store.purge, store.stats):
            with pytest.raises(ParseError):
                await call(owner="bob")


class TestPurge:
    async def test_what_was_set_aside(self, store: Storage, peer: Storage) -> None:
        dead = await set_aside(store, fresh(1), fresh(2, CAROL))
        (waiting,) = await append(store, fresh(3))
        assert await peer.purge() == Sweep(done=(*dead,), left=(), after=None)
        assert [await store.find(number) for number in dead] == [None, None]
        assert await numbers_of(store, dead=False) == [waiting]
        # The same may be stored again.
        (again,) = await store.append(stores(fresh(1)))
        assert isinstance(again, Stored)
        assert not again.repeated

    async def test_by_number_owner_and_arrival(self, store: Storage) -> None:
        numbers = await set_aside(
            store, fresh(1), fresh(2, CAROL), fresh(3, inc_time_s=NOW_S - 10), fresh(4), fresh(5, CAROL)
        )
        assert (await store.purge([numbers[3], 10**9])).done == (numbers[3],)
        assert (await store.purge([numbers[0]], owner=str(CAROL))).done == ()
        assert (await store.purge(owner=str(CAROL), received_before_s=NOW_S - 3600)).done == ()
        assert (await store.purge(received_before_s=NOW_S - 3599, owner=str(BOB))).done == (numbers[0],)
        assert (await store.purge(owner=str(CAROL))).done == (numbers[1], numbers[4])
        assert await numbers_of(store, dead=True) == [numbers[2]]

    async def test_what_waits_only_if_told_so(self, store: Storage) -> None:
        (dead,) = await set_aside(store, fresh(1))
        waiting, deferred = await append(store, fresh(2), fresh(3, snd_time_s=NOW_S + 60))
        assert (await store.purge([waiting, deferred])).done == ()
        assert (await store.purge([waiting], waiting=True)).done == (waiting,)
        assert (await store.purge(waiting=True)).done == (dead, deferred)
        assert await store.list() == []

    async def test_what_is_being_delivered_is_left(self, store: Storage, peer: Storage) -> None:
        (leased,) = await append(store, fresh(1))
        assert await lease(store) == [leased]
        (free,) = await append(store, fresh(2))
        assert await peer.purge(waiting=True) == Sweep(done=(free,), left=(leased,), after=None)
        assert await settle(store, leased, Outcome.RELEASED)
        assert (await peer.purge(waiting=True)).done == (leased,)

    async def test_a_delivery_that_outlived_its_lease_finds_it_gone(self, store: Storage, peer: Storage) -> None:
        (number,) = await append(store, fresh(1))
        await dump(store, now_ms=NOW_MS, lease_ms=0)
        assert (await peer.purge([number], waiting=True)).done == (number,)
        assert not await settle(store, number)

    async def test_in_pages(self, store: Storage) -> None:
        numbers = await set_aside(store, *(fresh(n) for n in range(5)))
        after: int | None = 0
        pages: list[tuple[int, ...]] = []
        while after is not None:
            page = await store.purge(after=after, limit=2)
            pages.append(page.done)
            after = page.after
        assert [number for page in pages for number in page] == numbers
        assert max(map(len, pages)) == 2


class TestExpiry:
    async def test_what_was_set_aside_expires_too(self, store: Storage) -> None:
        early, late = await append(store, fresh(1, exp_time_s=NOW_S + 1), fresh(2, exp_time_s=NOW_S + 2))
        await dump(store, now_ms=NOW_MS)
        for number in (early, late):
            assert await settle(store, number, Outcome.REFUSED, status=403)
        assert await store.expire([Expire(1, NOW_MS)]) == [Expired(1, 0)]
        assert await store.expire([Expire(1, NOW_MS + 1000)]) == [Expired(1, 1)]
        assert await numbers_of(store, dead=True) == [late]
        assert (await store.check()).dead == 1


class TestStats:
    async def test_nothing(self, store: Storage) -> None:
        assert await store.stats() == Totals(
            waiting=0, deferred=0, leased=0, dead=0, dead_by_status={}, oldest_inc_time_s=0, body_bytes=0, owners=()
        )

    async def test_everything_is_counted(self, store: Storage) -> None:
        await set_aside(store, fresh(1), fresh(2, CAROL, body=b"\xff" * 70_000))
        await set_aside(store, fresh(3), status=488)
        await append(store, fresh(4, inc_time_s=NOW_S - 60), fresh(5, inc_time_s=NOW_S - 50))
        await lease(store)
        dave = Aor("dave", "example.com")
        await append(store, fresh(6, snd_time_s=NOW_S + 60), fresh(7, dave, inc_time_s=NOW_S - 30, body=b""))
        assert await store.stats() == Totals(
            waiting=4,
            deferred=1,
            leased=2,
            dead=3,
            dead_by_status={403: 2, 488: 1},
            oldest_inc_time_s=NOW_S - 60,
            body_bytes=70_000 + 5 * len(b"message 1"),
            owners=((BOB, 5), (CAROL, 1), (dave, 1)),
        )
        of_carol = await store.stats(str(CAROL))
        assert of_carol == Totals(
            waiting=0,
            deferred=0,
            leased=0,
            dead=1,
            dead_by_status={403: 1},
            oldest_inc_time_s=0,
            body_bytes=70_000,
            owners=((CAROL, 1),),
        )
        assert (await store.stats(owners_max=1)).owners == ((BOB, 5),)
        assert (await store.stats(owners_max=0)).owners == ()
