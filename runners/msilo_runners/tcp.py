"""TCP: listeners and connections, on raw non-blocking sockets for the reasons in :mod:`msilo_runners.udp`.

Each connection has one task that connects where it must, reads, and at the end closes the socket and reports,
so that its death is told in one place and never in the middle of something else. Whoever sends puts octets
into the connection's buffer; :meth:`TcpTransport.flush` then writes each buffer with one call, and only when
the socket takes no more is a task begun that writes the rest.
"""

import contextlib
import errno
import logging
import os
import socket
import sys
from collections import Counter, deque
from typing import Final, NoReturn, Protocol

import anyio
from anyio.abc import TaskGroup

from msilo_core import Address, Flow, Limits
from msilo_runners.logs import Throttle
from msilo_runners.udp import is_unspecified, share_port

__all__ = ["StreamReceiver", "TcpTransport", "open_listener"]

logger = logging.getLogger(__name__)

READ_BYTES: Final = 65536
"""Octets taken from a connection at a time: the longest message fits into one read."""

BACKLOG: Final = 1024
"""Connections that may wait to be accepted: all phones of a company after a power cut."""

ACCEPTS_PER_WAKEUP: Final = 64
"""Connections taken from a listener before the others have their turn."""

ACCEPT_PAUSE_S: Final = 0.1
"""Pause when there are no file descriptors left: some connection may have ended by then."""

CONNECT_S: Final = 5.0
"""Time to connect: the SYN is repeated after 1 and 3 s, and a live message can still be stored instead."""

LINGER_S: Final = 2.0
"""Time a peer has to read the last answer; closing at once could reset the connection and lose it."""

KEEPALIVE_IDLE_S: Final = 120
KEEPALIVE_INTERVAL_S: Final = 30
KEEPALIVE_PROBES: Final = 4
"""A peer that vanished is found after four minutes (120 + 4 * 30 s)."""


class StreamReceiver(Protocol):
    """Who is told what happens on connections."""

    def stream_opened(self, flow: Flow) -> None:
        """A peer connected."""
        ...

    def stream_received(self, data: bytes, flow: Flow) -> None:
        """Octets came."""
        ...

    def stream_closed(self, flow: Flow, reason: str) -> None:
        """A connection that was open is gone, and not because of :meth:`TcpTransport.close_flow`."""
        ...

    def sends_failed(self, tokens: list[int]) -> None:
        """What was sent under these tokens did not leave."""
        ...


class TcpTransport:
    """All TCP sockets of one driver.

    Args:
        receiver: is told what happens.
        limits: bounds.
        last_token: connections are numbered from the one behind it on.

    Attributes:
        refused: connections closed at once because there were too many.
    """

    def __init__(self, receiver: StreamReceiver, limits: Limits, last_token: int = 0) -> None:
        self.refused = 0
        self._receiver = receiver
        self._limits = limits
        self._listeners: dict[Address, socket.socket] = {}
        self._connections: dict[int, _Connection] = {}
        self._by_remote: dict[Address, _Connection] = {}
        self._accepted_by_host: Counter[str] = Counter()
        self._unflushed: list[_Connection] = []
        self._last_token = last_token
        self._complaints = Throttle()
        self._tasks: TaskGroup | None = None

    def adopt(self, listener: socket.socket) -> Address:
        """Accept on a listener; return its address."""
        local: Address = listener.getsockname()[:2]
        self._listeners[local] = listener
        return local

    def start(self, tasks: TaskGroup) -> None:
        """Accept on all listeners, and run connections, in `tasks`."""
        self._tasks = tasks
        for local, listener in self._listeners.items():
            tasks.start_soon(self._accept, local, listener, name=f"accept on {local}")

    def send(self, flow: Flow, data: bytes, token: int) -> bool:
        """Put `data` into the buffer of a connection; :meth:`flush` writes it.

        Args:
            flow: the connection; with token 0 any to its remote address, which is made if there is none.
            data: octets that belong together.
            token: what to tell :meth:`StreamReceiver.sends_failed`, or 0.

        Returns:
            False if the connection is gone or none can be made.
        """
        connection = self._find(flow) if flow.token else self._reach(flow)
        if connection is None or connection.is_ending:
            return False
        if connection.put(data, token) > self._limits.connection_buffer_bytes_max:
            connection.cut("the peer does not read")
        self._unflushed.append(connection)
        return True

    def flush(self) -> None:
        """Write what was put into buffers."""
        for connection in self._unflushed:
            connection.flush()
        self._unflushed.clear()

    def close_flow(self, flow: Flow) -> None:
        """Close a connection once its buffer is written and the peer could read it; no report follows."""
        connection = self._find(flow)
        if connection is not None:
            self._unlist(connection)
            connection.finish()

    def cut_flow(self, flow: Flow, reason: str) -> None:
        """Close a connection at once and report it."""
        connection = self._find(flow)
        if connection is not None:
            connection.cut(reason)

    @property
    def is_flushed(self) -> bool:
        """Whether nothing waits to be sent."""
        return all(connection.is_flushed for connection in self._connections.values())

    @property
    def connections(self) -> int:
        """How many connections there are, those about to open or close included."""
        return len(self._connections)

    def close(self) -> None:
        """Close the listeners; connections end with the tasks."""
        for listener in self._listeners.values():
            listener.close()

    async def _accept(self, local: Address, listener: socket.socket) -> NoReturn:
        while True:
            await anyio.wait_readable(listener)
            try:
                for _ in range(ACCEPTS_PER_WAKEUP):
                    accepted, remote = listener.accept()
                    # A listener that is bound to all addresses is known by the one that was connected to.
                    ours = accepted.getsockname()[:2] if is_unspecified(local[0]) else local
                    self._welcome(accepted, Flow("tcp", ours, remote[:2], self._next_token()))
            except BlockingIOError:
                pass
            except ConnectionError:
                # The peer was gone before we looked. The next call goes on.
                pass
            except OSError as error:
                if self._complaints.admit():
                    logger.warning("cannot accept on tcp %s port %d: %s", *local, error)
                await anyio.sleep(ACCEPT_PAUSE_S)

    def _welcome(self, accepted: socket.socket, flow: Flow) -> None:
        host = flow.remote[0]
        if (
            len(self._connections) >= self._limits.connections_max
            or self._accepted_by_host[host] >= self._limits.connections_per_host_max
        ):
            self.refused += 1
            accepted.close()
            return
        self._accepted_by_host[host] += 1
        self._run(_Connection(accepted, flow, is_accepted=True))
        self._receiver.stream_opened(flow)

    def _find(self, flow: Flow) -> "_Connection | None":
        connection = self._connections.get(flow.token)
        # Numbers begin anew with each process, and a flow may have been remembered for longer than that.
        return connection if connection is not None and connection.flow == flow else None

    def _reach(self, flow: Flow) -> "_Connection | None":
        if (known := self._by_remote.get(flow.remote)) is not None:
            return known
        if len(self._connections) >= self._limits.connections_max:
            return None
        try:
            unconnected = socket.socket(_family(flow.remote), socket.SOCK_STREAM)
        except OSError as error:
            if self._complaints.admit():
                logger.warning("cannot connect to %s: %s", flow, error)
            return None
        numbered = Flow("tcp", flow.local, flow.remote, self._next_token())
        return self._run(_Connection(unconnected, numbered, is_accepted=False, source=self._source(flow)))

    def _source(self, flow: Flow) -> Address | None:
        # A peer that knows us by our address must see it, also where the machine has others.
        host = flow.local[0]
        return (host, 0) if flow.local in self._listeners and not is_unspecified(host) else None

    def _run(self, connection: "_Connection") -> "_Connection":
        assert self._tasks is not None, "started"
        flow = connection.flow
        self._connections[flow.token] = connection
        self._by_remote[flow.remote] = connection
        self._tasks.start_soon(self._keep, connection, name=str(flow))
        return connection

    async def _keep(self, connection: "_Connection") -> None:
        flow = connection.flow
        assert self._tasks is not None, "started"
        try:
            reason = await connection.run(self._receiver, self._tasks)
        finally:
            connection.close()
            self._unlist(connection)
            del self._connections[flow.token]
            if connection.is_accepted:
                self._forget_host(flow.remote[0])
        if connection.is_known and not connection.is_finishing:
            self._receiver.stream_closed(flow, reason)
        if tokens := connection.unsent_tokens():
            self._receiver.sends_failed(tokens)

    def _unlist(self, connection: "_Connection") -> None:
        if self._by_remote.get(connection.flow.remote) is connection:
            del self._by_remote[connection.flow.remote]

    def _forget_host(self, host: str) -> None:
        self._accepted_by_host[host] -= 1
        if not self._accepted_by_host[host]:
            del self._accepted_by_host[host]

    def _next_token(self) -> int:
        self._last_token += 1
        return self._last_token


def open_listener(address: Address, *, is_shared: bool = False) -> socket.socket:
    """Open a listener on `address`, an IP literal and a port or 0.

    Args:
        address: where.
        is_shared: see :func:`msilo_runners.udp.open_udp`.

    Raises:
        OSError: the address is taken or not ours.
    """
    listener = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_shared:
            share_port(listener)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class _Connection:
    """One connection: a socket, what waits to be written to it, and how it is to end.

    Attributes:
        flow: its value, with the token.
        is_accepted: the peer opened it.
        is_known: it was open, so that somebody may hold its flow.
        is_finishing: it is closed after what waits is written; what comes is thrown away.
    """

    def __init__(self, raw: socket.socket, flow: Flow, *, is_accepted: bool, source: Address | None = None) -> None:
        raw.setblocking(False)
        _tune(raw)
        self.flow = flow
        self.is_accepted = is_accepted
        self.is_known = is_accepted
        self.is_finishing = False
        self._socket = raw
        self._source = source
        self._is_open = is_accepted
        self._is_writing = False
        self._buffer = bytearray()
        self._put_bytes = 0
        # Tokens of what is still in the buffer, each with the count of octets put up to its end.
        self._tokens: deque[tuple[int, int]] = deque()
        self._reason = ""
        self._scope = anyio.CancelScope()
        self._tasks: TaskGroup | None = None

    @property
    def is_ending(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.is_finishing or bool(self._reason)

    @property
    def is_flushed(self) -> bool:
        """Whether all that was put is written."""
        return not self._buffer

    def put(self, data: bytes, token: int) -> int:
        """Append to the buffer; return its octets."""
        self._buffer += data
        self._put_bytes += len(data)
        if token:
            self._tokens.append((self._put_bytes, token))
        return len(self._buffer)

    def flush(self) -> None:
        """Write as much as the socket takes; a task of its own writes the rest."""
        if self._is_open and not self._is_writing and self._buffer:
            self._write()
            if self._buffer and not self._reason and self._tasks is not None:
                self._is_writing = True
                self._tasks.start_soon(self._write_rest, name=f"write to {self.flow}")

    def finish(self) -> None:
        """Close after what waits is written, within LINGER_S."""
        if not self.is_ending:
            self.is_finishing = True
            self._scope.deadline = anyio.current_time() + LINGER_S
            self.flush()
            self._shut_if_written()

    def cut(self, reason: str) -> None:
        """Close at once; the first reason counts."""
        if not self._reason:
            self._reason = reason
            self._scope.cancel()

    async def run(self, receiver: StreamReceiver, tasks: TaskGroup) -> str:
        """Connect if need be and read until the end; return why it ended."""
        self._tasks = tasks
        with self._scope:
            try:
                if not self._is_open:
                    await self._connect()
                self.flush()
                await self._read(receiver)
            except OSError as error:
                self._reason = self._reason or error.strerror or str(error)
        return self._reason or "no time left to read the last answer"

    def close(self) -> None:
        """Close the socket and wake the task that waits to write."""
        anyio.notify_closing(self._socket)
        self._is_open = False
        self._socket.close()

    def unsent_tokens(self) -> list[int]:
        """Return the tokens of what was not written to its end."""
        return list(dict.fromkeys(token for _, token in self._tokens))

    async def _connect(self) -> None:
        if self._source is not None:
            self._socket.bind(self._source)
        outcome = self._socket.connect_ex(self.flow.remote)
        if outcome == errno.EINPROGRESS:
            outcome = errno.ETIMEDOUT
            with anyio.move_on_after(CONNECT_S):
                await anyio.wait_writable(self._socket)
                outcome = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if outcome:
            raise OSError(outcome, os.strerror(outcome))
        self._is_open = self.is_known = True

    async def _read(self, receiver: StreamReceiver) -> None:
        while not self._reason:
            await anyio.wait_readable(self._socket)
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                continue
            if not data:
                self._reason = self._reason or "the peer closed the connection"
            elif not self.is_finishing:
                receiver.stream_received(data, self.flow)

    def _write(self) -> None:
        try:
            written = self._socket.send(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self.cut(error.strerror or str(error))
            return
        del self._buffer[:written]
        while self._tokens and self._tokens[0][0] <= self._put_bytes - len(self._buffer):
            self._tokens.popleft()

    async def _write_rest(self) -> None:
        try:
            while self._buffer and not self._reason:
                await anyio.wait_writable(self._socket)
                self._write()
        except (anyio.ClosedResourceError, OSError):
            # The task that reads has closed the socket, and reports.
            return
        self._is_writing = False
        self._shut_if_written()

    def _shut_if_written(self) -> None:
        if self.is_finishing and self._is_open and not self._buffer:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self.cut(error.strerror or str(error))


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _tune(raw: socket.socket) -> None:
    # Some systems refuse options on a connection that the peer has reset already; reading will find that out.
    with contextlib.suppress(OSError):
        # A response must not wait for the acknowledgement of the one before it (Nagle's algorithm).
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
