"""RFC 3428: how a MESSAGE is answered, lives and travels; its example is in tests/core/test_message.py."""

import random

import pytest

from msilo_core import Config, Moment, Send, SiloConfig, UserAgent
from tests.core.world import (
    ALICE,
    BOB,
    EPOCH_MS,
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

CAROL = ("127.0.0.1", 5073)


def names(data: bytes) -> list[str]:
    """Return the names of the header lines, in order."""
    return [line.partition(b":")[0].decode() for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]


def test_request_of_our_agent_has_what_it_must_have() -> None:
    """Section 4: "User Agents MUST NOT insert Contact header fields into MESSAGE requests"."""
    agent = UserAgent(entropy=random.Random(1), now=Moment(0, EPOCH_MS))
    _, (sent,) = agent.message(
        udp(BOB), from_uri="sip:a@example.com", to_uri="sip:b@example.com", body=b"x", now=Moment(0, EPOCH_MS)
    )
    assert isinstance(sent, Send)
    mandatory = ["Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq"]
    assert names(sent.data) == [*mandatory, "Content-Type", "Content-Length"]
    assert header(sent.data, "Max-Forwards") == "70"
    assert header(sent.data, "Via").partition("branch=")[2].startswith("z9hG4bK")
    assert ";tag=" in header(sent.data, "From")


def test_im_uri_is_not_resolved_and_may_stand_in_from_and_to() -> None:
    """Section 5: these "SHOULD contain SIP (or SIPS) URIs, but MAY include IM URIs"."""
    world = World()
    assert status_of(world.datagram(message().replace(b"MESSAGE sip:", b"MESSAGE im:"))[0]) == 416
    named = message(number=2).replace(b"<sip:alice@", b"<im:alice@").replace(b"To: <sip:", b"To: <im:")
    assert status_of(world.datagram(named)[0]) == 202
    (_, delivered) = world.datagram(register(), BOB)
    assert (header(delivered, "From"), header(delivered, "To")) == (
        '"Alice" <im:alice@example.com>;tag=f2',
        "<im:bob@example.com>",
    )


def test_fork_answers_once() -> None:
    """Section 6: "even if the fork results in multiple successful deliveries, ... only ... one final response"."""
    world = World()
    world.datagram(register(), BOB)
    world.datagram(register(contact="<sip:bob@127.0.0.1:5073>", cseq=2), CAROL)
    one, other = world.datagram(message())
    assert [status_of(data) for data in world.datagram(answer(one), BOB)] == [200]
    assert world.datagram(answer(other), CAROL) == []


def test_relay_that_stores_answers_202_without_body_and_contact() -> None:
    """Section 7.

    "A 2xx response to a MESSAGE request MUST NOT contain a body. A UAS MUST NOT insert a Contact header field into a
    2xx response. A UAS which is, in fact, a message relay, storing the message and forwarding it later on, ... SHOULD
    return a 202 (Accepted) response".
    """
    (accepted,) = World().datagram(message())
    assert accepted.startswith(b"SIP/2.0 202 Accepted\r\n")
    assert names(accepted) == ["Via", "From", "To", "Call-ID", "CSeq", "Content-Length"]
    assert body_of(accepted) == b""


@pytest.mark.parametrize(
    ("headers", "lifetime_s"),
    [
        ("", 1_000),
        ("Expires: 600\r\n", 600),
        ("Expires: 4294967295\r\n", 1_000),
        ("Date: Mon, 21 Sep 2026 12:13:20 GMT\r\nExpires: 600\r\n", 600),
    ],
)
def test_lifetime_is_bounded_and_counts_from_the_arrival(headers: str, lifetime_s: int) -> None:
    # Section 7 has it count from a Date, where there is one. That is a clock of the sender's, and one that is wrong
    # would cost the message; by this one it expired two hours ago.
    world = World(Config(silo=SiloConfig(expire_time=1_000)))
    world.datagram(message(headers=headers))
    (row,) = finished(world.store.list())
    assert row.exp_time_s - world.now.unix_s == lifetime_s


def test_lifetime_that_is_no_number() -> None:
    world = World()
    (refused,) = world.datagram(message(headers="Expires: soon\r\n"))
    assert status_of(refused) == 400
    # Nobody asks for it on the way to a phone.
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(number=2, headers="Expires: soon\r\n"))
    assert header(relayed, "Expires") == "soon"


def test_message_that_is_delivered_later_says_when_it_was_written_or_came() -> None:
    world = World()
    world.datagram(message())
    world.datagram(message(number=2, headers="Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n"))
    world.pass_time(3_600_000)
    (_, first) = world.datagram(register(), BOB)
    assert header(first, "Date") == "Mon, 21 Sep 2026 14:13:20 GMT"
    (second,) = world.datagram(answer(first), BOB)
    assert header(second, "Date") == "Sat, 13 Nov 2010 23:29:00 GMT"


def test_long_message_goes_by_the_transport_that_its_recipient_registered_by() -> None:
    # Section 8, and RFC 3261 section 18.1.1, want TCP for more than 1300 octets. A phone that registered by UDP need
    # not be there.
    body = b"x" * 20_000
    for flow in (udp(BOB), tcp(BOB, 2)):
        world = World()
        data = register(transport=flow.transport.upper())
        _ = world.stream(data, flow) if flow.is_stream else world.datagram(data, BOB)
        (relayed,) = world.stream(message(body, transport="TCP"), tcp(ALICE))
        assert body_of(relayed) == body
        assert world.sent[-1].flow == flow


def test_live_message_that_no_datagram_can_hold_is_refused() -> None:
    world = World()
    world.datagram(register(contact=f"<sip:bob@127.0.0.1:5072;z={'z' * 300}>"), BOB)
    (refused,) = world.stream(message(b"x" * 65_000, transport="TCP", headers=f"X: {'y' * 200}\r\n"), tcp(ALICE))
    assert status_of(refused) == 513
    assert world.waiting() == []
