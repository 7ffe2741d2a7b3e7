"""What every store promises, each test over all of them and in every event loop."""

import anyio
import msgspec
import pytest

from msilo_core.actions import (
    Bound,
    Due,
    Dump,
    Dumped,
    Expire,
    Expired,
    LookedUp,
    LookUp,
    Message,
    Outcome,
    Refused,
    Remind,
    Retry,
    Settle,
    Settled,
    StorageFailed,
    Stored,
    Unbind,
    Unbound,
)
from msilo_core.errors import LocalError, ParseError
from msilo_core.flow import Flow
from msilo_core.uri import Aor
from msilo_core.users import User
from msilo_storage import Storage, StorageReport, open_store
from msilo_storage.rules import RETRY_ROWS_MAX
from tests.storage.values import (
    BOB,
    CAROL,
    EVERY_OCTET,
    HOSTILE_NAMES,
    NOW_MS,
    NOW_S,
    append,
    bind,
    binding,
    dump,
    message,
    remind,
    renew,
    retry,
    settle,
    stores,
)

TAKEN = (Outcome.DELIVERED, Outcome.WITHDRAWN)


class TestAppend:
    @pytest.mark.parametrize(
        "body",
        [b"", b"\0", EVERY_OCTET, "Grüße 👋".encode(), b"\xff" * 65_535],
        ids=["empty", "nul", "8-bit", "utf-8", "64k"],
    )
    async def test_a_message_comes_back_octet_for_octet(self, store: Storage, body: bytes) -> None:
        raw = EVERY_OCTET.decode("utf-8", "surrogateescape")
        sent = Message(
            owner=Aor("bøb", "example.com"),
            src_addr="sip:alice@example.com;transport=tcp",
            dst_addr="sips:bob@[2001:db8::1]",
            inc_time_s=NOW_S,
            exp_time_s=2**40,
            ctype='text/plain; charset="utf-8"',
            body=body,
            extra_hdrs=f"Subject: {raw}\r\nX-Empty:\r\n",
            callid="call\\id'\"",
            cseq=2**31 - 1,
            from_tag="täg",
            from_hdr=f'"{raw}" <sip:alice@example.com>;tag=täg',
            to_hdr=f"<sip:bob@example.com>;x={raw}",
            date_hdr=raw,
            imdn=1,
            attempts=3,
            reached=2,
            next_time_s=NOW_S - 1,
        )
        (number,) = await append(store, sent)
        kept = await store.list()
        assert kept == [msgspec.structs.replace(sent, message_id=number)]
        assert (await dump(store, sent.owner)).messages == (*kept,)

    async def test_numbers_ascend_in_the_order_of_arrival(self, store: Storage) -> None:
        first = await append(store, *(message(n) for n in range(500)))
        second = await append(store, *(message(n) for n in range(500, 520)))
        assert first + second == sorted({*first, *second})
        assert [m.callid for m in (await dump(store, messages_max=1000)).messages] == [
            message(n).callid for n in range(520)
        ]

    async def test_a_repeat_gets_the_number_of_the_row_that_is_there(self, store: Storage) -> None:
        (number,) = await append(store, message())
        (store_again,) = stores(message(body=b"other"))
        assert await store.append([store_again]) == [Stored(store_again.token, number, repeated=True)]
        assert [m.body for m in await store.list()] == [message().body]

    async def test_repeats_among_others_in_one_batch(self, store: Storage) -> None:
        (old,) = await append(store, message(0))
        batch = stores(
            message(1),
            message(0),
            message(2, cseq=-1),
            message(1),
            message(2, cseq=-1),
            message(3),
            message(3),
        )
        answers = await store.append(batch)
        assert [answer.token for answer in answers] == [s.token for s in batch]
        numbers = [answer.message_id for answer in answers if isinstance(answer, Stored)]
        repeated = [answer.repeated for answer in answers if isinstance(answer, Stored)]
        assert repeated == [False, True, False, True, False, False, True]
        assert numbers[1] == old
        assert numbers[3] == numbers[0]
        assert numbers[6] == numbers[5]
        assert [m.message_id for m in await store.list()] == [old, numbers[0], numbers[2], numbers[4], numbers[5]]
        assert [m.cseq for m in await store.list()] == [1, 1, -1, -1, 1]

    @pytest.mark.parametrize(
        "change",
        [{"owner": CAROL}, {"callid": "another"}, {"cseq": 2}, {"from_tag": "another"}, {"from_tag": ""}],
        ids=["owner", "Call-ID", "CSeq", "From tag", "no From tag"],
    )
    async def test_what_differs_in_its_key_is_no_repeat(self, store: Storage, change: dict[str, object]) -> None:
        first, second = await append(store, message(), msgspec.structs.replace(message(), **change))
        assert first < second

    async def test_what_a_database_refuses_fails_alone(self, store: Storage) -> None:
        batch = stores(message(1), message(2, callid="\udcff"), message(3), message(4, inc_time_s=2**63), message(5))
        answers = await store.append(batch)
        assert [answer.token for answer in answers] == [s.token for s in batch]
        sound = [type(answers[n]) for n in (0, 2, 4)]
        assert sound == [Stored] * 3
        assert all(type(answers[n]) in (Stored, StorageFailed) for n in (1, 3))
        kept = [s.message.body for s, answer in zip(batch, answers, strict=True) if isinstance(answer, Stored)]
        assert [m.body for m in await store.list()] == kept

    async def test_nothing_to_do(self, store: Storage) -> None:
        assert await store.append([]) == []
        assert await store.look_up([]) == []
        assert await store.bind([]) == []
        assert await store.dump([]) == []
        assert await store.settle([]) == []
        assert await store.expire([]) == []
        assert await store.remind([]) == []


class TestInboxFull:
    async def test_no_more_than_the_bound(self, store: Storage) -> None:
        (first,) = await store.append(stores(message(1), messages_max=3))
        batch = stores(message(2), message(3), message(4), message(1, CAROL), message(5), messages_max=3)
        answers = await store.append(batch)
        kinds = [type(answer) for answer in (first, *answers)]
        assert kinds == [Stored, Stored, Stored, Refused, Stored, Refused]
        assert answers[2] == Refused(batch[2].token, 480, "Inbox Full")
        assert [m.callid for m in await store.list(str(BOB))] == [message(n).callid for n in (1, 2, 3)]
        # Numbers ascend in the order of arrival, the refused left out.
        assert [m.callid for m in await store.list()] == [
            message(n, owner).callid for n, owner in ((1, BOB), (2, BOB), (3, BOB), (1, CAROL))
        ]

    async def test_a_repeat_is_not_one_more(self, store: Storage) -> None:
        numbers = await append(store, message(1), message(2, cseq=-1))
        batch = stores(message(1), message(2, cseq=-1), message(3), message(3), message(4), message(1), messages_max=3)
        answers = await store.append(batch)
        said = [(type(answer), isinstance(answer, Stored) and answer.repeated) for answer in answers]
        # Kamailio's rows have no key that tells a repeat.
        assert said == [
            (Stored, True), (Stored, False), (Refused, False), (Refused, False), (Refused, False), (Stored, True),
        ]  # fmt: skip
        assert [answer.message_id for answer in answers if isinstance(answer, Stored)][::2] == numbers[:1] * 2
        assert len(await store.list()) == 3

    async def test_a_repeat_within_the_batch_takes_the_last_place_but_once(self, store: Storage) -> None:
        answers = await store.append(stores(message(1), message(1), message(2), message(3), messages_max=2))
        said = [(type(answer), isinstance(answer, Stored) and answer.repeated) for answer in answers]
        assert said == [(Stored, False), (Stored, True), (Stored, False), (Refused, False)]

    async def test_each_has_the_bound_that_it_comes_with(self, store: Storage) -> None:
        batch = [
            *stores(message(1), message(2)),
            *stores(message(3), messages_max=2),
            *stores(message(4), messages_max=3),
            *stores(message(5), messages_max=3),
            *stores(message(6)),
        ]
        kinds = [type(answer) for answer in await store.append(batch)]
        assert kinds == [Stored, Stored, Refused, Stored, Refused, Stored]

    async def test_deferred_ones_count_and_those_set_aside_do_not(self, store: Storage) -> None:
        dead, _ = await append(store, message(1), message(2, snd_time_s=NOW_S + 500))
        assert [type(a) for a in await store.append(stores(message(3), messages_max=2))] == [Refused]
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED)
        kinds = [type(a) for a in await store.append(stores(message(3), message(4), messages_max=2))]
        assert kinds == [Stored, Refused]

    async def test_there_is_room_again_after_a_delivery(self, store: Storage) -> None:
        (number,) = await append(store, message(1))
        assert [type(a) for a in await store.append(stores(message(2), messages_max=1))] == [Refused]
        await dump(store)
        assert await settle(store, number)
        assert [type(a) for a in await store.append(stores(message(2), messages_max=1))] == [Stored]

    async def test_what_a_database_refuses_takes_no_place(self, store: Storage) -> None:
        batch = stores(message(1, inc_time_s=2**63), message(2), message(3), messages_max=2)
        answers = await store.append(batch)
        assert [answer.token for answer in answers] == [s.token for s in batch]
        assert len(await store.list()) == 2

    async def test_it_is_exact_also_among_servers(self, store: Storage, peer: Storage) -> None:
        owners = [Aor(f"user{n}", "example.com") for n in range(4)]
        answers: list[object] = []

        async def fill(view: Storage, start: int, order: int) -> None:
            for n in range(start, start + 10):
                batch = stores(*(message(n, owner) for owner in owners[::order]), messages_max=25)
                answers.extend(await view.append(batch))

        async with anyio.create_task_group() as tasks:
            for n in range(6):
                tasks.start_soon(fill, (store, peer)[n % 2], 10 * n, (1, -1)[n % 2])
        assert sum(type(answer) is Stored for answer in answers) == 100
        assert sum(type(answer) is Refused for answer in answers) == 140
        for owner in owners:
            assert len(await store.list(str(owner))) == 25


class TestDump:
    async def test_oldest_first_and_no_more_than_asked_for(self, store: Storage) -> None:
        numbers = await append(store, *(message(n) for n in range(5)))
        assert [m.message_id for m in (await dump(store, messages_max=3)).messages] == numbers[:3]

    async def test_many_owners_at_once(self, store: Storage) -> None:
        owners = [Aor(f"user{n}", "example.com") for n in range(30)]
        await append(store, *(message(n, owner) for n, owner in enumerate(owners[:20])))
        await append(store, *(message(100 + n, owner) for n, owner in enumerate(owners[:10])))
        # Not in any order that a store may find convenient.
        asked = [Dump(n, owners[n], 5, "one", NOW_MS, 1000) for n in (7, 25, 3, 19, 12, 0, 29, 8)]
        answers = await store.dump(asked)
        for action, answer in zip(asked, answers, strict=True):
            assert isinstance(answer, Dumped)
            assert answer.token == action.token
            assert answer.busy_ms == 0
            assert {m.owner for m in answer.messages} <= {action.owner}
            assert len(answer.messages) == (2 if action.token < 10 else 1 if action.token < 20 else 0)

    async def test_only_what_waits_for_delivery(self, store: Storage) -> None:
        _, last, _, dead = await append(
            store,
            message(1, exp_time_s=NOW_S),
            message(2, exp_time_s=NOW_S + 1),
            message(3, snd_time_s=NOW_S + 1000),
            message(4),
        )
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED, status=488)
        assert [m.message_id for m in (await dump(store)).messages] == [last]
        assert (await dump(store, now_ms=NOW_MS + 999)).messages != ()
        assert (await dump(store, now_ms=NOW_MS + 1000)).messages == ()

    async def test_what_another_node_leased_is_left_to_it_until_the_end(self, store: Storage, peer: Storage) -> None:
        await append(store, message(1), message(2))
        assert len((await dump(store, node="one", lease_ms=10_000)).messages) == 2
        # What the nodes think that the time is does not matter.
        refused = await dump(peer, node="two", now_ms=NOW_MS + 900_000)
        assert refused.messages == ()
        assert 5_000 < refused.busy_ms <= 10_000
        await dump(store, node="one", lease_ms=1)
        await anyio.sleep(0.05)
        taken = await dump(peer, node="two", lease_ms=10_000)
        assert len(taken.messages) == 2
        assert taken.busy_ms == 0
        assert (await dump(store, node="one", now_ms=NOW_MS - 900_000)).busy_ms > 5_000

    async def test_its_own_lease_is_taken_again_with_a_new_end(self, store: Storage, peer: Storage) -> None:
        await append(store, message(1))
        await dump(store, lease_ms=1)
        await append(store, message(2))
        assert len((await dump(store, lease_ms=20_000)).messages) == 2
        assert (await dump(peer, node="two")).busy_ms > 10_000

    async def test_one_that_its_node_never_settled_may_have_reached_a_phone(
        self, store: Storage, peer: Storage
    ) -> None:
        first, second = await append(store, message(1), message(2))
        await dump(store, node="one", lease_ms=1)
        assert await settle(store, second, Outcome.RELEASED, node="one")
        await anyio.sleep(0.05)
        taken = (await dump(peer, node="two")).messages
        assert [(m.message_id, m.reached, m.attempts) for m in taken] == [(first, 1, 0), (second, 0, 0)]
        assert [m.reached for m in await store.list()] == [1, 0]

    async def test_what_is_to_be_tried_later_is_left_and_nothing_overtakes_it(self, store: Storage) -> None:
        first, second = await append(store, message(1), message(2))
        await dump(store)
        assert await settle(store, first, Outcome.FAILED, next_time_s=NOW_S + 5)
        assert await settle(store, second, Outcome.RELEASED)
        early = await dump(store, now_ms=NOW_MS + 4_999, is_early=False)
        assert (early.messages, early.busy_ms, early.is_early) == ((), 0, True)
        due = await dump(store, now_ms=NOW_MS + 5_000, is_early=False)
        assert [m.message_id for m in due.messages] == [first, second]
        assert not due.is_early

    async def test_whoever_registers_does_not_wait_for_that(self, store: Storage) -> None:
        (number,) = await append(store, message())
        await dump(store)
        assert await settle(store, number, Outcome.FAILED, next_time_s=NOW_S + 5)
        assert len((await dump(store, is_early=True)).messages) == 1

    async def test_one_in_the_middle_that_is_to_be_tried_later_holds_up_nothing(self, store: Storage) -> None:
        await append(store, message(1), message(2, next_time_s=NOW_S + 5), message(3))
        assert len((await dump(store, is_early=False)).messages) == 3

    async def test_a_page_that_another_took_is_not_early(self, store: Storage, peer: Storage) -> None:
        await append(store, message(1, next_time_s=NOW_S + 5))
        await dump(store)
        taken = await dump(peer, node="two", is_early=False)
        assert taken.busy_ms > 0
        assert not taken.is_early

    async def test_a_lease_ends_before_a_row_that_another_node_holds(self, store: Storage, peer: Storage) -> None:
        first, second, third = await append(store, message(1), message(2), message(3))
        await dump(store, node="one")
        assert await settle(store, first, Outcome.RELEASED, node="one")
        assert await settle(store, third, Outcome.RELEASED, node="one")
        taken = await dump(peer, node="two")
        assert [m.message_id for m in taken.messages] == [first]
        assert taken.busy_ms == 0
        again = await dump(store, node="one")
        assert again.messages == ()
        assert await settle(peer, first, node="two")
        assert [m.message_id for m in (await dump(store, node="one")).messages] == [second, third]

    async def test_two_nodes_never_hold_one_inbox(self, store: Storage, peer: Storage) -> None:
        owners = [Aor(f"user{n}", "example.com") for n in range(8)]
        await append(store, *(message(n, owner) for owner in owners for n in range(3)))

        async def take(view: Storage, node: str, order: int, taken: dict[str, list[Dumped]]) -> None:
            asked = [Dump(n, owner, 2, node, NOW_MS, 10_000) for n, owner in enumerate(owners)]
            answers = await view.dump(asked[::order])
            taken[node] = [answer for answer in answers[::order] if isinstance(answer, Dumped)]

        for _ in range(10):
            taken: dict[str, list[Dumped]] = {}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, store, "one", 1, taken)
                tasks.start_soon(take, peer, "two", -1, taken)
            for owner, one, two in zip(owners, taken["one"], taken["two"], strict=True):
                # Where the two met exactly neither may have it, or one has what is before the row where they met; both
                # ask again soon.
                assert not (one.messages and two.messages)
                for node, answer in (("one", one), ("two", two)):
                    assert bool(answer.messages) != bool(answer.busy_ms)
                    for leased in answer.messages:
                        assert await settle(store, leased.message_id, Outcome.RELEASED, owner=owner, node=node)


class TestRenew:
    async def test_what_is_held_runs_on(self, store: Storage, peer: Storage) -> None:
        first, second, third = await append(store, message(1), message(2), message(3))
        await dump(store, lease_ms=1, messages_max=2)
        assert await renew(store, first, second, third, lease_ms=10_000) == (first, second)
        await anyio.sleep(0.05)
        assert (await dump(peer, node="two")).busy_ms > 5_000

    async def test_not_what_another_took_or_is_gone(self, store: Storage, peer: Storage) -> None:
        first, second, third = await append(store, message(1), message(2), message(3))
        await dump(store, lease_ms=0)
        assert await settle(store, first)
        assert await settle(store, second, Outcome.REFUSED)
        await dump(peer, node="two", lease_ms=10_000)
        assert await renew(store, first, second, third) == ()
        assert (await dump(store)).busy_ms > 5_000

    async def test_what_ran_out_and_nobody_took_is_had_again(self, store: Storage, peer: Storage) -> None:
        (number,) = await append(store, message())
        await dump(store, lease_ms=0)
        assert await renew(store, number) == (number,)
        assert (await dump(peer, node="two")).busy_ms > 5_000

    async def test_only_of_this_owner(self, store: Storage) -> None:
        (number,) = await append(store, message())
        await dump(store, lease_ms=0)
        assert await renew(store, number, owner=CAROL) == ()


class TestWhoeverIsThere:
    """Somebody looks for a message whose owner has registered since he was looked for."""

    async def test_it_is_found(self, store: Storage, peer: Storage) -> None:
        await peer.bind([bind(binding())])
        await append(store, message(1), message(2, CAROL), message(3, next_time_s=NOW_S + 9))
        await append(store, message(4, snd_time_s=NOW_S + 9), message(5, inc_time_s=NOW_S + 2))
        assert [m.next_time_s for m in await store.list()] == [NOW_S, 0, NOW_S + 9, 0, NOW_S + 2]
        assert await retry(peer, node="two") == (BOB,)

    async def test_one_whose_binding_has_ended_is_not(self, store: Storage) -> None:
        await store.bind([bind(binding(expires_s=NOW_S + 5))])
        await append(store, message(inc_time_s=NOW_S + 5))
        assert [m.next_time_s for m in await store.list()] == [0]

    async def test_a_repeat_changes_nothing(self, store: Storage) -> None:
        await append(store, message(1))
        await store.bind([bind(binding())])
        before = await store.list()
        await append(store, message(1))
        assert await store.list() == before


class TestUnbind:
    async def test_it_is_gone(self, store: Storage) -> None:
        other = binding("sip:bob@192.0.2.2")
        await store.bind([bind(binding(), other)])
        assert await store.unbind([Unbind(5, BOB, binding().contact, NOW_MS)]) == [Unbound(5)]
        (found,) = await store.look_up([LookUp(1, BOB, NOW_S)])
        assert found == LookedUp(1, (other,), waiting=False)

    async def test_one_that_was_refreshed_stays(self, store: Storage) -> None:
        await store.bind([bind(binding())])
        await store.bind([bind(binding(cseq=2, updated_ms=NOW_MS + 1), cseq=2)])
        assert await store.unbind([Unbind(5, BOB, binding().contact, NOW_MS)]) == [Unbound(5)]
        (found,) = await store.look_up([LookUp(1, BOB, NOW_S)])
        assert isinstance(found, LookedUp)
        assert len(found.bindings) == 1

    async def test_nobody(self, store: Storage) -> None:
        assert await store.unbind([Unbind(5, CAROL, "sip:x@192.0.2.9", 0)]) == [Unbound(5)]


class TestRetry:
    async def test_what_failed_is_found_when_it_is_due(self, store: Storage) -> None:
        (number,) = await append(store, message())
        await store.bind([bind(binding())])
        await dump(store)
        assert await settle(store, number, Outcome.FAILED, status=503, next_time_s=NOW_S + 5)
        assert await retry(store, now_s=NOW_S + 4) == ()
        assert await retry(store, now_s=NOW_S + 5) == (BOB,)
        (waiting,) = await store.list()
        assert (waiting.attempts, waiting.reached, waiting.next_time_s) == (1, 1, NOW_S + 35)

    async def test_whoever_is_told_has_it_to_himself_for_a_while(self, store: Storage, peer: Storage) -> None:
        await append(store, message(next_time_s=NOW_S))
        await store.bind([bind(binding())])
        assert await retry(store, node="one") == (BOB,)
        assert await retry(peer, node="two", now_s=NOW_S + 29) == ()
        assert await retry(peer, node="two", now_s=NOW_S + 30) == (BOB,)

    async def test_what_a_node_left_is_found_after_the_end_of_its_lease(self, store: Storage, peer: Storage) -> None:
        numbers = await append(store, *(message(n) for n in range(3)))
        await store.bind([bind(binding())])
        await dump(store, node="one", lease_ms=1_500)
        assert await settle(store, numbers[0], node="one")
        assert await retry(peer, node="two", now_s=NOW_S + 1) == ()
        # The clock of a node is no measure.
        assert await retry(peer, node="two", now_s=NOW_S + 500) == ()
        await dump(store, node="one", lease_ms=0)
        assert await retry(peer, node="two", now_s=NOW_S + 2) == (BOB,)
        assert len((await dump(peer, node="two")).messages) == 2

    async def test_what_is_behind_a_page_is_found_though_all_of_that_was_delivered(
        self, store: Storage, peer: Storage
    ) -> None:
        numbers = await append(store, *(message(n) for n in range(4)))
        await store.bind([bind(binding())])
        await dump(store, node="one", lease_ms=1_500, messages_max=2)
        assert [m.next_time_s for m in await store.list()] == [0, 0, NOW_S + 2, 0]
        for number in numbers[:2]:
            assert await settle(store, number, node="one")
        assert await retry(peer, node="two", now_s=NOW_S + 1) == ()
        assert await retry(peer, node="two", now_s=NOW_S + 2) == (BOB,)
        assert [m.message_id for m in (await dump(peer, node="two")).messages] == numbers[2:]

    async def test_what_is_behind_a_page_is_not_leased(self, store: Storage, peer: Storage) -> None:
        first, second = await append(store, message(1), message(2))
        await dump(store, node="one", messages_max=1)
        assert not await settle(store, second, Outcome.RELEASED, node="one")
        assert await settle(store, first, node="one")
        (waiting,) = (await dump(peer, node="two")).messages
        assert (waiting.message_id, waiting.reached) == (second, 0)

    async def test_what_is_behind_one_that_is_leased_waits_for_the_end_of_that(
        self, store: Storage, peer: Storage
    ) -> None:
        await append(store, message(1), message(2, next_time_s=NOW_S))
        await store.bind([bind(binding())])
        await dump(store, node="one", messages_max=1, lease_ms=600_000)
        assert await retry(peer, node="two", now_s=NOW_S + 700) == ()
        _, behind = await store.list()
        # The clocks of the nodes are no measure.
        assert NOW_S + 700 + 590 < behind.next_time_s <= NOW_S + 700 + 601

    async def test_of_whom_nobody_is_registered_waits_for_a_REGISTER(self, store: Storage) -> None:  # noqa: N802
        await append(store, message(next_time_s=NOW_S))
        await store.bind([bind(binding(expires_s=NOW_S + 1))])
        assert await retry(store, now_s=NOW_S + 1) == ()
        assert [m.next_time_s for m in await store.list()] == [0]
        assert len((await dump(store, is_early=False)).messages) == 1

    async def test_unregistered_owners_where_a_proxy_knows_them(self, store: Storage) -> None:
        await append(store, message(next_time_s=NOW_S))
        assert await retry(store, unregistered=True) == (BOB,)

    async def test_a_connection_of_another_node_is_left_to_that(self, store: Storage, peer: Storage) -> None:
        await append(store, message(next_time_s=NOW_S))
        stream = Flow("tcp", ("192.0.2.100", 5060), ("192.0.2.1", 4711), 9)
        await store.bind([bind(binding(flow=stream, node="one"))])
        assert await retry(peer, node="two") == ()
        assert await retry(store, node="one") == (BOB,)

    async def test_what_only_a_node_reaches_that_is_gone_does_not_hide_others(self, store: Storage) -> None:
        owners = [Aor(f"user{n}", "example.com") for n in range(RETRY_ROWS_MAX)]
        await append(store, *(message(n, owner, next_time_s=NOW_S) for n, owner in enumerate(owners)))
        await append(store, message(next_time_s=NOW_S + 1))
        stream = Flow("tcp", ("192.0.2.100", 5060), ("192.0.2.1", 4711), 9)
        await store.bind([bind(binding(flow=stream, node="gone"), owner=owner) for owner in owners])
        await store.bind([bind(binding())])
        assert await retry(store, node="one", now_s=NOW_S + 29) == ()
        assert [m.next_time_s for m in await store.list(limit=1)] == [NOW_S]
        assert await retry(store, node="one", now_s=NOW_S + 30) == ()
        assert [m.next_time_s for m in await store.list(limit=1)] == [NOW_S + 60]
        assert await retry(store, node="one", now_s=NOW_S + 31) == (BOB,)

    async def test_not_what_is_deferred_expired_or_set_aside(self, store: Storage) -> None:
        *_, dead = await append(
            store,
            message(1, next_time_s=NOW_S, exp_time_s=NOW_S),
            message(2, next_time_s=NOW_S, snd_time_s=NOW_S + 5),
            message(3),
            message(4, next_time_s=NOW_S),
        )
        await store.bind([bind(binding())])
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED)
        assert await settle(store, dead - 1, Outcome.RELEASED)
        assert await retry(store) == ()

    async def test_what_is_behind_one_that_is_to_be_tried_later_waits_for_that(self, store: Storage) -> None:
        await append(store, message(1, next_time_s=NOW_S + 60), message(2, next_time_s=NOW_S))
        await store.bind([bind(binding())])
        assert await retry(store) == ()
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 60, NOW_S + 60]
        assert await retry(store, now_s=NOW_S + 60) == (BOB,)
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 90, NOW_S + 90]

    async def test_all_that_is_due_of_an_owner_is_put_off_together(self, store: Storage) -> None:
        await store.bind([bind(binding())])
        await append(store, *[message(n, next_time_s=NOW_S - n) for n in range(3)])
        assert await retry(store) == (BOB,)
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 30] * 3

    async def test_so_many_owners_those_longest_due_first(self, store: Storage) -> None:
        owners = [Aor(f"user{n}", "example.com") for n in range(4)]
        due = [message(n, owner, next_time_s=NOW_S - n) for n, owner in enumerate(owners)]
        await append(store, *due, message(9, owners[2], next_time_s=NOW_S))
        await store.bind([bind(binding(), owner=owner) for owner in owners])
        assert await retry(store, owners_max=2) == (owners[3], owners[2])
        assert await retry(store, owners_max=2) == (owners[1], owners[0])
        assert await retry(store) == ()

    async def test_several_in_one_batch(self, store: Storage) -> None:
        await append(store, message(1, next_time_s=NOW_S), message(1, CAROL, next_time_s=NOW_S + 1))
        await store.bind([bind(binding()), bind(binding(), owner=CAROL)])
        answers = await store.retry([Retry(1, NOW_S, "one", 9, 30), Retry(2, NOW_S + 1, "one", 9, 30)])
        assert answers == [Due(1, (BOB,)), Due(2, (CAROL,))]


class TestRegistered:
    """A server that answers a REGISTER may die before it leases what waits: others look for it then."""

    @pytest.mark.parametrize("contacts", [1, 2])
    async def test_what_waits_is_looked_for_where_nobody_leases_it(self, store: Storage, contacts: int) -> None:
        await append(store, message(1), message(2), message(1, CAROL))
        bindings = [binding(f"sip:bob@192.0.2.{n}") for n in range(contacts)]
        (bound,) = await store.bind([bind(*bindings)])
        assert isinstance(bound, Bound)
        assert bound.waiting
        assert await retry(store, now_s=NOW_S + 29) == ()
        assert await retry(store, now_s=NOW_S + 30) == (BOB,)

    @pytest.mark.parametrize("contacts", [1, 2])
    async def test_what_is_leased_is_looked_for_as_always(self, store: Storage, contacts: int) -> None:
        await append(store, message(1), message(2), message(3))
        await store.bind([bind(*[binding(f"sip:bob@192.0.2.{n}") for n in range(contacts)])])
        await dump(store, messages_max=2, lease_ms=10_000)
        assert [m.next_time_s for m in await store.list()] == [0, 0, NOW_S + 11]

    async def test_what_another_leases_is_left_to_that(self, store: Storage, peer: Storage) -> None:
        await append(store, message(1), message(2))
        await dump(peer, node="two", messages_max=1)
        await store.bind([bind(binding())])
        assert [m.next_time_s for m in await store.list()] == [0, NOW_S + 11]

    async def test_what_is_to_be_tried_again_is_so_when_it_was(self, store: Storage) -> None:
        await append(store, message(1, next_time_s=NOW_S + 5))
        await store.bind([bind(binding())])
        assert await retry(store, now_s=NOW_S + 5) == (BOB,)

    @pytest.mark.parametrize("contacts", [1, 2])
    async def test_contacts_that_take_no_messages_are_nobody_to_look_for(self, store: Storage, contacts: int) -> None:
        await append(store, message(1))
        await store.bind([bind(*[binding(f"sip:bob@192.0.2.{n}", methods="INVITE, BYE") for n in range(contacts)])])
        assert [m.next_time_s for m in await store.list()] == [0]

    async def test_what_is_for_later_and_what_was_set_aside_are_not_looked_for(self, store: Storage) -> None:
        (dead,) = await append(store, message(1))
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED)
        await append(store, message(2, snd_time_s=NOW_S - 1))
        await store.bind([bind(binding())])
        assert [m.next_time_s for m in await store.list(dead=True)] == [0]
        assert [m.next_time_s for m in await store.list()] == [0]


class TestHandingOn:
    """What others are to look at again they do, whatever becomes of the row that says so."""

    @pytest.mark.parametrize("way", ["expired", "purged"])
    async def test_the_oldest_that_waits_is_looked_for_instead(self, store: Storage, peer: Storage, way: str) -> None:
        (dead,) = await append(store, message(1))
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED)
        head, *_ = await append(
            store,
            message(2, exp_time_s=NOW_S + 5, next_time_s=NOW_S + 7),
            message(3, snd_time_s=NOW_S + 500),
            message(4),
            message(5),
            message(6, CAROL),
        )
        await store.bind([bind(binding())])
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 7, 0, 0, 0, 0]
        if way == "expired":
            assert await store.expire([Expire(1, NOW_MS + 5000)]) == [Expired(1, 1)]
        else:
            assert (await store.purge([head], waiting=True)).done == (head,)
        assert [m.next_time_s for m in await store.list()] == [0, NOW_S + 7, 0, 0]
        assert await retry(peer, node="two", now_s=NOW_S + 7) == (BOB,)

    @pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.WITHDRAWN, Outcome.REFUSED])
    async def test_also_where_the_last_of_a_page_is_the_first_to_leave(self, store: Storage, outcome: Outcome) -> None:
        first, second, third = await append(store, message(1), message(2), message(3))
        await dump(store)
        assert [m.next_time_s for m in await store.list()] == [0, 0, NOW_S + 11]
        assert await settle(store, third, outcome)
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 11, 0]
        assert await settle(store, first, outcome)
        assert [(m.message_id, m.next_time_s) for m in await store.list()] == [(second, NOW_S + 11)]

    async def test_a_page_has_one_that_others_look_for(self, store: Storage) -> None:
        await append(store, message(1, next_time_s=NOW_S + 5), message(2, next_time_s=NOW_S + 6), message(3))
        page = (await dump(store)).messages
        assert len(page) == 3
        assert [m.next_time_s for m in await store.list()] == [0, 0, NOW_S + 11]

    async def test_several_that_leave_at_once(self, store: Storage) -> None:
        times = [NOW_S + 9, NOW_S + 8, 0, 0]
        await append(store, *(message(n, exp_time_s=NOW_S + n // 3, next_time_s=t) for n, t in enumerate(times)))
        await append(store, message(1, CAROL, exp_time_s=NOW_S, next_time_s=NOW_S + 3, imdn=1), message(2, CAROL))
        await store.purge(owner="sip:nobody@example.com", waiting=True)
        (expired,) = await store.expire([Expire(1, NOW_MS)])
        assert isinstance(expired, Expired)
        assert expired.messages == 4
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 8, NOW_S + 3]

    async def test_one_that_has_a_time_of_its_own_keeps_it(self, store: Storage) -> None:
        first, *_ = await append(store, message(1, next_time_s=NOW_S), message(2, next_time_s=NOW_S + 60))
        await store.purge([first], waiting=True)
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 60]

    async def test_several_of_a_batch(self, store: Storage) -> None:
        numbers = await append(store, *(message(n) for n in range(4)))
        await dump(store)
        settles = [Settle(n, BOB, number, "one", Outcome.DELIVERED) for n, number in enumerate(numbers) if n != 1]
        assert await store.settle(settles) == [Settled(n) for n in (0, 2, 3)]
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 11]

    async def test_what_was_set_aside_hands_nothing_on(self, store: Storage) -> None:
        first, _ = await append(store, message(1, next_time_s=NOW_S), message(2))
        await dump(store, messages_max=1)
        assert await settle(store, first, Outcome.REFUSED, next_time_s=NOW_S + 4)
        before = await store.list()
        assert (await store.purge([first])).done == (first,)
        assert await store.list() == before


class TestSettle:
    async def test_delivered(self, store: Storage) -> None:
        first, second = await append(store, message(1), message(2))
        await dump(store)
        assert await settle(store, first)
        assert [m.message_id for m in await store.list()] == [second]
        assert not await settle(store, first)

    @pytest.mark.parametrize(("status", "noted"), [(488, 488), (0, 1)])
    async def test_refused(self, store: Storage, status: int, noted: int) -> None:
        (number,) = await append(store, message())
        await dump(store)
        assert await settle(store, number, Outcome.REFUSED, status=status, reason="Not Acceptable")
        assert await store.list() == []
        (dead,) = await store.list(dead=True)
        assert (dead.status, dead.reason, dead.attempts) == (noted, "Not Acceptable", 1)
        assert not await settle(store, number, Outcome.FAILED)

    @pytest.mark.parametrize(("outcome", "reached"), [(Outcome.FAILED, 1), (Outcome.UNREACHED, 0)])
    async def test_failed(self, store: Storage, peer: Storage, outcome: Outcome, reached: int) -> None:
        (number,) = await append(store, message())
        for attempt in (1, 2):
            await dump(store, node="one")
            assert await settle(
                store, number, outcome, status=486, reason="Busy Here", node="one", next_time_s=NOW_S + attempt
            )
            (waiting,) = await store.list()
            assert (waiting.status, waiting.reason, waiting.attempts) == (0, "Busy Here", attempt)
            assert (waiting.reached, waiting.next_time_s) == (reached * attempt, NOW_S + attempt)
        assert len((await dump(peer, node="two")).messages) == 1

    @pytest.mark.parametrize("outcome", [Outcome.RELEASED, Outcome.MISSED])
    async def test_not_tried(self, store: Storage, peer: Storage, outcome: Outcome) -> None:
        (number,) = await append(store, message())
        before = await store.list()
        await dump(store, node="one")
        assert await settle(store, number, outcome, status=480, reason="not tried", node="one")
        assert await store.list() == before
        await dump(store, node="one")
        assert await settle(store, number, outcome, node="one", next_time_s=NOW_S + 7)
        assert [m.next_time_s for m in await store.list()] == [NOW_S + 7]
        assert len((await dump(peer, node="two")).messages) == 1

    @pytest.mark.parametrize("outcome", TAKEN)
    @pytest.mark.parametrize("holder", ["", "one", "two"])
    async def test_what_a_phone_has_needs_no_lease(self, store: Storage, outcome: Outcome, holder: str) -> None:
        (number,) = await append(store, message())
        if holder:
            await dump(store, node=holder)
        assert await settle(store, number, outcome, node="one")
        assert await store.list() == []
        assert not await settle(store, number, outcome, node="one")

    @pytest.mark.parametrize("outcome", TAKEN)
    async def test_what_a_phone_has_is_not_set_aside(self, store: Storage, outcome: Outcome) -> None:
        (number,) = await append(store, message())
        await dump(store, node="two")
        assert await settle(store, number, Outcome.REFUSED, status=488, node="two")
        assert await settle(store, number, outcome, node="one")
        assert await store.list(dead=True) == []

    @pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (*TAKEN, Outcome.TAKEN)])
    @pytest.mark.parametrize("holder", ["", "two"])
    async def test_only_who_holds_the_lease_may_settle(self, store: Storage, outcome: Outcome, holder: str) -> None:
        (number,) = await append(store, message())
        if holder:
            await dump(store, node=holder)
        before = await store.list()
        assert not await settle(store, number, outcome, node="one", status=486, reason="Busy Here")
        assert await store.list() == before
        if holder:
            assert (await dump(store, node="one")).busy_ms > 5_000

    async def test_whoever_lost_the_lease_cannot_settle(self, store: Storage, peer: Storage) -> None:
        (number,) = await append(store, message())
        await dump(store, node="one", lease_ms=0)
        await dump(peer, node="two")
        assert not await settle(store, number, Outcome.FAILED, node="one")
        assert await settle(peer, number, Outcome.FAILED, node="two")

    async def test_a_lease_that_ran_out_and_nobody_took_still_counts(self, store: Storage) -> None:
        (number,) = await append(store, message())
        await dump(store, lease_ms=0)
        assert await settle(store, number)

    async def test_a_number_under_another_owner_is_not_found(self, store: Storage) -> None:
        (number,) = await append(store, message())
        await dump(store)
        assert not await settle(store, number, owner=CAROL)
        assert not await settle(store, number, Outcome.WITHDRAWN, owner=CAROL)
        assert len(await store.list()) == 1

    async def test_many_at_once_and_one_twice(self, store: Storage) -> None:
        numbers = await append(store, *(message(n) for n in range(6)))
        await dump(store)
        asked = [
            Settle(1, BOB, numbers[3], "one", Outcome.FAILED, 486, "Busy Here"),
            Settle(2, BOB, numbers[0], "one", Outcome.DELIVERED),
            Settle(3, BOB, numbers[1], "one", Outcome.REFUSED, 488),
            # It was given back by the first.
            Settle(4, BOB, numbers[3], "one", Outcome.FAILED, 480),
            Settle(5, BOB, numbers[2], "one", Outcome.FAILED, 480),
            Settle(6, BOB, numbers[2], "one", Outcome.WITHDRAWN),
            Settle(7, BOB, numbers[4], "one", Outcome.RELEASED),
            Settle(8, BOB, 10**9, "one", Outcome.DELIVERED),
        ]
        lost = {4, 8}
        assert await store.settle(asked) == [Settled(s.token, lost=s.token in lost) for s in asked]
        assert [m.message_id for m in await store.list()] == numbers[3:]
        assert [m.message_id for m in await store.list(dead=True)] == [numbers[1]]

    async def test_any_reason_can_be_noted(self, store: Storage) -> None:
        first, second = await append(store, message(1), message(2))
        await dump(store)
        assert await settle(store, first, Outcome.FAILED, reason="a\0b\udcffc€" + "x" * 8192)
        assert await settle(store, second, Outcome.FAILED, reason="Busy Here")
        assert [m.reason for m in await store.list()] == ["a\ufffdb\ufffdc€" + "x" * 8192, "Busy Here"]


class TestDeferred:
    async def test_they_are_taken_when_their_time_has_come_in_the_order_of_arrival(self, store: Storage) -> None:
        numbers = await append(
            store,
            message(1, snd_time_s=NOW_S + 20),
            message(2),
            message(3, snd_time_s=NOW_S),
            message(4, snd_time_s=NOW_S + 10),
            message(5),
        )
        first = await dump(store, messages_max=2)
        assert [m.message_id for m in first.messages] == [numbers[1], numbers[2]]
        assert [m.snd_time_s for m in first.messages] == [0, NOW_S]
        assert [m.message_id for m in (await dump(store)).messages] == [numbers[n] for n in (1, 2, 4)]
        later = await dump(store, now_ms=NOW_MS + 10_000)
        assert [m.message_id for m in later.messages] == [numbers[n] for n in (1, 2, 3, 4)]
        assert [m.message_id for m in (await dump(store, now_ms=NOW_MS + 20_000)).messages] == numbers

    async def test_one_that_another_node_leased_is_not_passed_by(self, store: Storage, peer: Storage) -> None:
        due, _ = await append(store, message(1, snd_time_s=NOW_S), message(2))
        await dump(store, node="one", messages_max=1)
        refused = await dump(peer, node="two")
        assert refused.messages == ()
        assert refused.busy_ms > 5_000
        assert await settle(store, due, Outcome.RELEASED)
        assert len((await dump(peer, node="two")).messages) == 2

    async def test_they_do_not_wait_before(self, store: Storage) -> None:
        await append(store, message(1, snd_time_s=NOW_S + 10, exp_time_s=NOW_S + 20))
        (bound,) = await store.bind([bind(binding())])
        assert isinstance(bound, Bound)
        assert not bound.waiting
        for now_s, is_waiting in ((NOW_S + 9, False), (NOW_S + 10, True), (NOW_S + 19, True), (NOW_S + 20, False)):
            assert await store.look_up([LookUp(1, BOB, now_s)]) == [LookedUp(1, (binding(),), is_waiting)]
            (bound,) = await store.bind([bind(now_s=now_s)])
            assert isinstance(bound, Bound)
            assert bound.waiting is is_waiting

    @pytest.mark.parametrize(
        ("outcome", "snd_time_s"),
        [(Outcome.FAILED, 0), (Outcome.MISSED, 0), (Outcome.RELEASED, NOW_S), (Outcome.REFUSED, NOW_S)],
        ids=lambda value: str(value),
    )
    async def test_one_that_failed_is_ordinary(self, store: Storage, outcome: Outcome, snd_time_s: int) -> None:
        (number,) = await append(store, message(snd_time_s=NOW_S))
        await dump(store)
        assert await settle(store, number, outcome)
        (kept,) = await store.list(dead=outcome is Outcome.REFUSED)
        assert kept.snd_time_s == snd_time_s
        assert kept.attempts == (outcome in (Outcome.FAILED, Outcome.REFUSED))

    async def test_many_are_taken_page_by_page(self, store: Storage) -> None:
        numbers = await append(store, *(message(n, snd_time_s=NOW_S - n % 7 if n % 3 else 0) for n in range(60)))
        taken: list[int] = []
        while page := (await dump(store, messages_max=16)).messages:
            taken += [m.message_id for m in page]
            for leased in page:
                assert await settle(store, leased.message_id)
        assert taken == numbers


class TestRemind:
    async def test_owners_that_are_registered(self, store: Storage) -> None:
        early, late, gone = (Aor(name, "example.com") for name in ("early", "late", "gone"))
        await append(
            store,
            message(1, late, snd_time_s=NOW_S),
            message(2, early, snd_time_s=NOW_S - 10),
            message(3, early, snd_time_s=NOW_S - 5),
            message(4, BOB, snd_time_s=NOW_S + 1),
            message(5, gone, snd_time_s=NOW_S),
            message(6, CAROL),
        )
        await store.bind([bind(binding(), owner=owner) for owner in (early, late, BOB, CAROL)])
        await store.bind([bind(binding(expires_s=NOW_S), owner=gone)])
        before = await store.list()
        assert await remind(store) == (early, late)
        # Until they are taken.
        assert await remind(store, owners_max=1) == (early,)
        assert await remind(store, now_s=NOW_S + 1) == (early, late, BOB)
        times = {late: NOW_S, early: NOW_S, BOB: NOW_S + 1}
        assert await store.list() == [
            msgspec.structs.replace(
                m, snd_time_s=0 if m.owner == gone else m.snd_time_s, next_time_s=times.get(m.owner, m.next_time_s)
            )
            for m in before
        ]

    async def test_what_nobody_takes_becomes_ordinary(self, store: Storage, peer: Storage) -> None:
        await append(store, message(snd_time_s=NOW_S - 500))
        await store.bind([bind(binding())])
        assert await remind(store, node="one") == (BOB,)
        assert await remind(peer, node="two", now_s=NOW_S + 89) == (BOB,)
        assert await remind(peer, node="two", now_s=NOW_S + 90) == ()
        assert [(m.snd_time_s, m.next_time_s) for m in await store.list()] == [(0, NOW_S + 90)]
        assert await retry(peer, node="two", now_s=NOW_S + 90) == (BOB,)

    async def test_a_connection_of_another_node_is_left_to_that(self, store: Storage, peer: Storage) -> None:
        await append(store, message(snd_time_s=NOW_S))
        stream = Flow("tcp", ("192.0.2.100", 5060), ("192.0.2.1", 4711), 9)
        await store.bind([bind(binding(flow=stream, node="one"))])
        assert await remind(peer, node="two", now_s=NOW_S + 89) == ()
        assert await remind(store, node="one", now_s=NOW_S + 89) == (BOB,)

    async def test_what_only_a_node_reaches_that_is_gone_becomes_ordinary(self, store: Storage) -> None:
        await append(store, message(1, CAROL, snd_time_s=NOW_S), message(2, snd_time_s=NOW_S + 60))
        stream = Flow("tcp", ("192.0.2.100", 5060), ("192.0.2.1", 4711), 9)
        await store.bind([bind(binding(flow=stream, node="gone"), owner=CAROL), bind(binding())])
        assert await remind(store, now_s=NOW_S + 90, owners_max=1) == (BOB,)
        assert [m.snd_time_s for m in await store.list()] == [0, NOW_S + 60]
        assert await retry(store, node="gone", now_s=NOW_S + 90) == (CAROL,)

    async def test_those_of_whoever_is_not_registered_become_ordinary(self, store: Storage) -> None:
        await append(store, message(1, snd_time_s=NOW_S), message(2, snd_time_s=NOW_S + 1))
        assert await remind(store) == ()
        assert [m.snd_time_s for m in await store.list()] == [0, NOW_S + 1]

    async def test_of_all_where_that_is_asked_for(self, store: Storage) -> None:
        await append(store, message(1, snd_time_s=NOW_S), message(1, CAROL, snd_time_s=NOW_S - 1))
        await store.bind([bind(binding())])
        assert await remind(store, unregistered=True) == (CAROL, BOB)
        assert [m.snd_time_s for m in await store.list()] == [NOW_S, NOW_S - 1]

    @pytest.mark.parametrize("registered", [True, False])
    async def test_not_what_is_leased_expired_or_set_aside(
        self, store: Storage, peer: Storage, registered: bool
    ) -> None:
        dead, leased, _ = await append(
            store,
            message(1, snd_time_s=NOW_S),
            message(2, snd_time_s=NOW_S),
            message(3, snd_time_s=NOW_S - 2, exp_time_s=NOW_S),
        )
        if registered:
            await store.bind([bind(binding())])
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED)
        assert await remind(peer) == ()
        (kept,) = (m for m in await store.list() if m.message_id == leased)
        assert kept.snd_time_s == NOW_S
        await dump(store, lease_ms=0)
        assert await remind(peer) == ((BOB,) if registered else ())

    async def test_several_in_one_batch(self, store: Storage) -> None:
        await append(store, message(1, snd_time_s=NOW_S), message(1, CAROL, snd_time_s=NOW_S + 1))
        await store.bind([bind(binding()), bind(binding(), owner=CAROL)])
        answers = await store.remind([Remind(1, NOW_S, "one", 9, 90), Remind(2, NOW_S + 1, "one", 9, 90)])
        assert answers == [Due(1, (BOB,)), Due(2, (BOB, CAROL))]

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_thousands_become_ordinary_in_steps(self, store: Storage) -> None:
        for start in range(0, 10_003, 1000):
            await append(store, *(message(n, snd_time_s=NOW_S) for n in range(start, min(start + 1000, 10_003))))
        await store.bind([bind(binding(), owner=CAROL)])
        await append(store, message(1, CAROL, snd_time_s=NOW_S + 1))
        assert await remind(store, now_s=NOW_S + 1) == ()
        assert await remind(store, now_s=NOW_S + 1) == (CAROL,)
        assert all(m.snd_time_s == 0 for m in await store.list(str(BOB), limit=20_000))


class TestExpire:
    async def test_what_expired_is_deleted(self, store: Storage) -> None:
        numbers = await append(
            store,
            message(1, exp_time_s=NOW_S),
            message(2, exp_time_s=NOW_S + 1),
            message(3, exp_time_s=NOW_S - 1, snd_time_s=NOW_S - 2),
            # Whoever defers a message gives it a life that begins then; Kamailio does not.
            message(4, exp_time_s=NOW_S - 1, snd_time_s=NOW_S + 1),
        )
        assert await store.expire([Expire(7, NOW_MS)]) == [Expired(7, 3)]
        assert [m.message_id for m in await store.list()] == [numbers[1]]
        assert await store.expire([Expire(8, NOW_MS), Expire(9, NOW_MS + 1000)]) == [Expired(8, 0), Expired(9, 1)]
        assert await store.list() == []

    async def test_not_while_it_is_being_delivered(self, store: Storage) -> None:
        (number,) = await append(store, message(exp_time_s=NOW_S + 1))
        await dump(store, lease_ms=5000)
        assert await store.expire([Expire(1, NOW_MS + 900_000)]) == [Expired(1, 0)]
        assert await settle(store, number, Outcome.FAILED)
        assert await store.expire([Expire(2, NOW_MS + 4999)]) == [Expired(2, 1)]

    async def test_what_was_set_aside_expires_too(self, store: Storage) -> None:
        (number,) = await append(store, message(exp_time_s=NOW_S + 1))
        await dump(store)
        assert await settle(store, number, Outcome.REFUSED)
        assert await store.expire([Expire(1, NOW_MS + 1000)]) == [Expired(1, 1)]
        assert await store.list(dead=True) == []

    async def test_bindings(self, store: Storage) -> None:
        await store.bind([bind(binding("sip:a@192.0.2.1", expires_s=NOW_S + 1), binding("sip:b@192.0.2.1"))])
        assert (await store.check()).bindings == 2
        await store.expire([Expire(1, NOW_MS + 999)])
        assert (await store.check()).bindings == 2
        await store.expire([Expire(2, NOW_MS + 1000)])
        assert (await store.check()).bindings == 1

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_a_huge_table_is_emptied_in_steps(self, store: Storage) -> None:
        for start in range(0, 10_003, 1000):
            ending = min(start + 1000, 10_003)
            await append(store, *(message(n, exp_time_s=NOW_S) for n in range(start, ending)))
        expiries = [Expire(n, NOW_MS) for n in range(3)]
        assert await store.expire(expiries) == [Expired(0, 10_000), Expired(1, 3), Expired(2, 0)]

    async def test_messages_whose_senders_are_to_be_told_are_returned(self, store: Storage) -> None:
        kept = [
            message(1, exp_time_s=NOW_S, imdn=1),
            message(2, exp_time_s=NOW_S + 1, imdn=1),
            message(3, exp_time_s=NOW_S),
            message(4, exp_time_s=NOW_S - 1, imdn=1, snd_time_s=NOW_S - 2, owner=CAROL, body=EVERY_OCTET),
            message(5, exp_time_s=NOW_S + 1),
        ]
        first, second, _, fourth, _ = await append(store, *kept)
        numbered = [msgspec.structs.replace(kept[n - 1], message_id=number) for n, number in ((4, fourth), (1, first))]
        assert await store.expire([Expire(7, NOW_MS)]) == [Expired(7, 3, tuple(numbered))]
        assert [m.message_id for m in await store.list()] == [second, second + 3]
        later = msgspec.structs.replace(kept[1], message_id=second)
        both = [Expire(8, NOW_MS + 1000), Expire(9, NOW_MS + 1000)]
        assert await store.expire(both) == [Expired(8, 2, (later,)), Expired(9, 0)]
        assert await store.list() == []

    async def test_who_was_told_is_not_told_again(self, store: Storage) -> None:
        refused, failed = await append(store, message(1, imdn=1), message(2, imdn=1))
        await dump(store)
        assert await settle(store, refused, Outcome.REFUSED)
        assert await settle(store, failed, Outcome.FAILED)
        ((untold,), (told,)) = await store.list(), await store.list(dead=True)
        assert (untold.imdn, told.imdn) == (1, 0)
        (expired,) = await store.expire([Expire(1, NOW_MS + 1_000_000)])
        assert isinstance(expired, Expired)
        assert (expired.messages, expired.untold) == (2, (untold,))

    async def test_so_many_are_returned_at_a_time_and_the_others_wait(self, store: Storage) -> None:
        await append(store, *(message(n, exp_time_s=NOW_S - n % 2, imdn=n % 4 > 0) for n in range(137)))
        expiries = await store.expire([Expire(n, NOW_MS) for n in range(3)])
        found = [(e.messages, len(e.untold)) for e in expiries if isinstance(e, Expired)]
        assert found == [(100, 100), (37, 2), (0, 0)]
        ends = [m.exp_time_s for e in expiries if isinstance(e, Expired) for m in e.untold]
        assert ends == sorted(ends)


class TestManyCallers:
    async def test_calls_of_every_kind_at_once(self, store: Storage) -> None:
        async def talk(n: int) -> None:
            owner = Aor(f"user{n}", "example.com")
            await append(store, *(message(m, owner) for m in range(5)))
            (bound,) = await store.bind([bind(binding(), owner=owner)])
            assert isinstance(bound, Bound)
            assert bound.waiting
            leased = await dump(store, owner)
            assert [m.callid for m in leased.messages] == [message(m).callid for m in range(5)]
            for leased_message in leased.messages:
                assert await settle(store, leased_message.message_id, owner=owner)
            (found,) = await store.look_up([LookUp(1, owner, NOW_S)])
            assert found == LookedUp(1, bound.bindings, waiting=False)

        async with anyio.create_task_group() as tasks:
            for n in range(20):
                tasks.start_soon(talk, n)
        assert await store.check() == StorageReport(
            url=(await store.check()).url, version=8, messages=0, deferred=0, dead=0, bindings=20, users=0
        )

    async def test_calls_of_one_kind_keep_their_order(self, store: Storage) -> None:
        async with anyio.create_task_group() as tasks:
            for n in range(20):
                tasks.start_soon(append, store, message(2 * n), message(2 * n + 1))
                # Each begins before the next is started.
                await anyio.lowlevel.checkpoint()
        assert [m.callid for m in await store.list()] == [message(n).callid for n in range(40)]

    async def test_a_cancelled_call_happens_whole_or_not_at_all(self, store: Storage) -> None:
        for n in range(20):
            with anyio.move_on_after(n / 5000):
                await append(store, *(message(10 * n + m) for m in range(10)))
            with anyio.move_on_after(n / 5000):
                await store.bind([bind(binding(f"sip:{n}@192.0.2.1"), binding(f"sip:{n}@192.0.2.2"), bindings_max=99)])
            with anyio.move_on_after(n / 5000):
                await store.look_up([LookUp(1, BOB, NOW_S)])
        # A call of each kind after it: it comes after what may still be under way.
        await append(store, message(10_000))
        await store.bind([bind(binding("sip:last@192.0.2.1"), bindings_max=99)])
        kept = [m.callid for m in await store.list(limit=1000)]
        whole = [callid for n in range(20) for callid in (message(10 * n + m).callid for m in range(10))]
        assert kept[-1] == message(10_000).callid
        assert len(kept) % 10 == 1
        assert kept[:-1] == [callid for callid in whole if callid in kept]
        (found,) = await store.look_up([LookUp(1, BOB, NOW_S)])
        assert isinstance(found, LookedUp)
        assert len(found.bindings) % 2 == 1

    async def test_a_call_that_is_cancelled_while_it_runs(self, store: Storage) -> None:
        async with anyio.create_task_group() as tasks:
            for n in range(10):
                tasks.start_soon(append, store, *(message(100 * n + m) for m in range(100)))
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        (last,) = await append(store, message(10_000))
        numbers = [m.message_id for m in await store.list(limit=10_000)]
        assert numbers[-1] == last
        assert len(numbers) % 100 == 1


class TestOperator:
    async def test_list_in_pages(self, store: Storage) -> None:
        numbers = await append(store, *(message(n, (BOB, CAROL)[n % 2]) for n in range(6)))
        assert [m.message_id for m in await store.list()] == numbers
        assert [m.message_id for m in await store.list(limit=2)] == numbers[:2]
        assert [m.message_id for m in await store.list(after=numbers[1], limit=2)] == numbers[2:4]
        assert [m.message_id for m in await store.list("sip:carol@example.com")] == numbers[1::2]
        assert [m.message_id for m in await store.list("sip:bob@example.com", after=numbers[0], limit=1)] == [
            numbers[2]
        ]
        assert await store.list("sip:nobody@example.com") == []
        assert await store.list(limit=0) == []

    async def test_what_was_set_aside_is_listed_apart(self, store: Storage) -> None:
        dead, alive = await append(store, message(1), message(2))
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED, status=400)
        assert [m.message_id for m in await store.list("sip:bob@example.com")] == [alive]
        assert [m.message_id for m in await store.list("sip:bob@example.com", dead=True)] == [dead]

    @pytest.mark.parametrize("owner", ["", "sip:", "sip:example.com", "nonsense with blanks"])
    async def test_list_wants_an_address_of_record(self, store: Storage, owner: str) -> None:
        with pytest.raises(ParseError):
            await store.list(owner)

    async def test_check_counts(self, store: Storage, store_url: str) -> None:
        dead, _, _ = await append(store, message(1), message(2), message(3, snd_time_s=NOW_S + 1))
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED)
        await store.bind([bind(binding("sip:a@192.0.2.1"), binding("sip:b@192.0.2.1"))])
        await store.add_user(User.with_password(BOB, "secret"))
        expected = StorageReport(url=store_url, version=8, messages=2, deferred=1, dead=1, bindings=2, users=1)
        assert await store.check() == expected


class TestOpening:
    async def test_everything_is_there_after_a_restart(self, store_url: str) -> None:
        store = open_store(store_url, names=HOSTILE_NAMES)
        async with store:
            (leased, waiting) = await append(store, message(1), message(2))
            await dump(store, messages_max=1)
            await store.bind([bind(binding())])
        # One in memory lasts as long as the object.
        async with store if store_url == "memory:" else open_store(store_url, names=HOSTILE_NAMES) as again:
            assert [m.message_id for m in await again.list()] == [leased, waiting]
            assert (await dump(again, node="two")).busy_ms > 0
            (found,) = await again.look_up([LookUp(1, BOB, NOW_S)])
            assert found == LookedUp(1, (binding(),), waiting=True)
            (stored,) = await again.append(stores(message(2)))
            assert isinstance(stored, Stored)
            assert (stored.message_id, stored.repeated) == (waiting, True)
            (new,) = await append(again, message(3))
            assert new > waiting

    async def test_it_may_be_opened_again(self, store_url: str) -> None:
        store = open_store(store_url, names=HOSTILE_NAMES)
        for n in range(3):
            async with store:
                await append(store, message(n))
                assert len(await store.list()) == n + 1

    async def test_a_number_is_never_given_twice(self, store_url: str) -> None:
        store = open_store(store_url, names=HOSTILE_NAMES)
        async with store:
            (number,) = await append(store, message(1))
            assert await settle(store, number, Outcome.WITHDRAWN)
        async with store:
            (next_number,) = await append(store, message(1))
        assert next_number > number

    @pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
    async def test_outside_of_its_context_it_is_no_use(self, store_url: str) -> None:
        store = open_store(store_url, names=HOSTILE_NAMES)
        with pytest.raises(LocalError, match="not open"):
            await store.append(stores(message()))
        async with store:
            await append(store, message())
        with pytest.raises(LocalError, match="not open"):
            await store.list()
