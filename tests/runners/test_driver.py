"""The driver on real sockets, with a machine that is simple enough to see through."""

import socket
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketStream

from msilo_core.actions import CloseFlow, Completion, Dropped, Send
from msilo_core.clock import Moment
from msilo_core.flow import Address, Flow
from msilo_core.limits import Limits
from msilo_runners import tcp
from msilo_runners.addresses import parse_transport_address
from msilo_runners.driver import Driver, read_clock
from msilo_runners.udp import UdpSocket
from tests.runners.loopback import UdpPeer

UDP = "udp://127.0.0.1:0"
TCP = "tcp://127.0.0.1:0"


class Echo:
    """Sends back what it gets, and notes what it is told."""

    def __init__(self) -> None:
        self.inputs: list[tuple[object, ...]] = []
        self.moments: list[Moment] = []
        self.due_ms: int | None = None
        self.timeouts_to_fail = 0
        self.answer: Callable[[bytes, Flow], Sequence[object]] = lambda data, flow: [Send(flow, data)]

    def receive_datagram(self, data: bytes, flow: Flow, now: Moment) -> Sequence[object]:
        self.moments.append(now)
        return self._take("datagram", data, flow)

    def receive_stream(self, data: bytes, flow: Flow, now: Moment) -> Sequence[object]:
        del now
        return self._take("stream", data, flow)

    def receive_handed_over(self, data: bytes, flow: Flow, now: Moment) -> Sequence[object]:
        del now
        return self._take("handed over", data, flow)

    def flow_opened(self, flow: Flow, now: Moment) -> Sequence[object]:
        del now
        self.inputs.append(("opened", flow))
        return []

    def flow_closed(self, flow: Flow, reason: str, now: Moment) -> Sequence[object]:
        del now
        self.inputs.append(("closed", flow, reason))
        return []

    def send_failed(self, token: int, now: Moment) -> Sequence[object]:
        del now
        self.inputs.append(("failed", token))
        return []

    def complete(self, completion: Completion, now: Moment) -> Sequence[object]:
        raise AssertionError(f"nothing was asked of a store at {now}, yet it answered {completion}")

    def handle_timeout(self, now: Moment) -> Sequence[object]:
        if self.timeouts_to_fail:
            self.timeouts_to_fail -= 1
            raise ZeroDivisionError
        if self.due_ms is not None and now.mono_ms >= self.due_ms:
            self.inputs.append(("timeout", now.mono_ms - self.due_ms))
            self.due_ms = None
        return []

    def next_timeout(self) -> int | None:
        return self.due_ms

    def failed_tokens(self) -> list[object]:
        return [values[0] for what, *values in self.inputs if what == "failed"]

    def _take(self, what: str, data: bytes, flow: Flow) -> Sequence[object]:
        self.inputs.append((what, data, flow))
        return self.answer(data, flow)


class Running:
    """A driver that serves an :class:`Echo`."""

    def __init__(self, driver: Driver, echo: Echo, bound: list[Address], seen: list[object]) -> None:
        self.driver = driver
        self.echo = echo
        self.bound = bound
        self.seen = seen

    def perform(self, *actions: object) -> None:
        self.driver.perform(actions, read_clock())

    async def until(self, is_true: Callable[[], object]) -> None:
        with anyio.fail_after(5):
            while not is_true():  # noqa: ASYNC110
                await anyio.sleep(0.002)


@asynccontextmanager
async def running(*listen: str, limits: Limits | None = None) -> AsyncGenerator[Running]:
    echo, seen = Echo(), list[object]()
    driver = Driver(echo, limits=limits or Limits(), observe=seen.append)
    bound = [driver.bind(parse_transport_address(uri)).address for uri in listen]
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(driver.run)
            yield Running(driver, echo, bound, seen)
            tasks.cancel_scope.cancel()
    finally:
        driver.close()


async def receive_exactly(stream: SocketStream, count: int) -> bytes:
    data = b""
    with anyio.fail_after(5):
        while len(data) < count:
            data += await stream.receive()
    return data


async def receive_all(stream: SocketStream) -> bytes:
    data = b""
    with anyio.fail_after(5):
        async for chunk in stream:
            data += chunk
    return data


class TestUdp:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    async def test_answers_leave_by_the_socket_that_the_question_came_to(self, host: str) -> None:
        uri = f"udp://[{host}]:0" if ":" in host else f"udp://{host}:0"
        async with running(uri, uri) as server:
            with UdpPeer(host) as peer:
                for bound in server.bound:
                    peer.send(b"question", bound)
                    assert await peer.receive() == (b"question", bound)
                    assert server.echo.inputs[-1] == ("datagram", b"question", Flow("udp", bound, peer.address))

    @pytest.mark.parametrize(("every", "host"), [("0.0.0.0", "127.0.0.1"), ("[::]", "::1")])
    async def test_a_socket_on_all_addresses_is_known_by_the_one_that_the_peer_sees(
        self, every: str, host: str
    ) -> None:
        async with running(f"udp://{every}:0") as server:
            with UdpPeer(host) as peer:
                ours = (host, server.bound[0][1])
                peer.send(b"question", ours)
                assert await peer.receive() == (b"question", ours)
                assert server.echo.inputs == [("datagram", b"question", Flow("udp", ours, peer.address))]
                server.perform(Send(Flow("udp", ours, peer.address), b"later"))
                assert await peer.receive() == (b"later", ours)

    async def test_answers_leave_by_the_address_that_the_question_came_to(self) -> None:
        # RFC 3581 section 4: "the response MUST be sent from the same IP address and port that the corresponding
        # request was received on".
        async with running("udp://0.0.0.0:0") as server:
            with UdpPeer() as peer:
                for host in ("127.0.0.2", "127.0.0.1", "127.0.0.3"):
                    ours = (host, server.bound[0][1])
                    peer.send(b"question", ours)
                    assert await peer.receive() == (b"question", ours)
                    assert server.echo.inputs[-1] == ("datagram", b"question", Flow("udp", ours, peer.address))

    @pytest.mark.parametrize(("every", "host", "earlier"), [
        ("0.0.0.0", "127.0.0.1", "192.0.2.7"), ("[::]", "::1", "2001:db8::7"),
    ])  # fmt: skip
    async def test_an_address_that_is_ours_no_more_is_not_insisted_on(
        self, every: str, host: str, earlier: str
    ) -> None:
        async with running(f"udp://{every}:0") as server:
            with UdpPeer(host) as peer:
                port = server.bound[0][1]
                server.perform(Send(Flow("udp", (earlier, port), peer.address), b"later", token=7))
                assert await peer.receive() == (b"later", (host, port))
                assert server.echo.failed_tokens() == []

    async def test_datagrams_of_every_size_arrive_whole(self) -> None:
        async with running(UDP) as server:
            with UdpPeer() as peer:
                for size in (0, 1, 65_507):
                    peer.send(b"x" * size, server.bound[0])
                    assert await peer.receive() == (b"x" * size, server.bound[0])

    async def test_a_wakeup_drains_the_socket_up_to_the_limit_and_tells_one_moment(self) -> None:
        async with running(UDP, limits=Limits(datagrams_per_wakeup_max=8)) as server:

            def answer(_data: bytes, _flow: Flow) -> Sequence[object]:
                # Moments of two wake-ups could be equal by chance.
                time.sleep(0.002)
                return []

            server.echo.answer = answer
            with UdpPeer() as peer:
                # No await in between: the driver finds them all at once.
                for number in range(20):
                    peer.send(bytes([number]), server.bound[0])
            await server.until(lambda: len(server.echo.inputs) == 20)
        assert [values[1] for values in server.echo.inputs] == [bytes([number]) for number in range(20)]
        assert list(Counter(server.echo.moments).values()) == [8, 8, 4]

    async def test_a_datagram_that_is_too_long_has_failed(self) -> None:
        async with running(UDP) as server:
            flow = Flow("udp", server.bound[0], server.bound[0])
            server.perform(Send(flow, b"x" * 65_600, token=7), Send(flow, b"x" * 65_600), Send(flow, b"fits", token=8))
            await server.until(lambda: len(server.echo.inputs) >= 2)
        assert server.echo.inputs[0] == ("failed", 7)
        assert server.echo.inputs[1][:2] == ("datagram", b"fits")
        assert server.echo.failed_tokens() == [7]

    async def test_a_socket_that_is_gone_is_replaced_by_one_of_the_same_family(self) -> None:
        async with running(UDP) as server:
            with UdpPeer() as peer:
                before = Flow("udp", ("127.0.0.1", 1), peer.address)
                server.perform(Send(before, b"to an old binding", token=1))
                assert await peer.receive() == (b"to an old binding", server.bound[0])
            server.perform(Send(Flow("udp", ("::1", 1), ("::1", 5060)), b"no such family", token=2))
        assert server.echo.failed_tokens() == [2]

    async def test_an_unreachable_port_stops_nothing(self) -> None:
        async with running(UDP) as server:
            with UdpPeer() as gone:
                nobody = gone.address
            for _ in range(3):
                server.perform(Send(Flow("udp", server.bound[0], nobody), b"anybody?"))
                await anyio.sleep(0.01)
            with UdpPeer() as peer:
                peer.send(b"still there?", server.bound[0])
                assert await peer.receive() == (b"still there?", server.bound[0])

    async def test_what_the_system_does_not_take_waits_in_order(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        # UDP on loopback never blocks; a Unix socket does as soon as ten datagrams are unread.
        directory = tmp_path_factory.mktemp("s")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as raw,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as slow,
        ):
            raw.setblocking(False)
            raw.bind(str(directory / "a"))
            slow.bind(str(directory / "b"))
            slow.settimeout(5)
            remote = cast("Address", str(directory / "b"))
            sender = UdpSocket(raw, outbox_max=40)
            sent = [b"%d" % number for number in range(40)]
            for data in sent:
                assert sender.send(data, remote, 0, remote)
            had_to_wait = not sender.is_flushed
            failed: list[int] = []
            received: list[bytes] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.write, failed.append)
                while len(received) < len(sent):
                    received.append(await anyio.to_thread.run_sync(slow.recv, 100))
                tasks.cancel_scope.cancel()
            assert received == sent
            assert had_to_wait
            assert sender.is_flushed
            assert (sender.dropped, failed) == (0, [])

    async def test_past_the_outbox_datagrams_are_dropped_and_counted(
        self, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        directory = tmp_path_factory.mktemp("s")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as raw,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as slow,
        ):
            raw.setblocking(False)
            raw.bind(str(directory / "a"))
            slow.bind(str(directory / "b"))
            sender = UdpSocket(raw, outbox_max=5)
            remote = cast("Address", str(directory / "b"))
            while sender.is_flushed:
                assert sender.send(b"fills the receiver", remote, 0, remote)
            for _ in range(4):
                assert sender.send(b"fills the outbox", remote, 0, remote)
            assert sender.dropped == 0
            assert sender.send(b"one too many", remote, 0, remote)
            assert sender.dropped == 1

    async def test_a_machine_that_fails_on_one_datagram_serves_the_next(self, caplog: pytest.LogCaptureFixture) -> None:
        async with running(UDP) as server:

            def answer(data: bytes, flow: Flow) -> Sequence[object]:
                if data == b"bad":
                    raise ZeroDivisionError
                return [Send(flow, data)]

            server.echo.answer = answer
            with UdpPeer() as peer:
                for data in (b"bad", b"bad", b"good"):
                    peer.send(data, server.bound[0])
                assert await peer.receive() == (b"good", server.bound[0])
            assert server.driver.statistics.faults == 2
        assert [record.message for record in caplog.records] == ["bug: the engine failed; 1 times so far"]

    async def test_actions_of_others_are_observed_and_drops_are_not(self) -> None:
        async with running(UDP) as server:
            server.perform("an action of some machine", Dropped(Flow("udp", server.bound[0], server.bound[0]), "why"))
            assert server.seen == ["an action of some machine"]


class TestTime:
    async def test_the_timer_comes_when_it_is_due_and_once(self) -> None:
        async with running(UDP) as server:
            server.echo.due_ms = read_clock().mono_ms + 60
            server.perform()
            await server.until(lambda: server.echo.inputs)
            await anyio.sleep(0.1)
            (what, late_ms), *more = server.echo.inputs
            assert (what, more) == ("timeout", [])
            assert isinstance(late_ms, int)
            assert late_ms < 50

    async def test_an_earlier_deadline_moves_the_timer_and_a_later_one_does_not_lose_it(self) -> None:
        async with running(UDP) as server:
            begin_ms = read_clock().mono_ms
            for due_ms in (begin_ms + 60_000, begin_ms + 30, begin_ms + 80):
                server.echo.due_ms = due_ms
                server.perform()
            await server.until(lambda: server.echo.inputs)
            assert 80 <= read_clock().mono_ms - begin_ms < 1000

    async def test_a_deadline_that_the_machine_cannot_meet_does_not_spin(self) -> None:
        async with running(UDP) as server:
            server.echo.timeouts_to_fail = 1000
            server.echo.due_ms = read_clock().mono_ms
            server.perform()
            await anyio.sleep(0.25)
            assert 1 <= 1000 - server.echo.timeouts_to_fail <= 4
            server.echo.timeouts_to_fail = 0
            await server.until(lambda: server.echo.inputs)
            assert server.echo.inputs[0][0] == "timeout"


class TestTcpAccepted:
    async def test_octets_go_both_ways_and_the_flow_tells_the_connection(self) -> None:
        async with running(TCP) as server:
            async with (
                await anyio.connect_tcp(*server.bound[0]) as first,
                await anyio.connect_tcp(*server.bound[0]) as second,
            ):
                for number, stream in enumerate((first, second)):
                    await stream.send(b"%d" % number)
                    assert await receive_exactly(stream, 1) == b"%d" % number
            await server.until(lambda: len(server.echo.inputs) == 6)
            flows = [values[-1] for values in server.echo.inputs if values[0] == "stream"]
            assert [values[1] for values in server.echo.inputs if values[0] == "opened"] == flows
            closed = [values for values in server.echo.inputs if values[0] == "closed"]
            assert sorted(closed, key=str) == sorted(
                [("closed", flow, "the peer closed the connection") for flow in flows], key=str
            )
            assert server.driver.statistics.connections == 0

    @pytest.mark.parametrize(("every", "host"), [("0.0.0.0", "127.0.0.1"), ("[::]", "::1")])
    async def test_a_listener_on_all_addresses_is_known_by_the_one_that_the_peer_sees(
        self, every: str, host: str
    ) -> None:
        async with running(f"tcp://{every}:0") as server:
            ours = (host, server.bound[0][1])
            async with await anyio.connect_tcp(*ours) as peer:
                await peer.send(b"x")
                assert await receive_exactly(peer, 1) == b"x"
            flow = server.echo.inputs[0][1]
            assert isinstance(flow, Flow)
            assert flow.local == ours

    async def test_what_is_sent_after_the_end_has_failed(self) -> None:
        async with running(TCP) as server:
            async with await anyio.connect_tcp(*server.bound[0]) as peer:
                await peer.send(b"x")
                await receive_exactly(peer, 1)
            await server.until(lambda: server.echo.inputs[-1][0] == "closed")
            flow = server.echo.inputs[-1][1]
            assert isinstance(flow, Flow)
            server.perform(Send(flow, b"late", token=4), Send(flow, b"later"), CloseFlow(flow, "twice"))
            assert server.echo.failed_tokens() == [4]

    async def test_a_flow_of_an_earlier_process_is_not_taken_for_one_of_ours(self) -> None:
        async with running(TCP) as server, await anyio.connect_tcp(*server.bound[0]) as peer:
            await server.until(lambda: server.echo.inputs)
            ours = server.echo.inputs[0][1]
            assert isinstance(ours, Flow)
            earlier = Flow("tcp", ours.local, ("192.0.2.9", 5060), ours.token)
            server.perform(Send(earlier, b"for another", token=1), CloseFlow(earlier, "why"), Send(ours, b"for you"))
            assert server.echo.failed_tokens() == [1]
            assert await receive_exactly(peer, 7) == b"for you"

    async def test_a_reset_is_a_closed_flow(self) -> None:
        async with running(TCP) as server:
            peer = socket.create_connection(server.bound[0])
            await server.until(lambda: server.echo.inputs)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
            await server.until(lambda: server.echo.inputs[-1][0] == "closed")
            assert server.echo.inputs[-1][2] == "Connection reset by peer"

    async def test_a_peer_that_does_not_read_is_cut_and_others_are_served(self) -> None:
        async with (
            running(TCP, limits=Limits(connection_buffer_bytes_max=100_000)) as server,
            await anyio.connect_tcp(*server.bound[0]),
            await anyio.connect_tcp(*server.bound[0]) as other,
        ):
            await server.until(lambda: len(server.echo.inputs) == 2)
            flow = server.echo.inputs[0][1]
            assert isinstance(flow, Flow)
            token = 0
            while server.echo.inputs[-1][0] == "opened":
                token += 1
                server.perform(Send(flow, b"x" * 50_000, token=token))
                await anyio.lowlevel.checkpoint()
            await server.until(lambda: server.echo.failed_tokens())
            assert ("closed", flow, "the peer does not read") in server.echo.inputs
            failed = cast("list[int]", server.echo.failed_tokens())
            # What was not written to its end, and nothing else.
            assert sorted(failed) == list(range(token - len(failed) + 1, token + 1))
            await other.send(b"still served?")
            assert await receive_exactly(other, 13) == b"still served?"

    async def test_many_sends_in_a_row_arrive_in_order(self) -> None:
        async with running(TCP) as server, await anyio.connect_tcp(*server.bound[0]) as peer:
            server.echo.answer = lambda _data, flow: [Send(flow, b"%06d" % number) for number in range(50_000)]
            await peer.send(b"go")
            assert await receive_exactly(peer, 300_000) == b"".join(b"%06d" % number for number in range(50_000))
            await server.until(lambda: server.driver.is_flushed)

    async def test_a_machine_that_fails_on_a_stream_loses_only_that_stream(self) -> None:
        async with running(TCP) as server:

            def answer(data: bytes, flow: Flow) -> Sequence[object]:
                if data == b"bad":
                    raise ZeroDivisionError
                return [Send(flow, data)]

            server.echo.answer = answer
            async with (
                await anyio.connect_tcp(*server.bound[0]) as bad,
                await anyio.connect_tcp(*server.bound[0]) as good,
            ):
                await bad.send(b"bad")
                assert await receive_all(bad) == b""
                await good.send(b"good")
                assert await receive_exactly(good, 4) == b"good"


class TestTcpClosing:
    async def test_what_was_sent_before_arrives_and_no_report_follows(self) -> None:
        # More than the system's buffers hold, so that the end has to wait for the peer.
        size = 12_000_000
        async with running(TCP, limits=Limits(connection_buffer_bytes_max=size)) as server:
            server.echo.answer = lambda _data, flow: [
                Send(flow, b"x" * size, token=1),
                CloseFlow(flow, "enough"),
                Send(flow, b"too late", token=2),
            ]
            async with await anyio.connect_tcp(*server.bound[0]) as peer:
                await peer.send(b"go")
                assert len(await receive_all(peer)) == size
            await server.until(lambda: server.driver.statistics.connections == 0)
            assert server.echo.failed_tokens() == [2]
            assert not [values for values in server.echo.inputs if values[0] == "closed"]

    async def test_the_last_answer_reaches_a_peer_that_goes_on_sending(self) -> None:
        async with running(TCP) as server:
            server.echo.answer = lambda _data, flow: [Send(flow, b"413"), CloseFlow(flow, "too long")]
            async with await anyio.connect_tcp(*server.bound[0]) as peer:
                for _ in range(50):
                    await peer.send(b"x" * 10_000)
                    await anyio.sleep(0.001)
                assert await receive_all(peer) == b"413"
            # What came after the end is nobody's business.
            assert len([values for values in server.echo.inputs if values[0] == "stream"]) == 1

    async def test_a_peer_that_does_not_close_in_turn_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "LINGER_S", 0.1)
        async with running(TCP) as server:
            server.echo.answer = lambda _data, flow: [CloseFlow(flow, "enough")]
            async with await anyio.connect_tcp(*server.bound[0]) as peer:
                await peer.send(b"go")
                await server.until(lambda: server.echo.inputs[-1][0] == "stream")
                assert server.driver.statistics.connections == 1
                await server.until(lambda: server.driver.statistics.connections == 0)
                assert not [values for values in server.echo.inputs if values[0] == "closed"]


class TestTcpConnecting:
    async def test_a_connection_is_made_once_and_used_again(self) -> None:
        async with running(TCP, TCP) as server:
            # The second listener stands for a phone, which sends back what it gets.
            local, phone = server.bound
            server.echo.answer = lambda data, flow: [Send(flow, data)] if flow.local == phone else []
            flow = Flow("tcp", local, phone)

            def came_back() -> list[object]:
                return [values[1] for values in server.echo.inputs if values[0] == "stream" and values[2] != there]

            server.perform(Send(flow, b"one ", token=1), Send(flow, b"two", token=2))
            await server.until(lambda: server.echo.inputs)
            there = server.echo.inputs[0][1]
            await server.until(lambda: came_back() == [b"one two"])
            server.perform(Send(flow, b"three", token=3))
            await server.until(lambda: came_back() == [b"one two", b"three"])
            assert [values[0] for values in server.echo.inputs].count("opened") == 1
            assert server.driver.statistics.connections == 2

    async def test_octets_that_come_back_carry_the_address_that_was_sent_from(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as phone:
            async with running(TCP) as server:
                server.echo.answer = lambda _data, _flow: []
                server.perform(Send(Flow("tcp", server.bound[0], phone.getsockname()), b"ring"))
                with anyio.fail_after(5):
                    await anyio.wait_readable(phone)
                accepted, source = phone.accept()
                with accepted:
                    assert source[0] == "127.0.0.1"
                    accepted.send(b"200")
                    await server.until(lambda: server.echo.inputs)
                    assert accepted.recv(100) == b"ring"
            what, data, flow = server.echo.inputs[0]
            assert (what, data) == ("stream", b"200")
            assert isinstance(flow, Flow)
            assert flow.token
            assert (flow.local, flow.remote) == (server.bound[0], phone.getsockname())

    async def test_a_refused_connection_fails_everything_that_waits_for_it(self) -> None:
        with socket.socket() as gone:
            gone.bind(("127.0.0.1", 0))
            nobody = gone.getsockname()
        async with running(TCP) as server:
            flow = Flow("tcp", server.bound[0], nobody)
            server.perform(
                Send(flow, b"x", token=1), Send(flow, b"y"), Send(flow, b"z", token=3), Send(flow, b"z", token=3)
            )
            await server.until(lambda: server.echo.inputs)
            await anyio.sleep(0.01)
        # The machine never knew the flow, so that its end is not told.
        assert server.echo.inputs == [("failed", 1), ("failed", 3)]

    async def test_a_connection_that_does_not_come_about_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "CONNECT_S", 0.1)
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            remote = full.getsockname()
            # A full queue drops the SYN, as a firewall does.
            with socket.create_connection(remote):
                async with running(TCP) as server:
                    server.perform(Send(Flow("tcp", server.bound[0], remote), b"x", token=1))
                    assert server.echo.inputs == []
                    await server.until(lambda: server.echo.inputs)
                    assert server.echo.inputs == [("failed", 1)]
                    assert server.driver.statistics.connections == 0


class TestTcpLimits:
    async def test_on_the_limit_a_connection_is_served_and_past_it_closed_at_once(self) -> None:
        async with (
            running(TCP, limits=Limits(connections_max=2)) as server,
            await anyio.connect_tcp(*server.bound[0]) as first,
            await anyio.connect_tcp(*server.bound[0]),
        ):
            await server.until(lambda: len(server.echo.inputs) == 2)
            async with await anyio.connect_tcp(*server.bound[0]) as third:
                assert await receive_all(third) == b""
            assert server.driver.statistics.connections_refused == 1
            flow = Flow("tcp", server.bound[0], ("127.0.0.1", 1))
            server.perform(Send(flow, b"x", token=5))
            assert server.echo.failed_tokens() == [5]
            await first.aclose()
            await server.until(lambda: server.driver.statistics.connections == 1)
            async with await anyio.connect_tcp(*server.bound[0]) as fourth:
                await fourth.send(b"served?")
                assert await receive_exactly(fourth, 7) == b"served?"

    async def test_one_host_cannot_take_all(self) -> None:
        limits = Limits(connections_max=10, connections_per_host_max=1)
        async with running(TCP, limits=limits) as server, await anyio.connect_tcp(*server.bound[0]):
            async with await anyio.connect_tcp(*server.bound[0]) as second:
                assert await receive_all(second) == b""
            async with await anyio.connect_tcp(*server.bound[0], local_host="127.0.0.2") as other:
                await other.send(b"served?")
                assert await receive_exactly(other, 7) == b"served?"
            assert server.driver.statistics.connections_refused == 1


async def test_an_address_that_is_taken_is_an_error() -> None:
    async with running(UDP, TCP) as server:
        driver = Driver(Echo(), limits=Limits(), observe=print)
        for scheme, (host, port) in zip(("udp", "tcp"), server.bound, strict=True):
            with pytest.raises(OSError, match="Address already in use"):
                driver.bind(parse_transport_address(f"{scheme}://{host}:{port}"))
        driver.close()
