"""The generator's end of a transport: octets out and in, as many as there are at a time, and nothing parsed."""

import contextlib
import re
import socket
import struct
from typing import Final, Literal, Protocol, TypeAlias

__all__ = ["WAIT_MS", "Address", "TransportName", "Wire", "connect"]

Address: TypeAlias = tuple[str, int]
TransportName: TypeAlias = Literal["udp", "tcp"]

# All answers of a window may come at once, and a whole inbox.
_BUFFER_BYTES: Final = 8 * 1024 * 1024

# Linux's SO_SNDBUF and SO_RCVBUF for root, past net.core.*mem_max; the module socket does not name them.
_FORCED: Final = ((socket.SO_SNDBUF, 32), (socket.SO_RCVBUF, 33))

WAIT_MS: Final = 100
"""The longest that :meth:`Wire.receive` waits."""

# Messages taken before the next ones are sent.
_DRAIN_MAX: Final = 64

_DATAGRAM_BYTES_MAX: Final = 65_535
_STREAM_BYTES: Final = 262_144
_CONTENT_LENGTH: Final = re.compile(rb"\r\n(?:Content-Length|l)[ \t]*:[ \t]*(\d+)", re.IGNORECASE)


class Wire(Protocol):
    """A connected socket.

    Attributes:
        sent_by: our end of it, as Via and Contact have it.
    """

    sent_by: bytes

    def send(self, data: bytes) -> None:
        """Send one message; what does not leave is lost, and sent again like any datagram that got lost."""
        ...

    def flush(self) -> None:
        """Let go what :meth:`send` has gathered."""
        ...

    def receive(self) -> list[bytes]:
        """Return the messages that are there, or none after :data:`WAIT_MS`.

        Raises:
            ConnectionError: the other end closed the connection.
        """
        ...

    def close(self) -> None:
        """Close the socket."""
        ...


def connect(target: Address, transport: TransportName) -> Wire:
    """Return a wire to a server.

    Raises:
        OSError: there is none.
    """
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
    try:
        for option, forced in _FORCED:
            _widen(sock, option, forced)
        # One call less than to ask whether there is something, and then take it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, WAIT_MS * 1_000))
        sock.connect(target)
        return _UdpWire(sock) if transport == "udp" else _TcpWire(sock)
    except BaseException:
        sock.close()
        raise


class _UdpWire:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.sent_by = _sent_by(sock)

    def send(self, data: bytes) -> None:
        # A full socket buffer, or a port that is closed for now.
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            self._socket.send(data, socket.MSG_DONTWAIT)

    def flush(self) -> None:
        pass

    def receive(self) -> list[bytes]:
        received: list[bytes] = []
        take = self._socket.recv
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            received.append(take(_DATAGRAM_BYTES_MAX))
            while len(received) < _DRAIN_MAX:
                received.append(take(_DATAGRAM_BYTES_MAX, socket.MSG_DONTWAIT))
        return received

    def close(self) -> None:
        self._socket.close()


class _TcpWire:
    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._out = bytearray()
        self._in = b""
        self.sent_by = _sent_by(sock)

    def send(self, data: bytes) -> None:
        self._out += data

    def flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                del self._out[: self._socket.send(self._out, socket.MSG_DONTWAIT)]

    def receive(self) -> list[bytes]:
        try:
            data = self._socket.recv(_STREAM_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionError("the server closed the connection")
        received, self._in = _split(self._in + data)
        return received

    def close(self) -> None:
        self._socket.close()


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the messages that are complete, and the rest (RFC 3261 section 18.3)."""
    messages: list[bytes] = []
    start = 0
    while (head_end := data.find(b"\r\n\r\n", start)) >= 0:
        length = _CONTENT_LENGTH.search(data, start, head_end + 2)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if end > len(data):
            break
        messages.append(data[start:end])
        start = end
    return messages, data[start:]


def _sent_by(sock: socket.socket) -> bytes:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()


def _widen(sock: socket.socket, option: int, forced: int) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
        return
    sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
