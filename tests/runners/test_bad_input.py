"""What no peer should send is refused as RFC 3261 asks or met with silence, and the listener still serves."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import pytest

from tests.runners.peer import Peer, Received, Transport, unique
from tests.runners.service import Service
from tests.runners.tables import inbox

# The largest payload of a UDP datagram over IPv4, and the largest message that is taken at all.
_DATAGRAM_BYTES_MAX: Final = 65_507
_MESSAGE_BYTES_MAX: Final = 65_535

# Datagrams in a row before their answers are read: few enough for the buffer of a socket.
_BURST: Final = 50

Spoil: TypeAlias = Callable[[bytes], bytes]


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server that all tests of the module ill-treat one after another."""
    directory = tmp_path_factory.mktemp("server")
    with Service(
        directory,
        "--backend",
        str(request.param),
        storage=f"sqlite:///{directory}/msilo.db",
        config="[limits]\nstream_message_ms = 1000\n",
    ) as service:
        yield service
        assert service.stop() == 0
        assert "Traceback" not in service.log_text()


@pytest.fixture(autouse=True)
def _still_serves(server: Service) -> Iterator[None]:
    """After each test a well-behaved peer gets its due on both transports."""
    yield
    for transport in ("udp", "tcp"):
        with Peer(server.address(transport), transport) as peer:
            assert peer.exchange(peer.message(unique("dave"))).status == 202


@pytest.fixture
def peer(server: Service) -> Iterator[Peer]:
    """On UDP."""
    with Peer(server.udp) as one:
        yield one


@pytest.fixture
def stream(server: Service) -> Iterator[Peer]:
    """On TCP."""
    with Peer(server.tcp, "tcp") as one:
        yield one


@pytest.fixture
def bob() -> str:
    """A recipient without any message."""
    return unique("bob")


def replaced(old: bytes, new: bytes) -> Spoil:
    """Return what replaces `old`, which must be there, in a request."""

    def spoil(request: bytes) -> bytes:
        assert old in request
        return request.replace(old, new)

    return spoil


def without(name: str) -> Spoil:
    """Return what takes the header `name` away."""

    def spoil(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        kept = [line for line in head.split(b"\r\n") if not line.startswith(f"{name}:".encode())]
        assert len(kept) < head.count(b"\r\n") + 1
        return b"\r\n".join(kept) + b"\r\n\r\n" + body

    return spoil


def with_lines(*lines: bytes) -> Spoil:
    """Return what adds header lines."""
    return replaced(b"\r\nContent-Length:", b"".join(b"\r\n" + line for line in lines) + b"\r\nContent-Length:")


# Each of them once as a datagram and once on a stream: what is refused, and how. The body is `hello`.
REFUSED: Final[dict[str, tuple[int, Spoil]]] = {
    "no From": (400, without("From")),
    "no To": (400, without("To")),
    "no Call-ID": (400, without("Call-ID")),
    "no CSeq": (400, without("CSeq")),
    "two CSeq": (400, with_lines(b"CSeq: 2 MESSAGE")),
    "CSeq of another method": (400, replaced(b"CSeq: 1 MESSAGE", b"CSeq: 1 REGISTER")),
    "CSeq too large": (400, replaced(b"CSeq: 1 ", b"CSeq: 4294967296 ")),
    "From that is no address": (400, replaced(b"@example.com>;tag=", b"@example.com;tag=")),
    "Max-Forwards that is no number": (400, replaced(b"Max-Forwards: 70", b"Max-Forwards: many")),
    "Max-Forwards used up": (483, replaced(b"Max-Forwards: 70", b"Max-Forwards: 0")),
    "SIP/7.0": (505, replaced(b" SIP/2.0\r\nVia", b" SIP/7.0\r\nVia")),
    "tel URI": (416, replaced(b"MESSAGE sip:", b"MESSAGE tel:+1-201-555-0123;x=")),
    "unknown scheme": (416, replaced(b"MESSAGE sip:", b"MESSAGE nobodyKnowsThisScheme:")),
    "Request-URI too long": (414, replaced(b"MESSAGE sip:", b"MESSAGE sip:" + b"x" * 1200)),
    "header line too long": (400, with_lines(b"Subject: " + b"x" * 8193)),
}  # fmt: skip


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("what", REFUSED)
def test_refused(server: Service, bob: str, transport: Transport, what: str) -> None:
    status, spoil = REFUSED[what]
    with Peer(server.address(transport), transport) as peer:
        answer = peer.exchange(spoil(peer.message(bob)))
        assert answer.status == status, answer.raw
        assert answer.header("Content-Length") == "0"
    assert stored(server, bob) == []


# A head that cannot be taken apart within the limits: whom to answer is not known for sure.
HEADLESS: Final[dict[str, Spoil]] = {
    "header without a colon": with_lines(b"no colon here"),
    "NUL in a header": with_lines(b"Subject: a\x00b"),
    "bare CR in a header": with_lines(b"Subject: a\rb"),
    "too many headers": with_lines(*(b"X-Flood: %d" % number for number in range(129))),
    "head too long": with_lines(*(b"X-Flood: " + b"x" * 8000 for _ in range(5))),
}


@pytest.mark.parametrize("what", HEADLESS)
def test_a_head_that_is_none_in_a_datagram(server: Service, peer: Peer, bob: str, what: str) -> None:
    assert statuses_of(peer, HEADLESS[what](peer.message(bob))) <= {400, 513}
    assert stored(server, bob) == []


@pytest.mark.parametrize("what", HEADLESS)
def test_a_head_that_is_none_ends_the_stream(server: Service, stream: Peer, bob: str, what: str) -> None:
    stream.send(HEADLESS[what](stream.message(bob)))
    assert {one.status for one in stream.wait_closed()} <= {400, 513}
    assert stored(server, bob) == []


@pytest.mark.parametrize(
    ("method", "status"), [("INVITE", 405), ("SUBSCRIBE", 405), ("REFER", 405), ("NONSENSE", 501), ("message", 501)]
)
def test_another_method_is_told_which_are_served(peer: Peer, bob: str, method: str, status: int) -> None:
    answer = peer.exchange(peer.message(bob).replace(b"MESSAGE", method.encode()))
    assert answer.status == status
    assert {"MESSAGE", "REGISTER", "OPTIONS"} <= {one.strip() for one in answer.header("Allow").split(",")}


def test_options_tells_which_methods_are_served(peer: Peer, bob: str) -> None:
    answer = peer.exchange(peer.message(bob).replace(b"MESSAGE", b"OPTIONS"))
    assert answer.status == 200
    assert {"MESSAGE", "REGISTER", "OPTIONS"} <= {one.strip() for one in answer.header("Allow").split(",")}


# -- Silence -------------------------------------------------------------------------------------------------

SILENT: Final[dict[str, Spoil]] = {
    "nothing": lambda _: b"",
    "a keep-alive": lambda _: b"\r\n\r\n",
    "one octet": lambda _: b"\xff",
    "a STUN binding request": lambda _: b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"t" * 12,
    "random octets": lambda _: random.Random(1).randbytes(1400),
    "zeros": lambda _: bytes(60_000),
    "a line without an end": lambda _: b"A" * 60_000,
    "blank lines": lambda _: b"\r\n" * 30_000,
    "no Via": without("Via"),
    "a Via that is none": replaced(b"Via: SIP/2.0/UDP ", b"Via: S I P ?"),
    "an ACK": lambda request: request.replace(b"MESSAGE", b"ACK"),
    "a response to nobody's request": replaced(b"MESSAGE sip:", b"SIP/2.0 200 OK\r\nX-Uri: sip:"),
    "another protocol": lambda _: b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
}


@pytest.mark.parametrize("what", SILENT)
def test_silence(server: Service, peer: Peer, bob: str, what: str) -> None:
    assert statuses_of(peer, SILENT[what](peer.message(bob))) == set()
    assert stored(server, bob) == []


def test_truncated_anywhere(server: Service, peer: Peer, bob: str) -> None:
    request = peer.message(bob)
    # A branch for each, so that none is a repeat of the one before.
    numbered = [request.replace(b"branch=z9hG4bK", b"branch=z9hG4bK%04d" % cut) for cut in range(len(request))]
    assert statuses_of(peer, *(one[: cut + 4] for cut, one in enumerate(numbered))) == {400}
    assert stored(server, bob) == []


def test_random_damage(peer: Peer, bob: str) -> None:
    chance = random.Random(20261123)
    damaged = [bytearray(peer.message(f"{bob}{number}")) for number in range(500)]
    for request in damaged:
        for _ in range(chance.randint(1, 8)):
            request[chance.randrange(len(request))] = chance.randrange(256)
    # Some damage hits a body or a display name, and does no harm; a 5xx would be a fault of ours.
    assert statuses_of(peer, *map(bytes, damaged)) - {505, 513} <= {202, *range(400, 500)}


# -- Bodies and their lengths --------------------------------------------------------------------------------


def test_a_datagram_shorter_than_its_content_length(server: Service, peer: Peer, bob: str) -> None:
    assert peer.exchange(_lying(peer.message(bob), 6)).status == 400
    assert stored(server, bob) == []


def test_octets_past_the_content_length_of_a_datagram_are_ignored(server: Service, peer: Peer, bob: str) -> None:
    assert peer.exchange(_lying(peer.message(bob), 4)).status == 202
    assert stored(server, bob) == [b"hell"]


def test_a_datagram_without_content_length_ends_with_its_body(server: Service, peer: Peer, bob: str) -> None:
    assert peer.exchange(without("Content-Length")(peer.message(bob))).status == 202
    assert stored(server, bob) == [b"hello"]


@pytest.mark.parametrize("length", [b"-1", b"5x", b"+5", b"0x5", b"5, 5", b"\xd9\xa5", b"9" * 5000])
def test_a_content_length_that_is_no_number(server: Service, peer: Peer, bob: str, length: bytes) -> None:
    request = replaced(b"Content-Length: 5", b"Content-Length: " + length)(peer.message(bob))
    assert peer.exchange(request).status == 400
    assert stored(server, bob) == []


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("body", [bytes(range(256)), bytes(1000), b"\r\n\r\n", b"\xff\xfe\x80"])
def test_a_body_is_octets(server: Service, bob: str, transport: Transport, body: bytes) -> None:
    with Peer(server.address(transport), transport) as peer:
        assert peer.exchange(peer.message(bob, body)).status == 202
        assert stored(server, bob) == [body]
        assert peer.exchange(peer.registration(bob)).status == 200
        assert peer.take(1)[0].body == body


def test_the_largest_datagram(server: Service, peer: Peer, bob: str) -> None:
    request = _of_size(peer, bob, _DATAGRAM_BYTES_MAX)
    assert peer.exchange(request).status == 202
    assert stored(server, bob) == [Received(request).body]


def test_the_largest_message(server: Service, stream: Peer, bob: str) -> None:
    request = _of_size(stream, bob, _MESSAGE_BYTES_MAX)
    assert stream.exchange(request).status == 202
    with Peer(server.tcp, "tcp") as phone:
        assert phone.exchange(phone.registration(bob)).status == 200
        assert phone.take(1)[0].body == Received(request).body


@pytest.mark.parametrize("too_long", ["by one octet", "by far", "by what no integer holds"])
def test_a_message_too_long_for_a_stream(server: Service, stream: Peer, bob: str, too_long: str) -> None:
    request = _of_size(stream, bob, _MESSAGE_BYTES_MAX + 1)
    if too_long != "by one octet":
        request = _lying(request, 2**31 if too_long == "by far" else 10**60)
    answer = stream.exchange(request)
    assert answer.status in ((400, 413, 513) if too_long == "by what no integer holds" else (413, 513))
    stream.wait_closed()
    assert stored(server, bob) == []


# -- Streams -------------------------------------------------------------------------------------------------


def test_a_stream_message_without_content_length(server: Service, stream: Peer, bob: str) -> None:
    assert stream.exchange(without("Content-Length")(stream.message(bob))).status == 400
    stream.wait_closed()
    assert stored(server, bob) == []


def test_a_content_length_that_is_too_small_on_a_stream(server: Service, stream: Peer, bob: str) -> None:
    # What is left over is taken for the next message, which it is not, so that the connection ends, perhaps before
    # the first one is durable: its sender hears nothing then, and sends it again.
    stream.send(_lying(stream.message(bob, b"hello" + b"x" * 100 + b"\r\n\r\n"), 5))
    assert {one.status for one in stream.wait_closed()} <= {202, 400}
    wait_until_stored(server, bob, [b"hello"])


def test_a_content_length_that_is_too_large_on_a_stream(server: Service, stream: Peer, bob: str) -> None:
    stream.send(_lying(stream.message(bob), 6))
    stream.half_close()
    assert stream.wait_closed() == []
    assert stored(server, bob) == []


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00" * 99 + b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_another_protocol_on_a_stream(stream: Peer, junk: bytes) -> None:
    stream.send(junk)
    assert stream.wait_closed() == []


def test_octets_without_an_end(stream: Peer) -> None:
    for _ in range(10):
        with contextlib.suppress(ConnectionError):
            stream.send(b"A" * 65_536)
    assert stream.wait_closed() == []


def test_one_octet_at_a_time(server: Service, stream: Peer, bob: str) -> None:
    request = stream.message(bob)
    for position in range(len(request)):
        stream.send(request[position : position + 1])
    assert stream.response().status == 202
    assert stored(server, bob) == [b"hello"]


def test_many_messages_in_one_segment(server: Service, stream: Peer, bob: str) -> None:
    stream.send(b"".join(stream.message(bob, b"%d" % number) for number in range(50)))
    assert [stream.response().status for _ in range(50)] == [202] * 50
    assert stored(server, bob) == [b"%d" % number for number in range(50)]


def test_a_peer_that_never_finishes_is_cut_off_and_others_are_served(server: Service, bob: str) -> None:
    with contextlib.ExitStack() as open_peers:
        unfinished = [open_peers.enter_context(Peer(server.tcp, "tcp")) for _ in range(20)]
        for number, slow in enumerate(unfinished):  # the first says nothing at all
            slow.send(slow.message(bob)[: number * 10])
        with Peer(server.tcp, "tcp") as quick:
            assert quick.exchange(quick.message(bob, b"in between")).status == 202
        for slow in unfinished:
            assert slow.wait_closed(5) == []
    assert stored(server, bob) == [b"in between"]


def test_connections_that_break(server: Service, bob: str) -> None:
    for number in range(30):
        breaking = Peer(server.tcp, "tcp")
        request = breaking.message(bob)
        breaking.send(request[: number * 15] if number % 3 else request)
        breaking.reset()
    # Whole requests whose sender did not wait for the answer count.
    with Peer(server.tcp, "tcp") as peer:
        assert peer.exchange(peer.message(bob, b"last")).status == 202
    assert b"last" in stored(server, bob)


def test_an_answer_that_reaches_nobody(server: Service, bob: str) -> None:
    # The sender's port is closed when the answer comes: the network says so on our socket (ICMP).
    for _ in range(20):
        with Peer(server.udp) as gone:
            gone.send(gone.message(bob))
    wait_until_stored(server, bob, [b"hello"] * 20)


def statuses_of(peer: Peer, *datagrams: bytes) -> set[int]:
    """Send datagrams and return the statuses that they bring, without waiting for what does not come.

    A good request goes behind them. The server takes them in order, so that what the others bring is there when it
    is answered.
    """
    statuses: set[int] = set()
    for first in range(0, len(datagrams), _BURST):
        for datagram in datagrams[first : first + _BURST]:
            peer.send(datagram)
        assert peer.exchange(peer.message(unique("behind"))).status == 202
        statuses |= {one.status for one in peer.hear(0)}
    return statuses


def stored(server: Service, owner: str) -> list[bytes]:
    """Return the bodies in one inbox, oldest first."""
    return [row["body"] for row in inbox(f"sqlite:///{server.log.parent}/msilo.db", owner)]


def wait_until_stored(server: Service, owner: str, bodies: list[bytes]) -> None:
    """Wait until exactly these lie in an inbox, for when no answer says so."""
    deadline = time.monotonic() + 10
    while (found := stored(server, owner)) != bodies:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def _lying(request: bytes, length: int) -> bytes:
    """Return the request with another Content-Length."""
    head, end, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length:")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % length]) + end + body


def _of_size(peer: Peer, owner: str, size_bytes: int) -> bytes:
    """Return a MESSAGE of exactly that many octets."""
    room = size_bytes - len(peer.message(owner, bytes(10_000))) + 10_000
    request = peer.message(owner, random.Random(size_bytes).randbytes(room))
    assert len(request) == size_bytes
    return request
