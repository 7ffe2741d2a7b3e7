"""What an inbox may hold in octets, and of one sender, over all stores and in every event loop.

How many messages it may hold is in test_conformance.py.
"""

import anyio
import msgspec
import pytest

from msilo_core.actions import Outcome, Refused, Stored
from msilo_storage import Storage
from msilo_storage.quotas import size_of
from tests.storage.values import CAROL, EVERY_OCTET, NOW_S, append, dump, message, settle, stores


class TestInboxOctets:
    async def test_on_the_bound_and_one_past_it(self, store: Storage) -> None:
        big = message(1, body=b"x" * 100, ctype="text/plain")
        assert size_of(big) == 110
        fitting = stores(message(2, body=b"", ctype=""), big, message(3, body=b"y", ctype=""), bytes_max=110)
        assert [type(answer) for answer in await store.append(fitting)] == [Stored, Stored, Refused]
        (answer,) = await store.append(past := stores(message(3, body=b"y", ctype=""), bytes_max=110))
        assert answer == Refused(past[0].token, 480, "Inbox Full")
        (answer,) = await store.append(stores(message(3, body=b"y", ctype=""), bytes_max=111))
        assert isinstance(answer, Stored)

    async def test_one_that_no_inbox_has_room_for(self, store: Storage) -> None:
        answers = await store.append(stores(message(1, body=b"x" * 101, ctype=""), message(2), bytes_max=100))
        assert [type(answer) for answer in answers] == [Refused, Stored]

    @pytest.mark.parametrize(
        "value",
        [
            {"body": EVERY_OCTET},
            {"ctype": "text/plain;name=\N{SNOWMAN}"},
            {"extra_hdrs": "Subject: \N{SNOWMAN}\r\n"},
            {"from_hdr": "\N{SNOWMAN} \udcff <sip:a@b>;tag=1"},
            {"to_hdr": "\N{SNOWMAN} <sip:a@b>"},
            {"date_hdr": "Sat, 13 Nov 2010 23:29:00 GMT"},
        ],
        ids=["body", "ctype", "extra_hdrs", "from_hdr", "to_hdr", "date_hdr"],
    )
    async def test_every_kept_octet_counts(self, store: Storage, value: dict[str, object]) -> None:
        first = msgspec.structs.replace(message(1, body=b"", ctype=""), **value)
        await append(store, first)
        octets = size_of(first)
        tiny = message(2, body=b"y", ctype="")
        assert [type(a) for a in await store.append(stores(tiny, bytes_max=octets))] == [Refused]
        assert [type(a) for a in await store.append(stores(tiny, bytes_max=octets + 1))] == [Stored]

    async def test_deferred_ones_count_and_those_set_aside_do_not(self, store: Storage) -> None:
        dead, _ = await append(store, message(1, body=b"x" * 50, ctype=""), message(2, snd_time_s=NOW_S + 500))
        room = 50 + size_of(message(2))
        assert [type(a) for a in await store.append(stores(message(3), bytes_max=room))] == [Refused]
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED)
        kinds = [type(a) for a in await store.append(stores(message(3), message(4, body=b"x" * 50), bytes_max=room))]
        assert kinds == [Stored, Refused]

    async def test_a_repeat_takes_no_room(self, store: Storage) -> None:
        await append(store, message(1))
        answers = await store.append(stores(message(1), message(2), message(1), bytes_max=size_of(message(1))))
        said = [(type(answer), isinstance(answer, Stored) and answer.repeated) for answer in answers]
        assert said == [(Stored, True), (Refused, False), (Stored, True)]

    async def test_another_owner_has_room_of_his_own(self, store: Storage) -> None:
        batch = stores(message(1), message(2), message(1, CAROL), message(2, CAROL), bytes_max=size_of(message(1)))
        assert [type(a) for a in await store.append(batch)] == [Stored, Refused, Stored, Refused]

    async def test_it_is_exact_also_among_servers(self, store: Storage, peer: Storage) -> None:
        answers: list[object] = []

        async def fill(view: Storage, start: int) -> None:
            for n in range(start, start + 10):
                answers.extend(await view.append(stores(message(n, body=b"x" * 10, ctype=""), bytes_max=259)))

        async with anyio.create_task_group() as tasks:
            for n in range(6):
                tasks.start_soon(fill, (store, peer)[n % 2], 10 * n)
        assert sum(type(answer) is Stored for answer in answers) == 25
        assert len(await store.list()) == 25


class TestMessagesOfOneSender:
    async def test_on_the_bound_and_one_past_it(self, store: Storage) -> None:
        dave = "sip:dave@example.com"
        batch = stores(message(1), message(2), message(3), message(4, src_addr=dave), sender_messages_max=2)
        answers = await store.append(batch)
        assert [type(answer) for answer in answers] == [Stored, Stored, Refused, Stored]
        assert answers[2] == Refused(batch[2].token, 480, "Too Many Messages from This Sender")
        again = stores(message(5), message(6, src_addr=dave), message(7, src_addr=dave), sender_messages_max=2)
        assert [type(answer) for answer in await store.append(again)] == [Refused, Stored, Refused]
        assert len(await store.list()) == 4

    async def test_it_is_for_each_inbox(self, store: Storage) -> None:
        batch = stores(message(1), message(1, CAROL), message(2), message(2, CAROL), sender_messages_max=1)
        assert [type(a) for a in await store.append(batch)] == [Stored, Stored, Refused, Refused]

    @pytest.mark.parametrize(
        "src_addr",
        ["sips:alice@example.com", "sip:%61lice@EXAMPLE.com:5080;transport=tcp", "sip:alice:secret@example.com?a=b"],
    )
    async def test_a_sender_has_one_name_however_it_is_written(self, store: Storage, src_addr: str) -> None:
        await append(store, message(1, src_addr=src_addr))
        assert [type(a) for a in await store.append(stores(message(2), sender_messages_max=1))] == [Refused]

    @pytest.mark.parametrize("src_addr", ["tel:+15551234", "sip:example.com", "no URI \N{SNOWMAN}", ""])
    async def test_what_is_no_address_of_record_is_itself(self, store: Storage, src_addr: str) -> None:
        await append(store, message(1, src_addr=src_addr))
        batch = stores(message(2, src_addr=src_addr), message(3), sender_messages_max=1)
        assert [type(a) for a in await store.append(batch)] == [Refused, Stored]

    async def test_deferred_ones_count_and_those_set_aside_do_not(self, store: Storage) -> None:
        dead, _ = await append(store, message(1), message(2, snd_time_s=NOW_S + 500))
        assert [type(a) for a in await store.append(stores(message(3), sender_messages_max=2))] == [Refused]
        await dump(store)
        assert await settle(store, dead, Outcome.REFUSED)
        kinds = [type(a) for a in await store.append(stores(message(3), message(4), sender_messages_max=2))]
        assert kinds == [Stored, Refused]

    async def test_a_repeat_is_not_one_more(self, store: Storage) -> None:
        await append(store, message(1))
        answers = await store.append(stores(message(1), message(2), sender_messages_max=1))
        assert [type(answer) for answer in answers] == [Stored, Refused]

    async def test_all_bounds_of_a_batch_hold(self, store: Storage) -> None:
        await append(store, *(message(n, snd_time_s=NOW_S + 500) for n in range(10)))
        octets = 11 * size_of(message(1))
        batch = [
            *stores(message(11), messages_max=10),
            *stores(message(12), sender_messages_max=10),
            *stores(message(13), bytes_max=octets - 1),
            *stores(message(14), messages_max=11, bytes_max=octets + 1, sender_messages_max=11),
            *stores(message(15), messages_max=11, sender_messages_max=100),
            *stores(message(16), sender_messages_max=12),
        ]
        kinds = [type(answer) for answer in await store.append(batch)]
        assert kinds == [Refused, Refused, Refused, Stored, Refused, Stored]

    async def test_it_is_exact_also_among_servers(self, store: Storage, peer: Storage) -> None:
        senders = [f"sip:user{n}@example.net" for n in range(3)]
        answers: list[object] = []

        async def fill(view: Storage, start: int) -> None:
            for n in range(start, start + 10):
                batch = (message(10 * n + m, src_addr=sender) for m, sender in enumerate(senders))
                answers.extend(await view.append(stores(*batch, sender_messages_max=25)))

        async with anyio.create_task_group() as tasks:
            for n in range(6):
                tasks.start_soon(fill, (store, peer)[n % 2], 10 * n)
        assert sum(type(answer) is Stored for answer in answers) == 75
        found = await store.list(limit=1000)
        assert [sum(m.src_addr == sender for m in found) for sender in senders] == [25] * 3
