"""A UDP socket that is drained: many datagrams for each wake-up of the event loop.

The event loops' own datagram transports cost four to ten times as much for each packet, so this is a raw
non-blocking socket and :func:`anyio.wait_readable`. One task receives; whoever has something to send does it
at once, and only when the socket takes no more do datagrams wait for the task that writes.
"""

import contextlib
import errno
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn, Self

import anyio

from msilo_core import Address
from msilo_runners.logs import Throttle

__all__ = ["UdpSocket", "is_unspecified"]

logger = logging.getLogger(__name__)

DATAGRAM_BYTES_MAX: Final = 65535
"""What :meth:`socket.recvfrom` is asked for: no UDP datagram is longer."""

RECEIVE_BUFFER_BYTES: Final = 8 * 1024 * 1024
"""Some 10,000 MESSAGEs: with this much no datagram was lost in a flood while a commit was under way."""

RECEIVE_PAUSE_S: Final = 0.1
"""Pause after an error nobody foresaw, so that one which stays does not take the whole processor."""

SEEN_BY_MAX: Final = 10_000
"""Hosts for which our address is remembered; to ask the system again takes some 20 µs."""

# Linux: as SO_RCVBUF, but beyond net.core.rmem_max and for root only. Python has no name for it.
_SO_RCVBUFFORCE: Final = 33


class UdpSocket:
    """One bound socket.

    Attributes:
        local: its address as bound; the port is the real one. See :meth:`seen_by` for what a peer knows us by.
        dropped: datagrams that were not sent because the outbox was full.
    """

    def __init__(self, bound: socket.socket, outbox_max: int) -> None:
        self.local: Address = bound.getsockname()[:2]
        self.dropped = 0
        self._socket = bound
        self._outbox: deque[tuple[bytes, Address, int]] = deque()
        self._outbox_max = outbox_max
        self._blocked = anyio.Event()
        self._complaints = Throttle()
        self._seen_by: dict[str, Address] = {}

    @classmethod
    def bind(cls, address: Address, *, outbox_max: int) -> Self:
        """Open a socket on `address`, an IP literal and a port or 0.

        Raises:
            OSError: the address is taken or not ours.
        """
        bound = socket.socket(_family(address), socket.SOCK_DGRAM)
        try:
            if bound.family == socket.AF_INET6:
                # ``[::]`` may stand beside ``0.0.0.0``: a flow tells by its local address which socket it is
                # of.
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _widen(bound)
            bound.setblocking(False)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
        return cls(bound, outbox_max)

    def seen_by(self, host: str) -> Address:
        """Return our address as `host` knows it: of a socket bound to all, the one on the way to it.

        It stands in Via headers (RFC 3261 section 18.1.1), where an unspecified address names nobody.
        """
        if not is_unspecified(self.local[0]):
            return self.local
        known = self._seen_by.get(host)
        if known is None:
            if len(self._seen_by) >= SEEN_BY_MAX:
                self._seen_by.clear()
            known = self._seen_by[host] = (_source_to(host) or self.local[0], self.local[1])
        return known

    @property
    def is_flushed(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._outbox

    async def receive(self, datagrams_max: int) -> list[tuple[bytes, Address]]:
        """Wait for datagrams and take those that are there, at most `datagrams_max`; it may be none."""
        await anyio.wait_readable(self._socket)
        datagrams: list[tuple[bytes, Address]] = []
        receive = self._socket.recvfrom
        try:
            for _ in range(datagrams_max):
                data, address = receive(DATAGRAM_BYTES_MAX)
                datagrams.append((data, address[:2]))
        except BlockingIOError:
            pass
        except ConnectionError:
            # An ICMP message about something we sent. Reading it has cleared it; the next call goes on.
            pass
        except OSError as error:
            if self._complaints.admit():
                logger.warning("cannot receive on udp %s port %d: %s", *self.local, error)
            await anyio.sleep(RECEIVE_PAUSE_S)
        return datagrams

    def send(self, data: bytes, remote: Address, token: int) -> bool:
        """Send now, or when the socket takes it again.

        Returns:
            False if it can never be sent, such as one that is too long or goes to where there is no route.
        """
        if self._outbox:
            self._keep(data, remote, token)
            return True
        try:
            self._socket.sendto(data, remote)
        except BlockingIOError:
            self._keep(data, remote, token)
        except OSError as error:
            return self._is_transient(error)
        return True

    async def write(self, failed: Callable[[int], None]) -> NoReturn:
        """Send what waits, for ever; `failed` is told the token of each datagram that cannot be sent."""
        while True:
            await self._blocked.wait()
            while self._outbox:
                await anyio.wait_writable(self._socket)
                data, remote, token = self._outbox[0]
                try:
                    self._socket.sendto(data, remote)
                except BlockingIOError:
                    continue
                except OSError as error:
                    if not self._is_transient(error) and token:
                        failed(token)
                self._outbox.popleft()
            self._blocked = anyio.Event()

    def close(self) -> None:
        """Close the socket; nobody may be waiting on it any more."""
        self._socket.close()

    def _keep(self, data: bytes, remote: Address, token: int) -> None:
        if len(self._outbox) >= self._outbox_max:
            # As if lost on the way, which UDP allows: RFC 3261 section 17 repeats what matters.
            self.dropped += 1
            return
        self._outbox.append((data, remote, token))
        self._blocked.set()

    def _is_transient(self, error: OSError) -> bool:
        # The queue of the network interface is full: the datagram is lost, the destination is not.
        if error.errno == errno.ENOBUFS:
            self.dropped += 1
            return True
        return False


def is_unspecified(host: str) -> bool:
    """Say whether an IP literal stands for every address of the machine."""
    return host in ("0.0.0.0", "::")


def _source_to(host: str) -> str | None:
    """Return the address that packets to `host` leave from, or None without a way to it."""
    try:
        with socket.socket(_family((host, 0)), socket.SOCK_DGRAM) as probe:
            # Connecting a datagram socket sends nothing; it only asks the system for the route.
            probe.connect((host, 9))
            source: str = probe.getsockname()[0]
            return source
    except OSError:
        return None


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _widen(unbound: socket.socket) -> None:
    # Linux cuts what is too much down to what everybody may have; other systems refuse it and keep their
    # default.
    with contextlib.suppress(OSError):
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):
            unbound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
