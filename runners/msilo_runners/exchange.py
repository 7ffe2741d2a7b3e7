"""What workers hand to each other, over local datagram sockets that they have from their parent.

Each worker reads one socket and may write to those of all others; none of them has a name that anybody else could send
to. What does not fit is lost, as on UDP: whoever waits for it repeats it, or gives up.
"""

import contextlib
import socket
import sys
from collections.abc import Mapping
from typing import Final, TypeAlias

import anyio
import msgspec

from msilo_core import Flow, HandOver, Send, Worker

__all__ = ["PAIR_BUFFER_BYTES", "Began", "Carry", "Exchange", "Gone", "Item", "Response", "exchange_pair"]

TOKEN_BITS: Final = 32
"""Of the number of a connection, those that count; above them it is said which start of a worker counts."""

PAIR_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Some thousands of responses, while a worker is busy."""

BATCH_BYTES: Final = 65_536
"""What is handed over at once goes together, in datagrams of about this length: each takes a system call and more
memory than its octets."""

DATAGRAM_BYTES_MAX: Final = 200_000
"""Below the least buffer of a Linux (212,992), and beyond a batch and the longest message."""

DATAGRAMS_PER_WAKEUP: Final = 16

# Linux: as SO_SNDBUF, but beyond net.core.wmem_max and for root only. Python has no name for it.
_SO_SNDBUFFORCE: Final = 32


class Response(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A response to a request of the addressee; see :class:`msilo_core.HandOver`."""

    flow: Flow
    data: bytes


class Carry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Octets that are to leave by a connection of the addressee.

    Attributes:
        flow: the connection.
        data: octets that belong together.
        by: number of the worker that wants it.
    """

    flow: Flow
    data: bytes
    by: int


class Gone(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The sender has no such connection, or not any more; the addressee wanted something to leave by it."""

    flow: Flow


class Began(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A worker was started: the connections of its starts before are gone.

    Attributes:
        number: of the worker.
        start: number of the start.
    """

    number: int
    start: int


Item: TypeAlias = Response | Carry | Gone | Began

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[Item])


def exchange_pair() -> tuple[socket.socket, socket.socket]:
    """Return the socket that a worker reads, and that which the others write to."""
    inbox, outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for one in (inbox, outbox):
        one.setblocking(False)
    # Linux cuts what is too much down to what everybody may have; other systems refuse it and keep their default.
    with contextlib.suppress(OSError):
        outbox.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PAIR_BUFFER_BYTES)
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):
            outbox.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, PAIR_BUFFER_BYTES)
    return inbox, outbox


class Exchange:
    """The sockets of one worker, and what waits to be handed over at the end of a wake-up.

    Args:
        worker: which it is.
        start: number of this start, of all that there were of all workers: it leaves their number when it is divided
            by theirs, so that connections of an earlier start are not taken for those of this one.
        inbox: what others write to.
        outboxes: what they read, by their number.

    Attributes:
        dropped: what could not be handed over, because the other is too busy, or it was too long, or not understood.
    """

    def __init__(self, worker: Worker, start: int, inbox: socket.socket, outboxes: Mapping[int, socket.socket]) -> None:
        self.dropped = 0
        self.first_token = start << TOKEN_BITS
        self._start = start
        self._worker = worker
        self._inbox = inbox
        self._outboxes = outboxes
        self._buffer = memoryview(bytearray(DATAGRAM_BYTES_MAX))
        self._waiting: dict[int, list[tuple[Item, int]]] = {}
        self._waiting_bytes: dict[int, int] = {}
        self._failed: list[int] = []
        # Which others had something sent by which of our connections.
        self._users: dict[Flow, set[int]] = {}
        # Which connections of each other we had something sent by.
        self._used: dict[int, set[Flow]] = {}

    def is_others(self, flow: Flow) -> bool:
        """Say whether a connection is one of another worker."""
        return flow.token != 0 and self._owner(flow) != self._worker.number

    def announce(self) -> None:
        """Tell all others that this worker was started."""
        for number in self._outboxes:
            self._put(number, Began(self._worker.number, self._start), 0, 0)
        self.flush()

    def hand_over(self, action: HandOver) -> None:
        """Give a response to the worker that it is for."""
        self._put(action.worker, Response(action.flow, action.data), len(action.data), 0)

    def carry(self, send: Send) -> None:
        """Let octets leave by a connection of another worker; :meth:`flush` says what could not be handed over."""
        owner = self._owner(send.flow)
        self._used.setdefault(owner, set()).add(send.flow)
        self._put(owner, Carry(send.flow, send.data, self._worker.number), len(send.data), send.token)

    def carried(self, item: Carry, *, is_open: bool) -> None:
        """Take note of what another worker had sent by a connection of ours, or tell it that there is none."""
        if is_open:
            self._users.setdefault(item.flow, set()).add(item.by)
        else:
            self._put(item.by, Gone(item.flow), 0, 0)

    def ended(self, item: Gone | Began) -> list[Flow]:
        """Return the connections of another that something was sent by and that are gone."""
        if isinstance(item, Gone):
            self._used.get(self._owner(item.flow), set()).discard(item.flow)
            return [item.flow]
        used = self._used.get(item.number, set())
        gone = [flow for flow in used if flow.token >> TOKEN_BITS != item.start]
        used.difference_update(gone)
        return sorted(gone, key=lambda flow: flow.token)

    def closed(self, flow: Flow) -> None:
        """Tell those who used a connection of ours that it is gone."""
        for number in sorted(self._users.pop(flow, ())):
            self._put(number, Gone(flow), 0, 0)

    def flush(self) -> list[int]:
        """Hand over what waits; return the tokens of what could not be."""
        for number in list(self._waiting):
            self._flush(number)
        failed, self._failed = self._failed, []
        return failed

    async def receive(self) -> list[Item]:
        """Wait for what others hand over."""
        await anyio.wait_readable(self._inbox)
        items: list[Item] = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(DATAGRAMS_PER_WAKEUP):
                size = self._inbox.recv_into(self._buffer)
                try:
                    items += _DECODER.decode(self._buffer[:size])
                except msgspec.DecodeError:
                    # Of another release: this worker was started again when the package had changed.
                    self.dropped += 1
        return items

    def close(self) -> None:
        """Close the sockets; nobody may be waiting on them any more."""
        for one in (self._inbox, *self._outboxes.values()):
            one.close()

    def _owner(self, flow: Flow) -> int:
        return (flow.token >> TOKEN_BITS) % self._worker.count

    def _put(self, number: int, item: Item, size: int, token: int) -> None:
        if self._waiting_bytes.get(number, 0) + size > BATCH_BYTES:
            self._flush(number)
        self._waiting.setdefault(number, []).append((item, token))
        self._waiting_bytes[number] = self._waiting_bytes.get(number, 0) + size

    def _flush(self, number: int) -> None:
        waiting = self._waiting.pop(number, [])
        self._waiting_bytes.pop(number, None)
        if not waiting:
            return
        data = _ENCODER.encode([item for item, _ in waiting])
        try:
            if len(data) <= DATAGRAM_BYTES_MAX:
                self._outboxes[number].send(data)
                return
        except OSError:
            # Full, or nobody is left who reads it.
            pass
        self.dropped += len(waiting)
        self._failed += [token for _, token in waiting if token]
