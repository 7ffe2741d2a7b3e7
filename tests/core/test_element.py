"""What every SIP element does with what is no valid message: an answer, silence, or the end of a stream."""

import pytest

from msilo_core.actions import Dropped
from tests.core.world import ALICE, BOB, World, header, message, register, status_of, tcp, udp

VIA = b"SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bKa1"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"CSeq: 7 MESSAGE", b"CSeq: 7 REGISTER", 400),
        (b"Call-ID: call1@alice.example.com\r\n", b"", 400),
        (b"SIP/2.0\r\nVia", b"SIP/3.0\r\nVia", 505),
        (b"MESSAGE sip:bob@example.com", b"MESSAGE http://example.com", 416),
        (b"MESSAGE sip:bob@", b"MESSAGE sip:" + b"x" * 1_100 + b"@", 414),
    ],
)
def test_malformed_request_is_answered(old: bytes, new: bytes, status: int) -> None:
    world = World()
    (refused,) = world.datagram(message().replace(old, new, 1))
    assert status_of(refused) == status
    assert header(refused, "Via") == f"{VIA.decode()}"
    assert world.sent[-1].flow == udp(ALICE)


@pytest.mark.parametrize(
    ("via", "port"), [(b"SIP/2.0/UDP 127.0.0.1:5071;;,;,,", 5071), (b"SIP/2.0/UDP 192.0.2.1;branch=", 5060)]
)
def test_via_that_cannot_be_read_still_says_who_sent_it(via: bytes, port: int) -> None:
    # RFC 4475 section 3.1.2.1; nothing is added to what nobody can read.
    world = World()
    (refused,) = world.datagram(message().replace(VIA, via))
    assert (status_of(refused), header(refused, "Via").encode()) == (400, via)
    assert world.sent[-1].flow == udp((ALICE[0], port))


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n", b"\0", message().replace(VIA, b"nobody"), message().replace(b"Via: " + VIA + b"\r\n", b""),
        message().replace(b"MESSAGE ", b"ACK ", 1), b"SIP/2.0 999 x\r\n\r\n",
    ],
)  # fmt: skip
def test_nobody_is_answered(data: bytes) -> None:
    world = World()
    (dropped,) = world.engine.receive_datagram(data, udp(ALICE), world.now)
    assert isinstance(dropped, Dropped)
    assert dropped.reason.startswith("malformed")


def test_malformed_message_whose_length_is_known_does_not_end_a_stream() -> None:
    world = World()
    flow = tcp(BOB)
    bad = message(transport="TCP").replace(b"CSeq: 7", b"CSeq: x")
    refused, ok = world.stream(bad + register(transport="TCP"), flow)
    assert (status_of(refused), status_of(ok)) == (400, 200)
    assert world.closed == []


def test_malformed_message_whose_length_is_not_known_does() -> None:
    world = World()
    flow = tcp(BOB)
    bad = message(transport="TCP").replace(b"Content-Length: 5", b"Content-Length: x")
    (refused,) = world.stream(bad + register(transport="TCP"), flow)
    assert status_of(refused) == 400
    assert world.closed == [flow]
    # What is still on its way is for nobody.
    world.engine.flow_closed(flow, "closed", world.now)
    assert world.engine.statistics.dropped == {"malformed: ParseError": 1, "stream cut": 1}
