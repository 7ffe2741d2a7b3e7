"""A lean sender in a closed loop: so many MESSAGEs under way at any time, the next one when one is answered.

It must cost less than the server that it measures, so it neither parses nor builds SIP: each request is one template
with its number filled in, and an answer is recognised by the number in the branch that it repeats.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import msgspec

__all__ = ["Load", "LoadResult", "run"]

Address: TypeAlias = tuple[str, int]

# Without any answer for so long, what is under way is sent again: RFC 3261's T1.
_RESEND_S: Final = 0.5

# A server that answers nothing for so long is gone.
_GIVE_UP_S: Final = 30.0

# All answers of a window may come at once.
_RECEIVE_BUFFER_BYTES: Final = 8 * 1024 * 1024

# Linux's SO_RCVBUF for root, past net.core.rmem_max; the module socket does not name it.
_SO_RCVBUFFORCE: Final = 33

_TEMPLATE: Final = (
    b"MESSAGE sip:user%06d@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP %b;branch=z9hG4bK%b%08x;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Alice Example" <sip:alice@example.com>;tag=%08x\r\n'
    b"To: <sip:user%06d@example.com>\r\n"
    b"Call-ID: %b-%08x@client.example.com\r\n"
    b"CSeq: %d MESSAGE\r\n"
    b"User-Agent: bench\r\n"
    b"Date: Sun, 22 Nov 2026 23:58:32 GMT\r\n"
    b"Content-Type: text/plain;charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"\r\n"
    b"%b"
)

_TEXT: Final = b"The quick brown fox jumps over the lazy dog. "
_COOKIE: Final = b";branch=z9hG4bK"
_NUMBER_CHARS: Final = 8


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        target: (host, port) of the server's UDP socket.
        count: MESSAGEs in all.
        window: MESSAGEs under way at once.
        users: recipients, each as often as the others.
        body_bytes: length of each body.
    """

    target: Address
    count: int
    window: int
    users: int
    body_bytes: int


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        elapsed_s: from the first request to the last answer.
        latencies_ms: from each request to its final answer, ascending.
        statuses: answers by status.
        resent: requests that had to be sent again.
        cpu_s: CPU time of the sender.
    """

    elapsed_s: float
    latencies_ms: list[float]
    statuses: dict[int, int]
    resent: int
    cpu_s: float


def run(load: Load, progress: Callable[[int], object]) -> LoadResult:
    """Send it all and return when the last answer came.

    Args:
        load: what to send.
        progress: is told how many more were answered.

    Raises:
        TimeoutError: the server stopped answering.
    """
    with socket.socket(_family(load.target), socket.SOCK_DGRAM) as sock:
        _widen(sock)
        sock.connect(load.target)
        sock.setblocking(False)
        return _Loop(load, sock).run(progress)


class _Loop:
    def __init__(self, load: Load, sock: socket.socket) -> None:
        self._load = load
        self._socket = sock
        self._run_id = f"{time.time_ns() & 0xFFFFFFFF:08x}".encode()
        host, port = sock.getsockname()[:2]
        self._sent_by = f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()
        self._body = (_TEXT * (load.body_bytes // len(_TEXT) + 1))[: load.body_bytes]
        self._sent_ns: dict[int, int] = {}
        self._next = 0

    def run(self, progress: Callable[[int], object]) -> LoadResult:
        load, under_way = self._load, self._sent_ns
        latencies_ms: list[float] = []
        statuses: dict[int, int] = {}
        resent = 0
        cpu_s, began_ns = time.process_time(), time.perf_counter_ns()
        heard_ns = began_ns
        for _ in range(min(load.window, load.count)):
            self._send_next()
        while under_way:
            if not select.select([self._socket], [], [], _RESEND_S)[0]:
                if time.perf_counter_ns() - heard_ns > _GIVE_UP_S * 1e9:
                    raise TimeoutError(f"no answer for {_GIVE_UP_S:g} s with {len(under_way)} requests under way")
                for number in under_way:
                    self._send(number)
                resent += len(under_way)
                continue
            heard_ns = time.perf_counter_ns()
            answered = 0
            for status, number in self._receive():
                sent_ns = under_way.pop(number, None)
                if sent_ns is None:
                    continue  # the answer to a repeat
                latencies_ms.append((time.perf_counter_ns() - sent_ns) / 1e6)
                statuses[status] = statuses.get(status, 0) + 1
                answered += 1
                if self._next < load.count:
                    self._send_next()
            progress(answered)
        elapsed_s = (time.perf_counter_ns() - began_ns) / 1e9
        return LoadResult(
            elapsed_s=elapsed_s,
            latencies_ms=sorted(latencies_ms),
            statuses=statuses,
            resent=resent,
            cpu_s=time.process_time() - cpu_s,
        )

    def _send_next(self) -> None:
        number = self._next
        self._next += 1
        self._sent_ns[number] = time.perf_counter_ns()
        self._send(number)

    def _send(self, number: int) -> None:
        user = number % self._load.users
        request = _TEMPLATE % (
            user, self._sent_by, self._run_id, number, number, user, self._run_id, number, number + 1,
            len(self._body), self._body,
        )  # fmt: skip
        # A full socket buffer, or a port that is closed for now: it is sent again like any datagram that got lost.
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            self._socket.send(request)

    def _receive(self) -> Iterator[tuple[int, int]]:
        """Yield (status, number) of every answer that is there."""
        own = _COOKIE + self._run_id
        while True:
            try:
                data = self._socket.recv(4096)
            except (BlockingIOError, ConnectionRefusedError):
                return
            start = data.find(own) + len(own)
            if start >= len(own):
                yield int(data[8:11]), int(data[start : start + _NUMBER_CHARS], 16)


def _family(target: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in target[0] else socket.AF_INET


def _widen(sock: socket.socket) -> None:
    with contextlib.suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
