"""MSILO.md section 7: where the original falls short, and what we do instead.

Each test brings about what the original fails at. `SHOWN_BY` has the rows in their order and where each is shown,
those about storage and runners too.
"""

import ast
from pathlib import Path
from typing import Any, Final

import pytest

from msilo_core import Config, DeliveryConfig, Limits, ServerRoute, SiloConfig, SiloRoute
from msilo_core.actions import Completion, Dumped, Message, Outcome, Settle, Store
from msilo_core.route import Route
from tests.core.world import (
    ALICE,
    BOB,
    World,
    answer,
    body_of,
    finished,
    header,
    message,
    register,
    status_of,
    tcp,
    udp,
)

PROXY = ("127.0.0.9", 5070)

SHOWN_BY: Final = {
    "one INSERT for each message": (
        "tests/runners/test_batches.py::test_what_comes_during_a_commit_is_one_batch_in_order_and_no_larger_than_the_limit",
        "tests/core/test_engine.py::test_message_for_absent_user_is_answered_only_after_the_commit",
    ),
    "one SELECT for each REGISTER": (
        "tests/core/test_engine.py::test_register_asks_for_one_statement_when_the_inbox_is_empty",
        "tests/storage/test_bindings.py::test_registers_of_one_batch_build_on_each_other",
        "tests/storage/test_conformance.py::test_many_owners_at_once",
    ),
    "delivered rows live on until check_time": (
        "test_delivered_row_is_deleted_with_the_answer_and_does_not_survive_a_crash",
        "tests/storage/test_conformance.py::test_many_at_once_and_one_twice",
    ),
    "what is being sent is known to one process": (
        "tests/core/test_leases.py::test_what_a_dead_server_was_sending_is_found_by_another_without_a_register",
        "tests/storage/test_conformance.py::test_two_nodes_never_hold_one_inbox",
        "tests/storage/test_conformance.py::test_what_another_node_leased_is_left_to_it_until_the_end",
    ),
    "all of an inbox is sent at once": ("test_inbox_goes_out_in_order_one_at_a_time_and_on_from_where_it_stopped",),
    "a failed message waits for the next REGISTER": (
        "tests/core/test_leases.py::test_what_failed_is_tried_again_later_and_later",
        "tests/core/test_leases.py::test_register_does_not_wait_for_the_time_and_a_new_message_does",
        "tests/storage/test_conformance.py::test_what_failed_is_found_when_it_is_due",
    ),
    "expired rows are delivered": (
        "test_expired_row_that_is_not_cleaned_yet_is_not_delivered",
        "test_row_that_expires_behind_others_is_not_delivered",
    ),
    "buffers of 1024 octets": (
        "test_date_stands_before_a_body_of_any_length",
        "test_long_header_lines_stop_neither_the_store_nor_the_dump",
        "test_past_a_limit_the_answer_is_clear_and_the_next_message_is_served",
    ),
    "the content type is cut and changed": ("test_content_type_and_body_are_what_was_received",),
    "two counters are swapped": ("tests/silo/test_section6_statistics.py::test_each_counts_its_own",),
    "delivery goes to the To URI": (
        "test_nothing_is_sent_to_what_the_sender_wrote",
        "tests/silo/test_section4_dump.py::test_all_goes_through_the_proxy_to_the_owner",
    ),
    "a failed delivery is stored again": ("test_delivery_that_comes_back_changes_nothing_in_its_row",),
    "a notification causes a notification": (
        "tests/silo/test_section3_store.py::test_notification_is_never_notified_of_nor_stored",
        "tests/silo/test_section3_store.py::test_who_writes_again_and_again_is_told_once_in_a_while",
    ),
    "a late reminder is purged, its time an hour off or no time": (
        "tests/silo/test_section5_reminders.py::test_it_is_not_thrown_away_before",
        "tests/silo/test_section5_reminders.py::test_lifetime_counts_from_when_it_is_due",
        "tests/silo/test_section5_reminders.py::test_time_of_the_calendar",
        "tests/silo/test_section5_reminders.py::test_time_is_that_of_the_zone_in_summer_and_winter",
    ),
    "Expires: 0 is three days, and Date is passed over": (
        "test_message_for_now_or_never_is_not_stored",
        "tests/silo/test_section3_store.py::test_expires_counts_from_a_date_that_is_credible",
    ),
    "headers are lost": ("test_every_header_from_end_to_end_is_kept",),
    "max_messages is slow and not exact": (
        "test_inbox_takes_no_more_than_its_bound_from_many_at_once",
        "tests/silo/test_section3_store.py::test_inbox_that_is_full",
        "tests/storage/test_conformance.py::test_it_is_exact_also_among_servers",
        "tests/storage/test_sqlite.py::test_it_does_not_grow_with_the_tables",
        "tests/storage/test_postgres.py::test_work_does_not_grow_with_the_tables",
    ),
    "a long inbox is not delivered, or in disorder": ("test_long_inbox_is_delivered_in_order_a_page_at_a_time",),
    "a new message overtakes the stored ones": ("test_new_message_does_not_overtake_what_is_being_delivered",),
    "a frozen database blocks all": (
        "tests/faults/test_outage.py::test_the_database_hangs_and_goes_on",
        "tests/faults/test_outage.py::test_under_load",
    ),
    "a retransmission is stored twice": (
        "test_retransmission_while_the_insert_runs_is_one_row",
        "test_retransmission_to_another_worker_is_one_row",
    ),
    "notices of typing are stored, and what may be missing is not": (
        "tests/silo/test_section3_store.py::test_notice_of_typing_is_not_stored",
        "test_what_a_message_may_lack_does_not_fail_the_store",
    ),
    "nothing says when a message was stored": ("test_clients_can_see_when_a_message_was_written_or_came",),
}


def test_every_test_that_is_named_is_there() -> None:
    root = Path(__file__).parents[2]
    here = Path(__file__).relative_to(root)
    named = {name if "::" in name else f"{here}::{name}" for names in SHOWN_BY.values() for name in names}
    files = {name.partition("::")[0] for name in named}
    there = {f"{file}::{name}" for file in files for name in _functions(root / file)}
    assert named - there == set()
    assert len(SHOWN_BY) == 23
    own = {name for name in there if name.startswith(f"{here}::test_")}
    assert own - named == {f"{here}::test_every_test_that_is_named_is_there"}


def _functions(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def world(silo: SiloConfig | None = None, limits: Limits | None = None, route: Route | None = None) -> World:
    """Return a server with these parameters."""
    return World(Config(silo=silo if silo is not None else SiloConfig()), limits, route)


def beside(server: World, **kwargs: Any) -> World:
    """Return another server on the same store."""
    other = World(Config(node="other"), **kwargs)
    other.store, other.mono_ms = server.store, server.mono_ms
    other.store.clock = lambda: max(server.now, other.now).unix_ms
    return other


def rows(server: World) -> list[Message]:
    """Return the rows of bob's inbox."""
    return finished(server.store.list(owner="sip:bob@example.com"))


def taken(server: World, sent: list[bytes], count: int = 1_000_000) -> list[bytes]:
    """Let bob's phone take up to `count` messages, the first of which was just sent; return them."""
    seen: list[bytes] = []
    while sent and len(seen) < count:
        (delivered,) = sent
        seen.append(delivered)
        sent = server.datagram(answer(delivered), BOB)
    return seen


def dumped(server: World, **kwargs: Any) -> list[bytes]:
    """Let bob register, and his phone take all that comes; return it."""
    return taken(server, server.datagram(register(**kwargs), BOB)[1:])


# -- Delivery ----------------------------------------------------------------------------------------------------------


def test_delivered_row_is_deleted_with_the_answer_and_does_not_survive_a_crash() -> None:
    server = world(SiloConfig(check_time=86_400))
    server.datagram(message(b"one"))
    server.datagram(message(b"two", number=2))
    (_, first) = server.datagram(register(), BOB)
    # With those that it takes in the next ten milliseconds.
    actions = [*server.engine.receive_datagram(answer(first), udp(BOB), server.now)]
    server.mono_ms += 10
    actions += server.engine.handle_timeout(server.now)
    (settle,) = [action for action in actions if isinstance(action, Settle)]
    assert settle.outcome is Outcome.DELIVERED
    server.perform(settle)
    # Here it crashes.
    after = beside(server)
    after.mono_ms += 60_000
    assert [body_of(data) for data in dumped(after, cseq=2)] == [b"two"]


def test_inbox_goes_out_in_order_one_at_a_time_and_on_from_where_it_stopped() -> None:
    server = world()
    for number in range(40):
        server.datagram(message(b"%d" % number, number=number))
    # That no more than one is outstanding is what `taken` sees.
    seen = taken(server, server.datagram(register(), BOB)[1:], 21)
    failed = server.sent[-1].data
    assert server.datagram(answer(failed, "480 Away"), BOB) == []
    # A REGISTER need not wait for the time to try again.
    seen += dumped(server, cseq=2)
    assert [body_of(data) for data in seen] == [b"%d" % number for number in range(40)]
    # The phone can tell that it is the same.
    assert header(failed, "Call-ID") == header(seen[21], "Call-ID")


def test_expired_row_that_is_not_cleaned_yet_is_not_delivered() -> None:
    server = world()
    server.datagram(message(b"short", headers="Expires: 10\r\n"))
    server.datagram(message(b"long", number=2))
    server.pass_time(10_000)
    assert len(rows(server)) == 2
    assert [body_of(data) for data in dumped(server)] == [b"long"]


def test_row_that_expires_behind_others_is_not_delivered() -> None:
    server = world()
    server.datagram(message(b"one"))
    server.datagram(message(b"short", number=2, headers="Expires: 5\r\n"))
    server.datagram(message(b"three", number=3))
    (_, one) = server.datagram(register(), BOB)
    # Within the lease: the store is not asked again.
    server.pass_time(5_000)
    assert [body_of(data) for data in taken(server, [one])] == [b"one", b"three"]


def test_nothing_is_sent_to_what_the_sender_wrote() -> None:
    for silo, phone, request_uri in (
        (SiloConfig(), BOB, "sip:bob@127.0.0.1:5072"),
        (SiloConfig(outbound_proxy="sip:127.0.0.9:5070"), PROXY, "sip:bob@example.com"),
    ):
        server = world(silo, route=SiloRoute())
        server.datagram(message().replace(b"To: <sip:bob@example.com>", b'To: "You" <sip:victim@192.0.2.66>'))
        assert [row.dst_addr for row in rows(server)] == ["sip:victim@192.0.2.66"]
        (_, delivered) = server.datagram(register(), BOB)
        assert delivered.startswith(f"MESSAGE {request_uri} SIP/2.0\r\n".encode())
        assert header(delivered, "To") == '"You" <sip:victim@192.0.2.66>'
        server.pass_time(60_000)
        assert {send.flow.remote for send in server.sent} == {ALICE, BOB, phone}


@pytest.mark.parametrize("route", [ServerRoute(), SiloRoute()], ids=["server", "silo"])
def test_delivery_that_comes_back_changes_nothing_in_its_row(route: Route) -> None:
    """The original's documented failure route stores what could not be delivered: here that is what was stored."""
    silo = SiloConfig(add_date=1, outbound_proxy="sip:127.0.0.9:5070")
    server = World(Config(silo=silo, delivery=DeliveryConfig(retry_min_s=900)), route=route)
    server.datagram(message())
    (before,) = rows(server)
    for cseq in range(1, 4):
        server.pass_time(60_000)
        (_, delivery) = server.datagram(register(cseq=cseq), BOB)
        assert body_of(delivery) == b"[Offline message - Mon Sep 21 14:13:20 2026] hello"
        via = f"Via: SIP/2.0/UDP 127.0.0.9:5070;branch=z9hG4bKp{cseq}\r\nVia: "
        back = delivery.replace(b"Via: ", via.encode(), 1).replace(b"Route: <sip:127.0.0.9:5070;lr>\r\n", b"")
        (told,) = server.datagram(back, PROXY)
        assert status_of(told) == 480
        server.datagram(answer(delivery, "480 Away"), PROXY)
        (row,) = rows(server)
        assert (row.message_id, row.inc_time_s, row.exp_time_s, row.body) == (
            before.message_id, before.inc_time_s, before.exp_time_s, b"hello",
        )  # fmt: skip
    assert server.engine.statistics.stored_messages == 1


class Counting(World):
    """Knows how many rows each page had."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[int] = []

    def perform(self, action: Any) -> Completion:
        """Count what is leased."""
        completion = super().perform(action)
        if isinstance(completion, Dumped):
            self.pages.append(len(completion.messages))
        return completion


def test_long_inbox_is_delivered_in_order_a_page_at_a_time() -> None:
    server = Counting()
    for number in range(1_000):
        server.datagram(message(b"%d" % number, number=number))
    assert [body_of(data) for data in dumped(server)] == [b"%d" % number for number in range(1_000)]
    assert {*server.pages[1:-1]} == {4 * Limits().page_messages_max}
    assert server.pages[0] == Limits().page_messages_max
    assert rows(server) == []


def test_new_message_does_not_overtake_what_is_being_delivered() -> None:
    server = world()
    for number in range(50):
        server.datagram(message(b"%d" % number, number=number))
    seen = taken(server, server.datagram(register(), BOB)[1:], 20)
    outstanding = server.sent[-1].data
    for number in (50, 51):
        (told,) = server.datagram(message(b"%d" % number, number=number))
        assert status_of(told) == 202
    seen += taken(server, [outstanding])
    assert [body_of(data) for data in seen] == [b"%d" % number for number in range(52)]


# -- What is kept ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 979, 980, 1023, 1024, 1025, 20_000])
def test_date_stands_before_a_body_of_any_length(length: int) -> None:
    server = world(SiloConfig(add_date=1))
    server.stream(message(b"x" * length, transport="TCP"), tcp(ALICE))
    (delivered,) = dumped(server)
    assert body_of(delivered) == b"[Offline message - Mon Sep 21 14:13:20 2026] " + b"x" * length


def test_long_header_lines_stop_neither_the_store_nor_the_dump() -> None:
    server = world(SiloConfig(extra_hdrs=f"X-Added: {'a' * 2_000}\r\n"))
    lines = [f"X-Long: {'l' * 8_000}\r\n", "".join(f"X-{number}: {'m' * 100}\r\n" for number in range(100))]
    for number, headers in enumerate(["", *lines, ""]):
        (told,) = server.datagram(message(b"%d" % number, number=number, headers=headers))
        assert status_of(told) == 202
    delivered = dumped(server)
    assert [body_of(data) for data in delivered] == [b"0", b"1", b"2", b"3"]
    for data, headers in zip(delivered[1:3], lines, strict=True):
        assert headers.encode() in data


@pytest.mark.parametrize(
    ("limits", "headers", "body", "status"),
    [
        (Limits(body_bytes_max=100), "", b"x" * 100, 202), (Limits(body_bytes_max=100), "", b"x" * 101, 413),
        (Limits(line_bytes_max=100), f"X: {'y' * 97}\r\n", b"", 202),
        (Limits(line_bytes_max=100), f"X: {'y' * 98}\r\n", b"", 400),
        (Limits(head_bytes_max=1_000), f"X: {'y' * 1_000}\r\n", b"", 513),
    ],
)  # fmt: skip
def test_past_a_limit_the_answer_is_clear_and_the_next_message_is_served(
    limits: Limits, headers: str, body: bytes, status: int
) -> None:
    server = world(limits=limits)
    (told,) = server.datagram(message(body, headers=headers))
    assert status_of(told) == status
    assert status_of(server.datagram(message(b"next", number=2))[0]) == 202
    assert dumped(server)[-1].endswith(b"\r\n\r\nnext")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain;charset=utf-16", "message/cpim", "Text/HTML ; Charset=\"x; y\"", "image/png",
        'multipart/related;boundary="----=_Part_1_of_many";type="application/xhtml+xml"',
    ],
)  # fmt: skip
def test_content_type_and_body_are_what_was_received(content_type: str) -> None:
    body = bytes(range(256)) + b"\r\n\r\nSIP/2.0 200 OK\r\n"
    server = world(SiloConfig(add_date=1))
    server.datagram(message(body).replace(b"text/plain", content_type.encode()))
    assert [row.ctype for row in rows(server)] == [content_type]
    (delivered,) = dumped(server)
    assert f"\r\nContent-Type: {content_type}\r\n".encode() in delivered
    assert body_of(delivered) == body


def test_message_for_now_or_never_is_not_stored() -> None:
    server = world()
    assert status_of(server.datagram(message(headers="Expires: 0\r\n"))[0]) == 480
    assert rows(server) == []
    server.datagram(register(), BOB)
    (relayed,) = server.datagram(message(b"now", number=2, headers="Expires: 0\r\n"))
    assert body_of(relayed) == b"now"


def test_every_header_from_end_to_end_is_kept() -> None:
    lines = (
        "Subject: dinner, \"at\" eight\r\nPriority: urgent\r\nContent-Encoding: gzip\r\nContent-Language: fr\r\n"
        "Content-Disposition: render;handling=optional\r\nReply-To: \"A\" <sip:alice@example.net>\r\n"
        "In-Reply-To: 1@a, 2@b\r\nOrganization: A\r\nUser-Agent: phone/1\r\nX-One:  1\r\nX-One: 2\r\n"
    )  # fmt: skip
    server = world()
    server.datagram(message(headers=f"Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n{lines}"))
    (delivered,) = dumped(server)
    # All of them, in their order.
    assert lines.encode() in delivered
    assert header(delivered, "Date") == "Sat, 13 Nov 2010 23:29:00 GMT"
    assert header(delivered, "From") == '"Alice" <sip:alice@example.com>;tag=f1'


def test_clients_can_see_when_a_message_was_written_or_came() -> None:
    cpim = b"From: <im:a@example.com>\r\nDateTime: 2026-09-21T16:00:00+02:00\r\n\r\nContent-type: text/plain\r\n\r\nhi"
    server = world()
    server.datagram(message(b"undated"))
    server.datagram(message(b"dated", number=2, headers="Date: Mon, 21 Sep 2026 14:00:00 GMT\r\n"))
    server.datagram(message(cpim, number=3).replace(b"text/plain\r\nContent-L", b"message/cpim\r\nContent-L"))
    server.pass_time(3_600_000)
    undated, dated, wrapped = dumped(server)
    assert header(undated, "Date") == header(wrapped, "Date") == "Mon, 21 Sep 2026 14:13:20 GMT"
    assert header(dated, "Date") == "Mon, 21 Sep 2026 14:00:00 GMT"
    assert body_of(wrapped) == cpim


# -- What is taken -----------------------------------------------------------------------------------------------------


def test_inbox_takes_no_more_than_its_bound_from_many_at_once() -> None:
    server = world(SiloConfig(max_messages=10))
    server.hold = {Store}
    for number in range(50):
        server.datagram(message(number=number))
    stores = [*server.held]
    server.held.clear()
    # All in one batch, before any of them has its answer.
    completions = finished(server.store.append(stores))
    told = [
        data for completion in completions for data in server.carry_out(server.engine.complete(completion, server.now))
    ]
    assert [status_of(data) for data in told] == [202] * 10 + [480] * 40
    assert len(rows(server)) == 10


def test_retransmission_while_the_insert_runs_is_one_row() -> None:
    server = world()
    server.hold = {Store}
    assert [server.datagram(message()) for _ in range(3)] == [[], [], []]
    assert len(server.held) == 1
    (accepted,) = server.let_go()
    assert server.datagram(message()) == [accepted]
    assert len(rows(server)) == 1


def test_retransmission_to_another_worker_is_one_row() -> None:
    server = world()
    other = beside(server)
    server.hold = other.hold = {Store}
    assert server.datagram(message()) == other.datagram(message()) == []
    assert [status_of(data) for data in server.let_go() + other.let_go()] == [202, 202]
    assert len(rows(server)) == 1


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, b""), ({b"Content-Length: 5\r\n": b""}, b"hello"), ({b"Content-Type: text/plain\r\n": b""}, b"hello"),
        ({b"Content-Type: text/plain\r\n": b"", b"Content-Length: 0\r\n": b""}, b""),
    ],
)  # fmt: skip
def test_what_a_message_may_lack_does_not_fail_the_store(changes: dict[bytes, bytes], body: bytes) -> None:
    data = message(body)
    for old, new in changes.items():
        assert old in data
        data = data.replace(old, new)
    server = world()
    assert status_of(server.datagram(data)[0]) == 202
    (delivered,) = dumped(server)
    assert body_of(delivered) == body
    assert header(delivered, "Content-Type") == header(data, "Content-Type")
