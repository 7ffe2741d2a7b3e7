"""A UDP socket that is drained: many datagrams for each wake-up of the event loop.

The event loops' own datagram transports cost four to ten times as much for each packet, so this is a raw
non-blocking socket that is watched. One task receives; whoever has something to send does it
at once, and only when the socket takes no more do datagrams wait for the task that writes.
"""

import contextlib
import errno
import logging
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, NoReturn

import anyio

from msilo_core import Address
from msilo_runners.logs import Throttle
from msilo_runners.watch import Wait, watched

__all__ = ["UdpSocket", "is_unspecified", "open_udp", "share_port"]

logger = logging.getLogger(__name__)

DATAGRAM_BYTES_MAX: Final = 65535
"""What :meth:`socket.recvfrom` is asked for: no UDP datagram is longer."""

RECEIVE_BUFFER_BYTES: Final = 8 * 1024 * 1024
"""Some 10,000 MESSAGEs: with this much no datagram was lost in a flood while a commit was under way."""

RECEIVE_PAUSE_S: Final = 0.1
"""Pause after an error nobody foresaw, so that one which stays does not take the whole processor."""

# Of the header <netinet/in.h>; Python had no name for it before 3.14.
_IP_PKTINFO: Final = {"linux": 8, "darwin": 26}.get(sys.platform)

# Linux: as SO_RCVBUF, but beyond net.core.rmem_max and for root only. Python has no name for it.
_SO_RCVBUFFORCE: Final = 33


class UdpSocket:
    """One bound socket.

    Attributes:
        local: its address as bound; the port is the real one.
        dropped: datagrams that were not sent because the outbox was full.
    """

    def __init__(self, bound: socket.socket, outbox_max: int) -> None:
        self.local: Address = bound.getsockname()[:2]
        self.dropped = 0
        self._socket = bound
        self._is_on_all = is_unspecified(self.local[0])
        self._outbox: deque[tuple[bytes, Address, int, Address]] = deque()
        self._outbox_max = outbox_max
        self._blocked = anyio.Event()
        self._complaints = Throttle()

    @property
    def is_flushed(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._outbox

    def watched(self) -> AbstractContextManager[Wait]:
        """Return what waits until there are datagrams: see :func:`msilo_runners.watch.watched`."""
        return watched(self._socket)

    async def receive(self, datagrams_max: int) -> list[tuple[bytes, Address, Address]]:
        """Take the datagrams that are there, at most `datagrams_max`; it may be none.

        Returns:
            For each its octets, where it came from, and our address that it came to: of a socket bound to all, the one
            that its peer knows, which an answer leaves from (RFC 3581 section 4) and which stands in Via headers (RFC
            3261 section 18.1.1), where an unspecified one names nobody.
        """
        datagrams: list[tuple[bytes, Address, Address]] = []
        receive = self._receive_with_destination if self._is_on_all else self._receive
        try:
            while len(datagrams) < datagrams_max:
                datagrams.append(receive())
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

    def send(self, data: bytes, remote: Address, token: int, local: Address) -> bool:
        """Send now, or when the socket takes it again.

        Args:
            data: the datagram.
            remote: where it goes.
            token: what its failure is reported under, or 0.
            local: what it leaves from, where the socket is bound to all addresses.

        Returns:
            False if it can never be sent, such as one that is too long or goes to where there is no route.
        """
        if self._outbox:
            self._keep(data, remote, token, local)
            return True
        try:
            self._put(data, remote, local)
        except BlockingIOError:
            self._keep(data, remote, token, local)
        except OSError as error:
            return self._is_transient(error)
        return True

    async def write(self, failed: Callable[[int], None]) -> NoReturn:
        """Send what waits, for ever; `failed` is told the token of each datagram that cannot be sent."""
        while True:
            await self._blocked.wait()
            while self._outbox:
                await anyio.wait_writable(self._socket)
                data, remote, token, local = self._outbox[0]
                try:
                    self._put(data, remote, local)
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

    def _receive(self) -> tuple[bytes, Address, Address]:
        data, remote = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
        return data, remote[:2], self.local

    def _receive_with_destination(self) -> tuple[bytes, Address, Address]:
        data, ancillary, _, remote = self._socket.recvmsg(DATAGRAM_BYTES_MAX, _DESTINATION_SPACE_BYTES)
        host = next((_destination(*item) for item in ancillary), self.local[0])
        return data, remote[:2], (host, self.local[1])

    def _put(self, data: bytes, remote: Address, local: Address) -> None:
        if self._is_on_all and local[0] != self.local[0]:
            try:
                self._socket.sendmsg([data], [_source(local[0])], 0, remote)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENETUNREACH):
                    raise
                # The address is not ours any more: a binding may be older than it.
            else:
                return
        self._socket.sendto(data, remote)

    def _keep(self, data: bytes, remote: Address, token: int, local: Address) -> None:
        if len(self._outbox) >= self._outbox_max:
            # As if lost on the way, which UDP allows: RFC 3261 section 17 repeats what matters.
            self.dropped += 1
            return
        self._outbox.append((data, remote, token, local))
        self._blocked.set()

    def _is_transient(self, error: OSError) -> bool:
        # The queue of the network interface is full: the datagram is lost, the destination is not.
        if error.errno == errno.ENOBUFS:
            self.dropped += 1
            return True
        return False


def open_udp(address: Address, *, is_shared: bool = False) -> socket.socket:
    """Open a socket on `address`, an IP literal and a port or 0, for :class:`UdpSocket`.

    Args:
        address: where.
        is_shared: others of the same user may have it, too, if all say so.

    Raises:
        OSError: the address is taken or not ours, or stands for all of them where the system does not tell which of
            them a datagram came to.
    """
    bound = socket.socket(_family(address), socket.SOCK_DGRAM)
    try:
        if bound.family == socket.AF_INET6:
            # ``[::]`` may stand beside ``0.0.0.0``: a flow tells by its local address which socket it is of.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _widen(bound)
        if is_unspecified(address[0]):
            _ask_for_destinations(bound)
        if is_shared:
            share_port(bound)
        bound.setblocking(False)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def share_port(unbound: socket.socket) -> None:
    """Let other sockets of the same user be bound to the same port, between which the system parts what comes.

    Raises:
        OSError: this system cannot do it.
    """
    option: int | None = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise OSError(errno.ENOTSUP, "this system does not let processes share a port: leave --workers out")
    unbound.setsockopt(socket.SOL_SOCKET, option, 1)


def is_unspecified(host: str) -> bool:
    """Say whether an IP literal stands for every address of the machine."""
    return host in ("0.0.0.0", "::")


# Room for one struct in6_pktinfo, or in_pktinfo, which is shorter.
_DESTINATION_SPACE_BYTES: Final = socket.CMSG_SPACE(20)


def _ask_for_destinations(unbound: socket.socket) -> None:
    """Let each datagram come with the address that it was sent to (RFC 3542 section 6)."""
    if unbound.family == socket.AF_INET6:
        unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif _IP_PKTINFO is not None:
        unbound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        raise OSError(errno.ENOTSUP, "not all addresses at once on this system: name one")


def _destination(level: int, _kind: int, info: bytes) -> str:
    # struct in_pktinfo: interface, our address, that in the datagram's header, which may be one of many machines.
    return inet_ntop(AF_INET6, info[:16]) if level == socket.IPPROTO_IPV6 else inet_ntop(AF_INET, info[4:8])


def _source(host: str) -> tuple[int, int, bytes]:
    if ":" in host:
        # Interface 0: whichever leads there.
        return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", inet_pton(AF_INET6, host), 0)
    assert _IP_PKTINFO is not None, "the socket was bound"
    return socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=I4s4s", 0, inet_pton(AF_INET, host), bytes(4))


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
