"""The loop around a sans-IO machine: wait, feed it, carry out what it asks, arm the timer.

Nothing here decides anything about SIP. What the driver knows of the machine's actions is how to put octets
on a socket and how to close a connection; everything else it hands on.
"""

import logging
import math
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol, assert_never

import anyio
import msgspec
from anyio.abc import TaskStatus

from msilo_core import Address, CloseFlow, Completion, Dropped, Flow, HandOver, Limits, Moment, Send
from msilo_runners.addresses import TransportAddress
from msilo_runners.exchange import Began, Carry, Exchange, Gone, Response
from msilo_runners.logs import Throttle
from msilo_runners.tcp import TcpTransport, open_listener
from msilo_runners.udp import UdpSocket, open_udp

__all__ = ["Driver", "Machine", "TransportStatistics", "open_socket", "read_clock"]

logger = logging.getLogger(__name__)

FAULT_PAUSE_S: Final = 0.1
"""Pause of the timer after the machine failed in it, so that a deadline it cannot meet does not spin."""


class Machine(Protocol):
    """What can be driven: :class:`msilo_core.Engine`, :class:`msilo_core.UserAgent`, or an application's own.

    Each input returns actions. :class:`Send`, :class:`CloseFlow`, :class:`HandOver` and :class:`Dropped` are the
    driver's; any other goes to whoever observes.
    """

    def receive_datagram(self, data: bytes, flow: Flow, now: Moment, /) -> Sequence[object]: ...

    def receive_stream(self, data: bytes, flow: Flow, now: Moment, /) -> Sequence[object]: ...

    def receive_handed_over(self, data: bytes, flow: Flow, now: Moment, /) -> Sequence[object]: ...

    def flow_opened(self, flow: Flow, now: Moment, /) -> Sequence[object]: ...

    def flow_closed(self, flow: Flow, reason: str, now: Moment, /) -> Sequence[object]: ...

    def send_failed(self, token: int, now: Moment, /) -> Sequence[object]: ...

    def complete(self, completion: Completion, now: Moment, /) -> Sequence[object]: ...

    def handle_timeout(self, now: Moment, /) -> Sequence[object]: ...

    def next_timeout(self) -> int | None: ...


class TransportStatistics(msgspec.Struct, frozen=True):
    """What the sockets saw.

    Attributes:
        connections: stream connections there are now.
        connections_refused: closed at once because there were too many.
        datagrams_dropped: not sent because the system took no more.
        handovers_dropped: what another worker did not get because it is too busy.
        faults: inputs that the machine failed on; each is a bug.
    """

    connections: int
    connections_refused: int
    datagrams_dropped: int
    handovers_dropped: int
    faults: int


def read_clock() -> Moment:
    """Return the present."""
    return Moment(mono_ms=time.monotonic_ns() // 1_000_000, unix_ms=time.time_ns() // 1_000_000)


class Driver:
    """Sockets and time for one machine, on asyncio or trio.

    Args:
        machine: what is driven.
        limits: the same that the machine has.
        observe: takes each action that is not the driver's, at once and without waiting.
        exchange: leads to the other workers, if there are any; its sockets become the driver's.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        limits: Limits,
        observe: Callable[[object], None],
        exchange: Exchange | None = None,
    ) -> None:
        self._machine = machine
        self._limits = limits
        self._observe = observe
        self._udp: dict[Address, UdpSocket] = {}
        self._exchange = exchange
        self._tcp = TcpTransport(self, limits, 0 if exchange is None else exchange.first_token)
        self._alarm = anyio.CancelScope()
        self._alarm_ms: int | None = None
        self._faults = 0
        self._complaints = Throttle()

    def bind(self, where: TransportAddress) -> TransportAddress:
        """Open a socket to listen on before :meth:`run`; return where it is, with the real port.

        Raises:
            OSError: the address is taken or not ours.
        """
        return self.adopt(open_socket(where))

    def adopt(self, bound: socket.socket) -> TransportAddress:
        """Serve a socket that :func:`open_socket` has opened, and close it at the end; return where it is."""
        if bound.type == socket.SOCK_STREAM:
            return TransportAddress.of("tcp", self._tcp.adopt(bound))
        datagrams = UdpSocket(bound, outbox_max=self._limits.outbox_datagrams_max)
        self._udp[datagrams.local] = datagrams
        return TransportAddress.of("udp", datagrams.local)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> NoReturn:
        """Serve all sockets and the timer until cancelled."""
        async with anyio.create_task_group() as tasks:
            for bound in self._udp.values():
                tasks.start_soon(self._serve, bound, name=f"receive on {bound.local}")
                tasks.start_soon(bound.write, self._send_failed, name=f"write to {bound.local}")
            self._tcp.start(tasks)
            if self._exchange is not None:
                tasks.start_soon(self._take_over, self._exchange)
            tasks.start_soon(self._keep_time)
            task_status.started()
        raise AssertionError("the tasks of a driver do not end by themselves")

    def close(self) -> None:
        """Close the sockets; :meth:`run` has ended, or was never begun."""
        for bound in self._udp.values():
            bound.close()
        self._tcp.close()
        if self._exchange is not None:
            self._exchange.close()

    def perform(self, actions: Sequence[object], now: Moment) -> None:
        """Carry out what the machine asked for, as with the actions of a command to it."""
        while actions:
            failed = [token for action in actions if (token := self._carry_out(action))]
            self._tcp.flush()
            if self._exchange is not None:
                failed += self._exchange.flush()
            actions = [action for token in failed for action in self._ask(self._machine.send_failed, token, now)]
        self._set_alarm()

    def complete(self, completions: Sequence[Completion]) -> None:
        """Give completions to the machine."""
        now = read_clock()
        actions: list[object] = []
        for completion in completions:
            actions += self._ask(self._machine.complete, completion, now)
        self.perform(actions, now)

    @property
    def is_flushed(self) -> bool:
        """Whether all that was sent has left."""
        return self._tcp.is_flushed and all(bound.is_flushed for bound in self._udp.values())

    @property
    def statistics(self) -> TransportStatistics:
        """What the sockets saw so far."""
        return TransportStatistics(
            connections=self._tcp.connections,
            connections_refused=self._tcp.refused,
            datagrams_dropped=sum(bound.dropped for bound in self._udp.values()),
            handovers_dropped=0 if self._exchange is None else self._exchange.dropped,
            faults=self._faults,
        )

    # StreamReceiver, for the connections

    def stream_opened(self, flow: Flow) -> None:
        """Tell the machine that a peer connected."""
        now = read_clock()
        self.perform(self._ask(self._machine.flow_opened, flow, now), now)

    def stream_received(self, data: bytes, flow: Flow) -> None:
        """Feed the machine octets of a connection."""
        now = read_clock()
        faults = self._faults
        self.perform(self._ask(self._machine.receive_stream, data, flow, now), now)
        if self._faults != faults:
            # Nobody knows where in the stream the machine stands.
            self._tcp.cut_flow(flow, "internal error")

    def stream_closed(self, flow: Flow, reason: str) -> None:
        """Tell the machine that a connection is gone, and the other workers."""
        now = read_clock()
        if self._exchange is not None:
            self._exchange.closed(flow)
            self._exchange.flush()
        self.perform(self._ask(self._machine.flow_closed, flow, reason, now), now)

    def sends_failed(self, tokens: Sequence[int]) -> None:
        """Tell the machine what did not leave."""
        now = read_clock()
        for token in tokens:
            self.perform(self._ask(self._machine.send_failed, token, now), now)

    async def _serve(self, bound: UdpSocket) -> NoReturn:
        receive = self._machine.receive_datagram
        with bound.watched() as wait:
            while True:
                await wait()
                datagrams = await bound.receive(self._limits.datagrams_per_wakeup_max)
                if not datagrams:
                    continue
                now = read_clock()
                actions: list[object] = []
                for data, remote, local in datagrams:
                    actions += self._ask(receive, data, Flow("udp", local, remote), now)
                self.perform(actions, now)

    async def _take_over(self, exchange: Exchange) -> NoReturn:
        exchange.announce()
        while True:
            items = await exchange.receive()
            now = read_clock()
            actions: list[object] = []
            for item in items:
                match item:
                    case Response(flow=flow, data=data):
                        actions += self._ask(self._machine.receive_handed_over, data, flow, now)
                    case Carry(flow=flow, data=data):
                        exchange.carried(item, is_open=self._tcp.send(flow, data, 0))
                    case Gone() | Began():
                        for flow in exchange.ended(item):
                            actions += self._ask(self._machine.flow_closed, flow, "gone at another worker", now)
                    case _:
                        assert_never(item)
            self._tcp.flush()
            exchange.flush()
            self.perform(actions, now)

    async def _keep_time(self) -> NoReturn:
        while True:
            self._alarm_ms = self._machine.next_timeout()
            with anyio.CancelScope(deadline=_deadline(self._alarm_ms)) as self._alarm:
                await anyio.sleep_forever()
            now = read_clock()
            faults = self._faults
            self.perform(self._ask(self._machine.handle_timeout, now), now)
            if self._faults != faults:
                await anyio.sleep(FAULT_PAUSE_S)

    def _set_alarm(self) -> None:
        # Moving a deadline costs less than waking a task, and one that became later need not be moved at all:
        # the machine does nothing when it is called early.
        due_ms = self._machine.next_timeout()
        if due_ms is not None and (self._alarm_ms is None or due_ms < self._alarm_ms):
            self._alarm_ms = due_ms
            self._alarm.deadline = _deadline(due_ms)

    def _carry_out(self, action: object) -> int:
        """Carry out one action; return the token of a Send that failed, else 0."""
        if isinstance(action, Send):
            is_sent = self._send(action)
            return 0 if is_sent else action.token
        if isinstance(action, CloseFlow):
            self._tcp.close_flow(action.flow)
            if self._exchange is not None:
                self._exchange.closed(action.flow)
        elif isinstance(action, HandOver):
            assert self._exchange is not None, "there are other workers"
            self._exchange.hand_over(action)
        elif not isinstance(action, Dropped):
            self._observe(action)
        return 0

    def _send(self, action: Send) -> bool:
        flow = action.flow
        if flow.is_stream:
            if self._exchange is not None and self._exchange.is_others(flow):
                self._exchange.carry(action)
                return True
            return self._tcp.send(flow, action.data, action.token)
        bound = self._udp.get(flow.local) or self._substitute(flow)
        return bound is not None and bound.send(action.data, flow.remote, action.token, flow.local)

    def _substitute(self, flow: Flow) -> UdpSocket | None:
        # One that is bound to all addresses; else any, for a binding may be older than this process, whose socket has
        # another port now.
        is_ipv6 = ":" in flow.remote[0]
        on_all = self._udp.get(("::" if is_ipv6 else "0.0.0.0", flow.local[1]))
        return on_all or next((bound for local, bound in self._udp.items() if (":" in local[0]) == is_ipv6), None)

    def _send_failed(self, token: int) -> None:
        self.sends_failed((token,))

    def _ask(self, question: Callable[..., Sequence[object]], *values: object) -> Sequence[object]:
        # An exception is a bug, but what one peer sent must not end the service for all the others.
        try:
            return question(*values)
        except Exception:
            self._faults += 1
            if self._complaints.admit():
                logger.exception("bug: the engine failed; %d times so far", self._faults)
            return ()


def open_socket(where: TransportAddress, *, is_shared: bool = False) -> socket.socket:
    """Open a socket to listen on.

    Args:
        where: with port 0 the system chooses one.
        is_shared: see :func:`msilo_runners.udp.open_udp`.

    Raises:
        OSError: the address is taken or not ours, or cannot be shared on this system.
    """
    opener = open_listener if where.transport == "tcp" else open_udp
    return opener(where.address, is_shared=is_shared)


def _deadline(due_ms: int | None) -> float:
    if due_ms is None:
        return math.inf
    return anyio.current_time() + due_ms / 1000 - time.monotonic()
