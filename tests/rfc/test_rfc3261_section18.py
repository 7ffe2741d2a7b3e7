"""RFC 3261 section 18: what the transport layer does; framing is in tests/core/test_framing.py."""

import pytest

from msilo_core.actions import Store
from tests.core.world import ALICE, BOB, SERVER, World, header, message, register, status_of, tcp, udp


def test_via_of_ours() -> None:
    """Section 18.1.1: sent-by is the address of the socket; RFC 3581 section 3: an ``rport`` without a value."""
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message())
    sent_by, branch, rport = header(relayed, "Via").removeprefix("SIP/2.0/UDP ").split(";")
    assert sent_by == f"{SERVER[0]}:{SERVER[1]}"
    assert branch.startswith("branch=z9hG4bK")
    assert rport == "rport"


@pytest.mark.parametrize(
    ("sent_by", "received"),
    [
        ("127.0.0.1:5071", ""),
        ("client.example.com", ";received=127.0.0.1"),
        ("192.0.2.1:5071;received=203.0.113.9", ";received=127.0.0.1"),
    ],
)
def test_received_says_where_a_request_came_from(sent_by: str, received: str) -> None:
    """Section 18.2.1: "a domain name, or ... an IP address that differs from the packet source address"."""
    world = World()
    (accepted,) = world.datagram(message().replace(b"127.0.0.1:5071", sent_by.encode()))
    via = header(accepted, "Via")
    assert via.count("received") == bool(received)
    assert via.endswith(received)


def test_answer_does_not_go_where_a_maddr_leads() -> None:
    # Section 18.2.2 has it sent there: to whatever address somebody wants flooded.
    world = World()
    (accepted,) = world.datagram(message().replace(b";branch=", b";maddr=203.0.113.9;branch="))
    assert status_of(accepted) == 202
    assert world.sent[-1].flow == udp(ALICE)


def test_answer_goes_by_the_connection_that_its_request_came_by_or_not_at_all() -> None:
    # Section 18.2.2: "If that connection is no longer open, the server SHOULD open a connection". To a phone behind a
    # NAT none leads, and a sender that is there sends its request again.
    world = World()
    world.hold = {Store}
    flow = tcp(ALICE, 7)
    world.stream(message(transport="TCP"), flow)
    world.engine.flow_closed(flow, "gone", world.now)
    (accepted,) = world.let_go()
    assert status_of(accepted) == 202
    # Not 0, which would ask for a connection: the runner has none of this number any more.
    assert world.sent[-1].flow == flow
