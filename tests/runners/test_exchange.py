"""What workers hand to each other, with two drivers in one process."""

import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import msgspec
import pytest

from msilo_core import Flow, HandOver, Limits, Send, Worker
from msilo_core.actions import CloseFlow
from msilo_runners.addresses import parse_transport_address
from msilo_runners.driver import Driver, open_socket
from msilo_runners.errors import StartError
from msilo_runners.exchange import DATAGRAM_BYTES_MAX, Began, Exchange, exchange_pair
from msilo_runners.seats import Seats
from tests.runners.test_driver import TCP, Echo, Running

BOB = ("127.0.0.1", 5072)


@asynccontextmanager
async def team(count: int = 2, starts: tuple[int, ...] = (0, 1)) -> AsyncGenerator[list[Running]]:
    """Workers that listen on a TCP port each."""
    async with AsyncExitStack() as stack:
        pairs = [exchange_pair() for _ in range(count)]
        running: list[Running] = []
        for number, start in enumerate(starts):
            echo, seen = Echo(), list[object]()
            outboxes = {other: outbox.dup() for other, (_, outbox) in enumerate(pairs) if other != number}
            exchange = Exchange(Worker(number, count), start, pairs[number][0].dup(), outboxes)
            driver = Driver(echo, limits=Limits(), observe=seen.append, exchange=exchange)
            stack.callback(driver.close)
            bound = driver.adopt(open_socket(parse_transport_address(TCP)))
            running.append(Running(driver, echo, [bound.address], seen))
        for pair in pairs:
            for end in pair:
                end.close()
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for one in running:
            await tasks.start(one.driver.run)
        yield running
        tasks.cancel_scope.cancel()


async def connected(to: Running) -> tuple[socket.socket, Flow]:
    """Return a connection to one, and its flow there."""
    opened = len(to.echo.inputs)
    peer = socket.create_connection(to.bound[0])
    peer.settimeout(5)
    await to.until(lambda: len(to.echo.inputs) > opened)
    what, flow = to.echo.inputs[-1]
    assert what == "opened"
    assert isinstance(flow, Flow)
    return peer, flow


class TestHandOver:
    async def test_arrives_as_it_was_with_where_it_came_from(self) -> None:
        flow = Flow("udp", ("127.0.0.1", 5060), BOB)
        async with team() as (first, second):
            second.echo.answer = lambda _data, _flow: []
            first.perform(*[HandOver(1, flow, bytes([n]) * n) for n in range(200)])
            await first.until(lambda: len(second.echo.inputs) == 200)
            assert second.echo.inputs == [("handed over", bytes([n]) * n, flow) for n in range(200)]

    async def test_what_the_other_does_not_read_is_dropped_and_counted(self) -> None:
        flow = Flow("udp", ("127.0.0.1", 5060), BOB)
        async with team() as (first, second):
            second.echo.answer = lambda _data, _flow: []
            # Nobody reads meanwhile: nothing here waits.
            sent = 1_000
            for _ in range(sent):
                first.perform(HandOver(1, flow, bytes(60_000)))
            dropped = first.driver.statistics.handovers_dropped
            assert 0 < dropped < sent
            await first.until(lambda: len(second.echo.inputs) == sent - dropped)
            first.perform(HandOver(1, flow, b"again"))
            await first.until(lambda: second.echo.inputs[-1] == ("handed over", b"again", flow))

    async def test_what_is_too_long_is_dropped_and_the_rest_is_not(self) -> None:
        flow = Flow("udp", ("127.0.0.1", 5060), BOB)
        async with team() as (first, second):
            second.echo.answer = lambda _data, _flow: []
            first.perform(*[HandOver(1, flow, bytes(size)) for size in (1, DATAGRAM_BYTES_MAX, 65_535, 2)])
            await first.until(lambda: len(second.echo.inputs) == 3)
            assert [data for _, data, _ in second.echo.inputs] == [bytes(size) for size in (1, 65_535, 2)]
            assert first.driver.statistics.handovers_dropped == 1

    async def test_what_another_release_hands_over_is_dropped_and_counted(self) -> None:
        inbox, outbox = exchange_pair()
        exchange = Exchange(Worker(0, 2), 0, inbox, {})
        with outbox:
            for data in (b"", b"\xc1", msgspec.msgpack.encode([{"type": "Unheard"}])):
                outbox.send(data)
            assert await exchange.receive() == []
        assert exchange.dropped == 3
        exchange.close()

    async def test_a_machine_that_fails_on_one_takes_the_next(self) -> None:
        flow = Flow("udp", ("127.0.0.1", 5060), BOB)
        async with team() as (first, second):
            first.perform(HandOver(1, flow, b"x"))
            # Its answer would go out on a socket that there is not: no fault. An exception is one.
            await first.until(lambda: len(second.echo.inputs) == 1)
            second.echo.answer = lambda _data, _flow: [1 / 0]
            first.perform(HandOver(1, flow, b"x"))
            await first.until(lambda: second.driver.statistics.faults)
            first.perform(HandOver(1, flow, b"x"))
            await first.until(lambda: second.driver.statistics.faults == 2)


class TestConnection:
    async def test_of_another_is_sent_on(self) -> None:
        async with team() as (first, second):
            peer, flow = await connected(first)
            with peer:
                long = bytes(65_535)
                second.perform(Send(flow, b"hello", 5), Send(flow, long, 6))
                data = b""
                while len(data) < 5 + len(long):
                    data += await anyio.to_thread.run_sync(peer.recv, 65_536)
                assert data == b"hello" + long
            assert second.echo.failed_tokens() == []

    async def test_that_ends_is_told_of(self) -> None:
        async with team() as (first, second):
            peer, flow = await connected(first)
            second.perform(Send(flow, b"hello", 5))
            assert await anyio.to_thread.run_sync(peer.recv, 100) == b"hello"
            peer.close()
            await first.until(lambda: second.echo.inputs)
            assert second.echo.inputs == [("closed", flow, "gone at another worker")]
            # Nobody is told twice, or who did not use it.
            assert [what for what, *_ in first.echo.inputs] == ["opened", "closed"]

    async def test_that_its_worker_closes_is_told_of(self) -> None:
        async with team() as (first, second):
            peer, flow = await connected(first)
            with peer:
                second.perform(Send(flow, b"hello", 5))
                assert await anyio.to_thread.run_sync(peer.recv, 100) == b"hello"
                first.perform(CloseFlow(flow, "enough"))
                await first.until(lambda: second.echo.inputs)
                assert second.echo.inputs == [("closed", flow, "gone at another worker")]

    async def test_that_is_gone_is_told_of(self) -> None:
        async with team() as (first, second):
            peer, flow = await connected(first)
            peer.close()
            await first.until(lambda: len(first.echo.inputs) == 2)
            second.perform(Send(flow, b"hello", 5))
            await first.until(lambda: second.echo.inputs)
            assert second.echo.inputs == [("closed", flow, "gone at another worker")]

    async def test_of_an_earlier_start_is_not_taken_for_one_of_this(self) -> None:
        async with team(starts=(2, 1)) as (first, second):
            peer, flow = await connected(first)
            with peer:
                assert flow.token == (2 << 32) + 1
                earlier = Flow("tcp", flow.local, flow.remote, 1)
                second.perform(Send(earlier, b"for another", 5))
                await first.until(lambda: second.echo.inputs)
                assert second.echo.inputs == [("closed", earlier, "gone at another worker")]
                first.perform(Send(earlier, b"for another", 6))
                assert first.echo.failed_tokens() == [6]

    async def test_those_of_an_earlier_start_are_gone_when_the_next_begins(self) -> None:
        pairs = [exchange_pair() for _ in range(2)]
        with pairs[0][0], pairs[1][1]:
            used = Exchange(Worker(1, 2), 1, pairs[1][0], {0: pairs[0][1]})
            local = ("127.0.0.1", 5060)
            earlier, later = (Flow("tcp", local, BOB, (start << 32) + 1) for start in (0, 2))
            for flow in (later, earlier):
                used.carry(Send(flow, b"hello"))
            again = Exchange(Worker(0, 2), 2, pairs[0][0], {1: pairs[1][1]})
            again.announce()
            (item,) = await used.receive()
            assert isinstance(item, Began)
            assert used.ended(item) == [earlier]
            assert used.ended(item) == []
            used.close()

    async def test_what_cannot_be_handed_on_has_failed(self) -> None:
        async with team() as (first, second):
            peer, flow = await connected(first)
            with peer:
                second.perform(*[Send(flow, bytes(DATAGRAM_BYTES_MAX), token) for token in (3, 4)])
                assert second.echo.failed_tokens() == [3, 4]
                # Nobody reads meanwhile.
                second.perform(*[Send(flow, bytes(60_000), token) for token in range(1, 501)])
                assert 0 < len(second.echo.failed_tokens()) - 2 < 500

    async def test_of_nobody_in_particular_is_ones_own(self) -> None:
        async with team() as (first, second):
            first.echo.answer = lambda _data, _flow: []
            to = Flow("tcp", second.bound[0], first.bound[0])
            second.perform(Send(to, b"hello", 5))
            await first.until(lambda: [data for what, data, *_ in first.echo.inputs if what == "stream"] == [b"hello"])


class TestSharing:
    def test_a_system_that_cannot_is_one_clear_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(socket, "SO_REUSEPORT")
        complaint = r"^cannot listen on udp://127\.0\.0\.1:\d+: this system .* share a port: leave --workers out$"
        with Seats("n", 2) as seats, pytest.raises(StartError, match=complaint):
            seats.open([parse_transport_address("udp://127.0.0.1:0")])

    @pytest.mark.parametrize("scheme", ["udp", "tcp"])
    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0.0.0.0", "[::]"])
    def test_an_address_that_others_share_is_taken(self, scheme: str, host: str) -> None:
        with Seats("n", 2) as seats, Seats("m", 2) as others:
            seats.open([parse_transport_address(f"{scheme}://{host}:0")])
            (where,) = seats.addresses
            assert where.port
            with pytest.raises(StartError, match=r"^cannot listen on .*: Address already in use$"):
                others.open([parse_transport_address(str(where))])
        # All is closed.
        with Seats("m", 2) as others:
            others.open([where])
