"""RFC 5626: what a registrar without outbound does for phones that have it."""

from msilo_core import Config, Flow
from tests.core.world import BOB, SERVER, World, answer, header, message, register, status_of, tcp, udp

HIDDEN = '<sip:bob@192.168.1.2:5060;transport=tcp;ob>;+sip.instance="<urn:uuid:1>";reg-id=1'


def test_keepalives() -> None:
    """Section 3.5.1: a double CRLF on a stream is answered by a single one; over UDP that is what STUN is for."""
    world = World()
    assert world.stream(b"\r\n\r\n", tcp(BOB, 2)) == [b"\r\n"]
    assert world.stream(b"\r\n", tcp(BOB, 2)) == []
    assert world.datagram(b"\r\n\r\n", BOB) == []


def test_message_goes_by_the_stream_that_its_phone_registered_by() -> None:
    world = World()
    world.stream(register(contact=HIDDEN, transport="TCP"), tcp(BOB, 2))
    (relayed,) = world.datagram(message())
    assert world.sent[-1].flow == tcp(BOB, 2)
    assert relayed.startswith(b"MESSAGE sip:bob@192.168.1.2:5060;transport=tcp;ob SIP/2.0\r\n")


def test_flow_of_a_datagram_is_the_address_that_it_came_from() -> None:
    world = World(Config(trusted=("127.0.0.0/8", "203.0.113.0/24")))
    behind_nat = ("203.0.113.5", 40_000)
    contact = HIDDEN.replace("transport=tcp", "transport=udp")
    world.datagram(register(contact=contact), behind_nat)
    world.datagram(message())
    assert world.sent[-1].flow == udp(behind_nat)


def test_outbound_is_not_claimed() -> None:
    """Section 6: a registrar that does it puts ``Require: outbound`` into its 200; ours replaces no flow of its own."""
    world = World()
    for number in (2, 3):
        contact = HIDDEN.replace("192.168.1.2:5060", f"192.168.1.2:506{number}")
        data = register(contact=contact, cseq=number, headers="Supported: path, outbound\r\n", transport="TCP")
        (ok,) = world.stream(data, tcp(BOB, number))
        assert (status_of(ok), header(ok, "Require")) == (200, "")
    # An instance that registers again from another address has two bindings, until the first runs out.
    assert ok.count(b"\r\nContact:") == 2


def test_flow_that_failed_further_on_is_no_refusal() -> None:
    """Section 5.3.1: 430 (Flow Failed) from an edge proxy."""
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message())
    assert status_of(world.datagram(answer(relayed, "430 Flow Failed"), BOB)[0]) == 202
    assert world.waiting() == [b"hello"]


def test_stream_that_is_closed_is_opened_again_only_to_the_address_that_registered() -> None:
    world = World()
    flow = tcp(BOB, 2)
    world.stream(register(contact="<sip:bob@127.0.0.1:5072;transport=tcp>", transport="TCP"), flow)
    world.stream(register("carol", HIDDEN.replace("bob", "carol"), transport="TCP"), flow)
    world.engine.flow_closed(flow, "reset", world.now)
    world.datagram(message())
    assert world.sent[-1].flow == Flow("tcp", SERVER, BOB, 0)
    (accepted,) = world.datagram(message(to="carol", number=2))
    assert status_of(accepted) == 202
