"""RFC 4320: what an element may answer to a non-INVITE request, and when."""

import pytest

from msilo_core import Config, Flow
from msilo_core.actions import LookUp, Send
from msilo_core.transactions import ServerTransactions, server_key
from tests.core.world import ALICE, BOB, World, answer, header, message, register, status_of, udp
from tests.rfc.transactions import CONFIG, LIMITS, TCP, UDP, at, request


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
@pytest.mark.parametrize(("t1_ms", "t2_ms", "reached_ms"), [(500, 4_000, 3_500), (500, 5_000, 7_500), (500, 500, 500)])
def test_100_is_sent_when_timer_e_reaches_t2(flow: Flow, t1_ms: int, t2_ms: int, reached_ms: int) -> None:
    """Section 4.1.

    "An SIP element MUST NOT respond to a non-INVITE request with a Status-Code of 100 over any unreliable transport,
    such as UDP, before the amount of time it takes a client transaction's Timer E to be reset to T2."

    "Without regard to transport, an SIP element MUST respond to a non-INVITE request with a Status-Code of 100 if it
    has not otherwise responded after the amount of time it takes a client transaction's Timer E to be reset to T2."
    """
    layer = ServerTransactions(Config(t1_ms=t1_ms, t2_ms=t2_ms), LIMITS)
    incoming = request(extra=";rport")
    transaction = layer.begin(server_key(incoming), incoming, flow, at(0))
    assert layer.next_timeout() == reached_ms
    assert layer.handle_timeout(at(reached_ms - 1)) == []
    (trying,) = layer.handle_timeout(at(reached_ms))
    assert trying == Send(flow, transaction.response)
    assert transaction.response.startswith(b"SIP/2.0 100 Trying\r\n")
    assert header(transaction.response, "Via") == (
        "SIP/2.0/UDP a.example.com;branch=z9hG4bKone;received=127.0.0.1;rport=5071"
    )
    assert header(transaction.response, "To") == "<sip:bob@example.com>"
    assert layer.handle_timeout(at(reached_ms)) == []
    assert layer.repeat(transaction, at(reached_ms)) == [trying]


def test_no_100_for_what_was_answered_in_time() -> None:
    layer = ServerTransactions(CONFIG, LIMITS)
    incoming = request()
    layer.respond(layer.begin(server_key(incoming), incoming, UDP, at(0)), 200, b"final", at(3_499))
    assert layer.handle_timeout(at(3_500)) == []


def test_100_copies_the_timestamp() -> None:
    # RFC 3261 section 8.2.6.1, for "When a 100 (Trying) response is generated".
    world = World()
    world.hold = {LookUp}
    world.datagram(message(headers="Timestamp: 54\r\n"))
    (trying,) = world.timed(3_500)
    assert (status_of(trying.data), header(trying.data, "Timestamp")) == (100, "54")


def test_slow_phone_costs_the_sender_one_100() -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message())
    sent = [data for data in world.pass_time(3_499) if data != relayed]
    assert sent == []
    ((trying, flow),) = [(send.data, send.flow) for send in world.timed(1) if send.data != relayed]
    assert (status_of(trying), flow) == (100, udp(ALICE))
    (ok,) = world.datagram(answer(relayed), BOB)
    assert status_of(ok) == 200


def test_provisional_responses_of_a_phone_are_not_passed_on() -> None:
    """Section 4.1: "MUST NOT send any provisional response with a Status-Code other than 100"."""
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message())
    assert world.datagram(answer(relayed, "180 Ringing"), BOB) == []
    assert world.datagram(answer(relayed, "100 Trying"), BOB) == []


@pytest.mark.parametrize("after_ms", [0, 3_500])
def test_408_is_never_sent(after_ms: int) -> None:
    """Section 4.2.

    "A transaction-stateful SIP element MUST NOT send a response with Status-Code of 408 to a non-INVITE request. As a
    consequence, an element that cannot respond before the transaction expires will not send a final response at all."
    """
    layer = ServerTransactions(CONFIG, LIMITS)
    incoming = request()
    transaction = layer.begin(server_key(incoming), incoming, UDP, at(0))
    trying = layer.handle_timeout(at(after_ms))
    assert layer.respond(transaction, 408, b"time-out", at(after_ms)) == []
    # Until the sender has given up too, its repeats are no new requests.
    assert layer.active_count == 0
    assert layer.repeat(transaction, at(after_ms)) == trying
    assert layer.respond(transaction, 200, b"late", at(after_ms)) == []
    layer.handle_timeout(at(after_ms + 31_999))
    assert layer.find(transaction.key) is transaction
    layer.handle_timeout(at(after_ms + 33_000))
    assert layer.find(transaction.key) is None


def test_nothing_is_sent_after_the_transaction_has_expired() -> None:
    """Section 4.2.

    "A transaction-stateful SIP proxy MUST NOT send any response to a non-INVITE request unless it has a matching server
    transaction that is not in the Terminated state."
    """
    layer = ServerTransactions(CONFIG, LIMITS)
    incoming = request()
    transaction = layer.begin(server_key(incoming), incoming, UDP, at(0))
    layer.handle_timeout(at(3_500))
    layer.handle_timeout(at(31_999))
    assert layer.find(transaction.key) is transaction
    layer.handle_timeout(at(32_000))
    assert layer.find(transaction.key) is None
    assert layer.respond(transaction, 200, b"late", at(32_001)) == []
    assert (layer.active_count, layer.next_timeout()) == (0, None)
