"""MSILO.md section 7: where the original falls short, row by row."""

import ast
from pathlib import Path

import pytest

from msilo_core import Config, Limits, SiloConfig
from msilo_core.actions import Dump, Message, Store
from tests.core.world import BOB, EPOCH_MS, World, answer, body_of, finished, header, message, register, status_of, tcp

ROOT = Path(__file__).parents[2]

ELSEWHERE = {
    "one durable write for many": "tests/runners/test_batches.py::"
    "test_what_comes_during_a_commit_is_one_batch_in_order_and_no_larger_than_the_limit",
    "one query for many look-ups": "tests/storage/test_conformance.py::test_many_owners_at_once",
    "a lease in the table": "tests/storage/test_conformance.py::test_two_nodes_never_hold_one_inbox",
    "right statistics": "tests/silo/test_section6_statistics.py::test_each_counts_its_own",
    "notifications do not loop": "tests/silo/test_section3_store.py::test_notification_is_never_notified_of_nor_stored",
    "notifications are coalesced": "tests/silo/test_section3_store.py::"
    "test_who_writes_again_and_again_is_told_once_in_a_while",
    "lifetime of a deferred message": "tests/silo/test_section5_reminders.py::test_lifetime_counts_from_when_it_is_due",
    "dates of the calendar": "tests/silo/test_section5_reminders.py::test_time_of_the_calendar",
    "the zone is a setting": "tests/silo/test_section5_reminders.py::"
    "test_time_is_that_of_the_zone_in_summer_and_winter",
    "Expires counts from Date": "tests/silo/test_section3_store.py::test_expires_counts_from_a_date_that_is_credible",
    "max_messages is exact": "tests/storage/test_conformance.py::test_it_is_exact_also_among_servers",
    "max_messages costs no more in a large inbox": "tests/storage/test_postgres.py::"
    "test_work_does_not_grow_with_the_tables",
    "a frozen database": "tests/runners/test_storage_outage.py::test_the_database_hangs_and_goes_on",
    "a repeat after a restart": "tests/runners/test_delivery.py::test_a_repeat_after_a_restart_is_the_same_message",
    "isComposing": "tests/silo/test_section3_store.py::test_notice_of_typing_is_not_stored",
    "CPIM stays as it is": "tests/rfc/test_rfc3862.py::test_body_is_stored_delivered_and_relayed_as_it_came",
}
"""What the store, the runners or another section show."""


@pytest.mark.parametrize("test", ELSEWHERE.values(), ids=ELSEWHERE)
def test_it_is_shown_elsewhere(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    assert name in {function.name for function in functions}


def rows(world: World) -> list[Message]:
    """Return the rows of bob's inbox."""
    return finished(world.store.list(owner="sip:bob@example.com"))


def filled(count: int, limits: Limits | None = None) -> World:
    """Return a server with so many messages that wait for bob, each with its number."""
    world = World(limits=limits)
    for number in range(count):
        assert status_of(world.datagram(message(b"%d" % number, number=number))[0]) == 202
    return world


def delivered(world: World, first: bytes) -> list[bytes]:
    """Let bob take what he is sent, beginning with `first`, and return the bodies; one is outstanding at a time."""
    bodies: list[bytes] = []
    sent = [first]
    while sent:
        (outstanding,) = sent
        bodies.append(body_of(outstanding))
        sent = world.datagram(answer(outstanding), BOB)
    return bodies


# -- Delivery ----------------------------------------------------------------------------------------------------------


def test_what_a_phone_took_is_deleted_at_once() -> None:
    world = filled(1)
    (_, sent) = world.datagram(register(), BOB)
    assert len(rows(world)) == 1
    world.datagram(answer(sent), BOB)
    assert rows(world) == []


def test_they_come_in_the_order_of_arrival_one_at_a_time() -> None:
    world = filled(20)
    (_, first) = world.datagram(register(), BOB)
    assert delivered(world, first) == [b"%d" % number for number in range(20)]


def test_an_inbox_is_paged() -> None:
    world = filled(20, Limits(page_messages_max=3))
    world.hold = {Dump}
    world.datagram(register(), BOB)
    assert [dump.messages_max for dump in world.held] == [3]
    (first,) = world.let_go()
    assert delivered(world, first) == [b"%d" % number for number in range(20)]


def test_what_waits_is_not_overtaken() -> None:
    world = filled(3)
    (_, first) = world.datagram(register(), BOB)
    (accepted,) = world.datagram(message(b"new", number=9))
    assert status_of(accepted) == 202
    assert delivered(world, first) == [b"0", b"1", b"2", b"new"]


def test_what_expired_is_not_delivered_though_nobody_has_deleted_it() -> None:
    world = filled(1)
    world.datagram(message(b"short", number=8, headers="Expires: 5\r\n"))
    world.pass_time(6_000)
    assert len(rows(world)) == 2
    (_, first) = world.datagram(register(), BOB)
    assert delivered(world, first) == [b"0"]


def test_it_goes_to_its_owner_whoever_the_sender_says_it_is_for() -> None:
    world = World()
    world.datagram(message().replace(b"To: <sip:bob@example.com>", b"To: <sip:mallory@192.0.2.66:5099>"))
    assert world.datagram(register("mallory", "<sip:mallory@127.0.0.1:5099>"), ("127.0.0.1", 5099))[1:] == []
    (_, sent) = world.datagram(register(), BOB)
    assert sent.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 SIP/2.0\r\n")
    assert header(sent, "To") == "<sip:mallory@192.0.2.66:5099>"
    assert world.sent[-1].flow.remote == BOB


def test_what_failed_stays_the_row_that_it_was() -> None:
    world = World(Config(silo=SiloConfig(add_date=1)))
    world.datagram(message())
    (before,) = rows(world)
    bodies: set[bytes] = set()
    for cseq in (1, 2, 3):
        world.pass_time(60_000)
        (_, sent) = world.datagram(register(cseq=cseq), BOB)
        bodies.add(body_of(sent))
        world.datagram(answer(sent, "486 Busy Here"), BOB)
    assert bodies == {b"[Offline message - Mon Sep 21 14:13:20 2026] hello"}
    (after,) = rows(world)
    assert (after.message_id, after.inc_time_s, after.exp_time_s, after.body) == (
        before.message_id, before.inc_time_s, before.exp_time_s, b"hello"
    )  # fmt: skip
    assert after.attempts == 3


def test_what_comes_out_of_a_silo_is_not_stored_again() -> None:
    world = filled(1)
    (_, sent) = world.datagram(register(), BOB)
    world.datagram(answer(sent, "480 Away"), BOB)
    # A proxy that knows nobody sends it back to its owner's address.
    (refused,) = world.datagram(sent.replace(b"sip:bob@127.0.0.1:5072 SIP", b"sip:carol@example.com SIP"), BOB)
    assert status_of(refused) in (480, 482)
    assert [row.body for row in rows(world)] == [b"0"]
    assert world.waiting("sip:carol@example.com") == []


# -- What is kept ------------------------------------------------------------------------------------------------------


HEADERS = {
    "Subject": "lunch", "Priority": "urgent", "Content-Encoding": "gzip", "Content-Disposition": "render",
    "Reply-To": "<sip:alice@home.example.com>", "In-Reply-To": "1@example.com", "Date": "Mon, 21 Sep 2026 14:00:00 GMT",
    "X-Note": "Grüße", "Content-Type": "message/imdn+xml;charset=utf-8;a-parameter=longer-than-32-characters",
    "From": '"Alice" <sip:alice@example.com>;tag=f1', "Call-ID": "call1@alice.example.com", "CSeq": "7 MESSAGE",
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_header_between_the_two_ends(name: str) -> None:
    world = World()
    request = message()
    if header(request, name):
        request = request.replace(f"{name}: {header(request, name)}".encode(), f"{name}: {HEADERS[name]}".encode())
    else:
        request = message(headers=f"{name}: {HEADERS[name]}\r\n")
    assert status_of(world.datagram(request)[0]) == 202
    (_, sent) = world.datagram(register(), BOB)
    assert header(sent, name) == HEADERS[name]
    assert body_of(sent) == b"hello"


@pytest.mark.parametrize(
    ("body", "header_line"),
    [(b"x" * 60_000, ""), (b"x", "".join(f"X-{number}: {'y' * 90}\r\n" for number in range(40)))],
    ids=["body", "headers"],
)
def test_long_one_is_kept_whole_and_blocks_no_other(body: bytes, header_line: str) -> None:
    """Kamailio has buffers of 1024 octets."""
    world = World(Config(silo=SiloConfig(add_date=1)))
    alice, bob = tcp(("127.0.0.1", 5071), 1), tcp(BOB, 2)
    assert status_of(world.stream(message(body, transport="TCP", headers=header_line), alice)[0]) == 202
    assert status_of(world.stream(message(b"next", transport="TCP", number=2), alice)[0]) == 202
    contact = "<sip:bob@127.0.0.1:5072;transport=tcp>"
    (_, first) = world.stream(register(contact=contact, transport="TCP"), bob)
    assert body_of(first) == b"[Offline message - Mon Sep 21 14:13:20 2026] " + body
    assert header_line.encode() in first
    (second,) = world.stream(answer(first), bob)
    assert body_of(second) == b"[Offline message - Mon Sep 21 14:13:20 2026] next"


def test_too_long_is_answered_413() -> None:
    world = World(limits=Limits(body_bytes_max=100))
    assert status_of(world.datagram(message(b"x" * 101))[0]) == 413
    assert status_of(world.datagram(message(b"x" * 100, number=2))[0]) == 202


@pytest.mark.parametrize(
    "request_",
    [
        message().replace(b"Content-Type: text/plain\r\n", b""),
        message().replace(b"Content-Length: 5\r\n", b""),
        message(b""),
    ],
    ids=["type", "length", "body"],
)
def test_what_may_be_missing_is_not_missed(request_: bytes) -> None:
    world = World()
    assert status_of(world.datagram(request_)[0]) == 202
    (_, sent) = world.datagram(register(), BOB)
    assert body_of(sent) == body_of(request_)
    assert header(sent, "Content-Type") == header(request_, "Content-Type")


def test_expires_0_is_not_stored() -> None:
    """RFC 3428 section 7: it is for now or never."""
    world = World()
    assert status_of(world.datagram(message(headers="Expires: 0\r\n"))[0]) == 480
    assert rows(world) == []


def test_date_says_when_it_came_where_the_sender_did_not() -> None:
    world = filled(1)
    world.pass_time(3_600_000)
    (_, sent) = world.datagram(register(), BOB)
    assert header(sent, "Date") == "Mon, 21 Sep 2026 14:13:20 GMT"
    assert EPOCH_MS == 1_790_000_000_000


# -- Once --------------------------------------------------------------------------------------------------------------


def test_a_repeat_that_comes_while_it_is_being_stored_is_the_same() -> None:
    world = World()
    world.hold = {Store}
    for _ in range(3):
        assert world.datagram(message()) == []
    assert len(world.held) == 1
    (accepted,) = world.let_go()
    assert world.datagram(message()) == [accepted]
    assert len(rows(world)) == 1


def test_a_repeat_in_another_transaction_is_the_same() -> None:
    """As from a sender that gave up waiting and tries again (RFC 3261 section 8.2.2.2)."""
    world = filled(1)
    world.pass_time(40_000)
    again = message(b"0", number=0).replace(b"branch=z9hG4bKa0", b"branch=z9hG4bKb0")
    assert status_of(world.datagram(again)[0]) == 202
    assert len(rows(world)) == 1
    assert world.engine.statistics.repeated_messages == 1
