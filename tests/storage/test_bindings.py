"""What every store promises of bindings, each test over all of them and in every event loop."""

import anyio

from msilo_core.actions import Binding, Bound, LookedUp, LookUp, Outcome, Refused
from msilo_core.flow import Flow
from msilo_core.uri import Aor
from msilo_storage import Storage
from tests.storage.values import (
    BOB,
    CAROL,
    EVERY_OCTET,
    NOW_MS,
    NOW_S,
    append,
    bind,
    binding,
    dump,
    message,
    settle,
)


class TestBindings:
    async def test_a_binding_comes_back_as_it_was(self, store: Storage) -> None:
        raw = EVERY_OCTET.decode("utf-8", "surrogateescape")
        known = Binding(
            contact="sip:bøb@192.0.2.1;transport=tcp",
            params=f';x="{raw}"',
            q=700,
            expires_s=2**40,
            callid="täg@host",
            cseq=2**32 - 1,
            path=f'"{raw}" <sip:edge.example.com;lr>',
            instance=f"<urn:{raw}>",
            reg_id=2**32 - 1,
            methods=f"MESSAGE, {raw}",
            flow=Flow("tcp", ("2001:db8::1", 5060), ("2001:db8::2", 65_535), 2**40),
            node="nöde",
            updated_ms=NOW_MS + 1,
        )
        asked = bind(known)
        assert await store.bind([asked]) == [Bound(asked.token, (known,), waiting=False)]
        assert await store.look_up([LookUp(1, BOB, NOW_S)]) == [LookedUp(1, (known,), waiting=False)]

    async def test_the_preferred_come_first(self, store: Storage) -> None:
        late = binding("sip:late@192.0.2.1", updated_ms=NOW_MS + 1)
        weak = binding("sip:weak@192.0.2.1", q=1, updated_ms=NOW_MS + 2)
        same = binding("sip:same@192.0.2.1")
        (bound,) = await store.bind([bind(weak, same, late)])
        assert isinstance(bound, Bound)
        assert bound.bindings == (late, same, weak)
        assert await store.look_up([LookUp(1, BOB, NOW_S)]) == [LookedUp(1, (late, same, weak), waiting=False)]

    async def test_registers_of_one_batch_build_on_each_other(self, store: Storage) -> None:
        first, second = binding("sip:a@192.0.2.1"), binding("sip:b@192.0.2.1")
        refreshed = binding("sip:a@192.0.2.1", cseq=3)
        answers = await store.bind(
            [
                bind(first, cseq=1),
                bind(second, cseq=2),
                bind(refreshed, cseq=3),
                # The same again: its CSeq is no longer higher.
                bind(refreshed, cseq=3),
                bind(binding("sip:b@192.0.2.1", expires_s=NOW_S), cseq=4),
                bind(binding("sip:c@192.0.2.1"), owner=CAROL),
                bind(cseq=5),
            ]
        )
        assert [type(answer) for answer in answers] == [Bound, Bound, Bound, Refused, Bound, Bound, Bound]
        contacts = [answer.bindings for answer in answers if isinstance(answer, Bound)]
        assert contacts == [
            (first,),
            (first, second),
            (refreshed, second),
            (refreshed,),
            (binding("sip:c@192.0.2.1"),),
            (refreshed,),
        ]
        assert await store.look_up([LookUp(1, BOB, NOW_S)]) == [LookedUp(1, (refreshed,), waiting=False)]

    async def test_what_is_added_and_removed_in_one_batch_leaves_nothing(self, store: Storage) -> None:
        await store.bind([bind(binding()), bind(binding(expires_s=NOW_S), cseq=2)])
        assert (await store.check()).bindings == 0

    async def test_a_register_out_of_order_changes_nothing(self, store: Storage) -> None:
        known = binding(cseq=5)
        await store.bind([bind(known, cseq=5)])
        (answer,) = await store.bind([bind(binding("sip:new@192.0.2.1"), binding(cseq=4), cseq=4)])
        assert isinstance(answer, Refused)
        assert answer.status == 500
        assert await store.look_up([LookUp(1, BOB, NOW_S)]) == [LookedUp(1, (known,), waiting=False)]

    async def test_one_batch_of_all_kinds(self, store: Storage) -> None:
        owners = [Aor(f"user{n}", "example.com") for n in range(9)]
        before = binding(cseq=5)
        await store.bind([bind(before, owner=owner, cseq=5) for owner in owners[1:]])
        await store.bind([bind(binding("sip:bob@192.0.2.2", cseq=6, updated_ms=NOW_MS - 1), owner=owners[7], cseq=6)])
        await append(store, message(1, owners[2]), message(2, owners[5]))
        now_s = before.expires_s
        new = binding(cseq=6, expires_s=now_s + 9)
        other = binding("sip:other@192.0.2.1", callid="other", expires_s=now_s + 9)
        asked = [
            bind(new, owner=owners[0], cseq=6),
            bind(new, owner=owners[1], cseq=6),
            bind(new, owner=owners[2], cseq=6),
            bind(binding(cseq=4), owner=owners[3], cseq=4),
            bind(binding(cseq=5, callid="another"), owner=owners[4], callid="another", cseq=1),
            bind(owner=owners[5]),
            bind(other, owner=owners[6], callid="other"),
            bind(new, owner=owners[7], cseq=6),
            # What was there has run out by then.
            bind(other, owner=owners[8], callid="other", now_s=now_s),
        ]
        expected = [
            (new,), (new,), (new,), None, (binding(cseq=5, callid="another"),), (before,), (before, other),
            (new, binding("sip:bob@192.0.2.2", cseq=6, updated_ms=NOW_MS - 1)), (other,),
        ]  # fmt: skip
        answers = await store.bind(asked)
        assert [answer.token for answer in answers] == [action.token for action in asked]
        assert [answer.bindings if isinstance(answer, Bound) else None for answer in answers] == expected
        assert [isinstance(answer, Bound) and answer.waiting for answer in answers] == [
            n in (2, 5) for n in range(9)
        ]  # fmt: skip
        refused = answers[3]
        assert isinstance(refused, Refused)
        assert refused.status == 500
        expected[3] = (before,)
        times = [NOW_S] * 8 + [now_s]
        found = await store.look_up([LookUp(n, owners[n], times[n]) for n in range(9)])
        assert [answer.bindings if isinstance(answer, LookedUp) else None for answer in found] == expected

    async def test_remove_all(self, store: Storage) -> None:
        await store.bind([bind(binding("sip:a@192.0.2.1"), binding("sip:b@192.0.2.1"))])
        await store.bind([bind(binding("sip:c@192.0.2.1"), owner=CAROL)])
        asked = bind(cseq=2, remove_all=True)
        assert await store.bind([asked]) == [Bound(asked.token, (), waiting=False)]
        found = await store.look_up([LookUp(1, BOB, NOW_S), LookUp(2, CAROL, NOW_S)])
        assert [len(answer.bindings) for answer in found if isinstance(answer, LookedUp)] == [0, 1]

    async def test_more_contacts_than_allowed(self, store: Storage) -> None:
        contacts = [binding(f"sip:{n}@192.0.2.1") for n in range(3)]
        await store.bind([bind(*contacts[:2], bindings_max=2)])
        (answer,) = await store.bind([bind(contacts[2], cseq=2, bindings_max=2)])
        assert isinstance(answer, Refused)
        assert answer.status == 403
        assert (await store.check()).bindings == 2

    async def test_one_that_expired_is_not_found_and_can_be_made_anew(self, store: Storage) -> None:
        await store.bind([bind(binding(expires_s=NOW_S + 1, cseq=9), cseq=9)])
        assert await store.look_up([LookUp(1, BOB, NOW_S + 1)]) == [LookedUp(1, (), waiting=False)]
        again = binding(cseq=1)
        asked = bind(again, cseq=1, now_s=NOW_S + 1)
        assert await store.bind([asked]) == [Bound(asked.token, (again,), waiting=False)]

    async def test_whether_a_message_waits(self, store: Storage) -> None:
        known = binding()
        await store.bind([bind(known)])
        await append(
            store,
            message(1, exp_time_s=NOW_S),
            message(2, snd_time_s=NOW_S + 1),
            message(3, CAROL),
        )
        (refused,) = await append(store, message(4))
        await dump(store)
        assert await settle(store, refused, Outcome.REFUSED)
        asked = [LookUp(1, BOB, NOW_S), LookUp(2, CAROL, NOW_S)]
        assert await store.look_up(asked) == [LookedUp(1, (known,), waiting=False), LookedUp(2, (), waiting=False)]
        (bound,) = await store.bind([bind(cseq=2)])
        assert isinstance(bound, Bound)
        assert not bound.waiting
        await append(store, message(5))
        assert await store.look_up(asked) == [LookedUp(1, (known,), waiting=True), LookedUp(2, (), waiting=False)]
        answers = await store.bind([bind(cseq=3), bind(cseq=4, remove_all=True)])
        assert [answer.waiting for answer in answers if isinstance(answer, Bound)] == [True, False]

    async def test_one_that_a_database_refuses_fails_alone(self, store: Storage) -> None:
        owners = [Aor(f"user{n}", "example.com") for n in range(4)]
        batch = [bind(binding(), owner=owner) for owner in owners]
        batch[2] = bind(binding("sip:a@192.0.2.1"), binding("sip:\udcff@192.0.2.1"), owner=owners[2])
        answers = await store.bind(batch)
        assert [answer.token for answer in answers] == [action.token for action in batch]
        assert [type(answers[n]) for n in (0, 1, 3)] == [Bound] * 3
        found = await store.look_up([LookUp(n, owner, NOW_S) for n, owner in enumerate(owners)])
        counts = [len(answer.bindings) for answer in found if isinstance(answer, LookedUp)]
        # All or nothing (RFC 3261 section 10.3).
        assert counts == [1, 1, 2 if isinstance(answers[2], Bound) else 0, 1]

    async def test_two_servers_change_the_same_bindings(self, store: Storage, peer: Storage) -> None:
        owners = [Aor(f"user{n}", "example.com") for n in range(10)]
        await store.bind([bind(binding(), owner=owner) for owner in owners])

        async def register(view: Storage, name: str, order: int) -> None:
            for cseq in range(2, 12):
                contact = binding(f"sip:{name}@192.0.2.1", callid=name, cseq=cseq)
                answers = await view.bind(
                    [bind(contact, owner=owner, callid=name, cseq=cseq) for owner in owners[::order]]
                )
                assert [type(answer) for answer in answers] == [Bound] * 10

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(register, store, "one", 1)
            tasks.start_soon(register, peer, "two", -1)
        for answer in await store.look_up([LookUp(n, owner, NOW_S) for n, owner in enumerate(owners)]):
            assert isinstance(answer, LookedUp)
            assert [(b.contact, b.cseq) for b in answer.bindings] == [
                ("sip:bob@192.0.2.1", 1),
                ("sip:one@192.0.2.1", 11),
                ("sip:two@192.0.2.1", 11),
            ]
