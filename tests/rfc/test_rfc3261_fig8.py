"""RFC 3261 section 17.2.2, figure 8: the non-INVITE server transaction."""

import itertools
import time

import pytest

from msilo_core import Flow, Limits
from msilo_core.actions import Send
from msilo_core.head import HEAD_END
from msilo_core.transactions import (
    SERVER_TABLE,
    ServerEvent,
    ServerState,
    ServerTransaction,
    ServerTransactions,
    server_key,
)
from msilo_core.transport import way_back
from tests.rfc.transactions import CONFIG, LIMITS, TCP, UDP, at, request

# The figure, arrow by arrow: state, event, next state, response sent.
FIGURE = {
    (ServerState.TRYING, ServerEvent.REQUEST): (ServerState.TRYING, b""),
    (ServerState.TRYING, ServerEvent.PROVISIONAL): (ServerState.PROCEEDING, b"new"),
    (ServerState.TRYING, ServerEvent.FINAL): (ServerState.COMPLETED, b"new"),
    (ServerState.PROCEEDING, ServerEvent.REQUEST): (ServerState.PROCEEDING, b"provisional"),
    (ServerState.PROCEEDING, ServerEvent.PROVISIONAL): (ServerState.PROCEEDING, b"new"),
    (ServerState.PROCEEDING, ServerEvent.FINAL): (ServerState.COMPLETED, b"new"),
    (ServerState.PROCEEDING, ServerEvent.TRANSPORT_ERROR): (ServerState.TERMINATED, b""),
    (ServerState.COMPLETED, ServerEvent.REQUEST): (ServerState.COMPLETED, b"final"),
    (ServerState.COMPLETED, ServerEvent.TIMER_J): (ServerState.TERMINATED, b""),
    (ServerState.COMPLETED, ServerEvent.TRANSPORT_ERROR): (ServerState.TERMINATED, b""),
    # What RFC 4320 section 4.2 adds to it.
    (ServerState.TRYING, ServerEvent.SILENCE): (ServerState.TRYING, b""),
    (ServerState.TRYING, ServerEvent.TIMER_F): (ServerState.TERMINATED, b""),
    (ServerState.PROCEEDING, ServerEvent.SILENCE): (ServerState.PROCEEDING, b""),
    (ServerState.PROCEEDING, ServerEvent.TIMER_F): (ServerState.TERMINATED, b""),
}


def begin(layer: ServerTransactions, branch: str = "z9hG4bKone", flow: Flow = UDP) -> ServerTransaction:
    incoming = request(branch)
    return layer.begin(server_key(incoming), incoming, flow, at(0))


def brought_to(state: ServerState, layer: ServerTransactions) -> ServerTransaction:
    transaction = begin(layer)
    if state is ServerState.PROCEEDING:
        layer.respond(transaction, 100, b"provisional", at(0))
    elif state is ServerState.COMPLETED:
        layer.respond(transaction, 200, b"final", at(0))
    elif state is ServerState.TERMINATED:
        layer.respond(transaction, 200, b"final", at(0))
        layer.handle_timeout(at(33_000))
    assert transaction.state is state
    return transaction


def test_table_is_the_figure() -> None:
    assert {key: state for key, (_, state) in SERVER_TABLE.items()} == {key: row[0] for key, row in FIGURE.items()}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ServerState, ServerEvent)))
def test_every_pair(state: ServerState, event: ServerEvent) -> None:
    layer = ServerTransactions(CONFIG, LIMITS)
    transaction = brought_to(state, layer)
    if (state, event) in FIGURE and event in (ServerEvent.PROVISIONAL, ServerEvent.FINAL):
        transaction.response = b"new"
    actions = layer._fire(transaction, event, at(1))  # pyright: ignore[reportPrivateUsage]
    next_state, sent = FIGURE.get((state, event), (state, b""))
    assert transaction.state is next_state
    assert actions == ([Send(way_back(request().via, UDP)[0], sent)] if sent else [])
    assert (layer.find(transaction.key) is None) is (next_state is ServerState.TERMINATED)
    # Nothing is kept that no timer will end.
    layer.handle_timeout(at(100_000))
    assert layer.find(transaction.key) is None
    assert layer.next_timeout() is None
    assert (layer.active_count, layer.finished_count, layer.finished_bytes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("state", "event"),
    list(
        itertools.product(
            (ServerState.TRYING, ServerState.PROCEEDING, ServerState.COMPLETED),
            (ServerEvent.REQUEST, ServerEvent.PROVISIONAL, ServerEvent.FINAL, ServerEvent.SILENCE, ServerEvent.TIMER_J),
        )
    ),
)
def test_every_pair_as_it_happens_in_life(state: ServerState, event: ServerEvent) -> None:
    layer = ServerTransactions(CONFIG, LIMITS)
    transaction = brought_to(state, layer)
    match event:
        case ServerEvent.REQUEST:
            actions = layer.repeat(transaction, at(1))
        case ServerEvent.PROVISIONAL:
            actions = layer.respond(transaction, 100, b"new", at(1))
        case ServerEvent.FINAL:
            actions = layer.respond(transaction, 200, b"new", at(1))
        case ServerEvent.SILENCE:
            actions = layer.respond(transaction, 408, b"never sent", at(1))
        case _:
            actions = layer.handle_timeout(at(33_000)) if state is ServerState.COMPLETED else []
    next_state, sent = FIGURE.get((state, event), (state, b""))
    assert transaction.state is next_state
    assert actions == ([Send(way_back(request().via, UDP)[0], sent)] if sent else [])


def test_timer_j_keeps_the_answer_for_64_t1_on_datagrams() -> None:
    layer = ServerTransactions(CONFIG, LIMITS)
    transaction = begin(layer)
    layer.respond(transaction, 200, b"final", at(1_250))
    assert transaction.request is None
    deadline_ms = layer.next_timeout()
    assert deadline_ms is not None
    assert 33_250 <= deadline_ms < 34_250
    layer.handle_timeout(at(deadline_ms - 1))
    assert layer.find(transaction.key) is transaction
    layer.handle_timeout(at(deadline_ms))
    assert layer.find(transaction.key) is None
    assert layer.next_timeout() is None


def test_timer_j_is_zero_on_streams() -> None:
    layer = ServerTransactions(CONFIG, LIMITS)
    transaction = begin(layer, flow=TCP)
    assert layer.respond(transaction, 200, b"final", at(0)) == [Send(TCP, b"final")]
    assert layer.find(transaction.key) is None
    assert layer.next_timeout() is None


def test_finished_ones_are_bounded_and_the_oldest_leave_first() -> None:
    layer = ServerTransactions(CONFIG, Limits(finished_transactions_max=2))
    transactions = [begin(layer, f"z9hG4bK{number}") for number in range(3)]
    for transaction in transactions:
        layer.respond(transaction, 200, b"final", at(0))
    assert [layer.find(transaction.key) for transaction in transactions] == [None, *transactions[1:]]
    assert (layer.active_count, layer.finished_count) == (0, 2)


def test_finished_ones_are_bounded_in_octets_too() -> None:
    layer = ServerTransactions(CONFIG, Limits(finished_transactions_bytes_max=20))
    transactions = [begin(layer, f"z9hG4bK{number}") for number in range(3)]
    for transaction in transactions:
        layer.respond(transaction, 200, b"ten octets", at(0))
    assert [layer.find(transaction.key) for transaction in transactions] == [None, *transactions[1:]]
    assert layer.finished_bytes == 20
    # One that is too long by itself is not kept at all.
    layer.respond(begin(layer), 200, b"x" * 21, at(0))
    assert (layer.finished_count, layer.finished_bytes) == (0, 0)


def test_active_ones_are_bounded_in_number_and_octets() -> None:
    size = len(request().serialise()) - len(HEAD_END)
    for limits in (Limits(server_transactions_max=2), Limits(server_transactions_bytes_max=2 * size)):
        layer = ServerTransactions(CONFIG, limits)
        full = [layer.is_full]
        first = begin(layer, "z9hG4bKone")
        full.append(layer.is_full)
        begin(layer, "z9hG4bKtwo")
        full.append(layer.is_full)
        layer.respond(first, 200, b"final", at(0))
        assert [*full, layer.is_full] == [False, False, True, False]


def test_second_final_answer_is_ignored() -> None:
    layer = ServerTransactions(CONFIG, LIMITS)
    transaction = begin(layer)
    layer.respond(transaction, 200, b"final", at(0))
    assert layer.respond(transaction, 500, b"other", at(0)) == []
    assert layer.repeat(transaction, at(1)) == [Send(transaction.flow, b"final")]


def test_repeat_is_told_by_branch_sent_by_and_method() -> None:
    # Section 17.2.3.
    one = server_key(request())
    assert server_key(request()) == one
    assert server_key(request(branch="z9hG4bKtwo")) != one
    assert server_key(request(method="OPTIONS")) != one
    other_host = request()
    assert other_host.via.sent_by == "a.example.com"


def test_sender_of_rfc_2543_is_told_by_what_its_request_says() -> None:
    old = server_key(request(branch="1"))
    assert server_key(request(branch="1")) == old
    assert server_key(request(branch="2")) != old
    assert "sip:bob@example.com" in old


def test_forgetting_is_linear() -> None:
    def seconds_for(count: int) -> float:
        layer = ServerTransactions(CONFIG, Limits(finished_transactions_max=count))
        incoming = request()
        for number in range(count):
            layer.respond(layer.begin(str(number), incoming, UDP, at(0)), 200, b"final", at(0))
        start = time.process_time()
        layer.handle_timeout(at(33_000))
        assert layer.finished_count == 0
        return time.process_time() - start

    # Sixteen times as many: a queue that is walked from the front costs hundreds of times as much.
    few, many = (min(seconds_for(count) for _ in range(3)) for count in (8_000, 128_000))
    assert many < 40 * few
