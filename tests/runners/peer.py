"""A SIP user agent on plain blocking sockets that speaks in literal bytes.

It shares no code with the server: what it sends is written out here, what it receives is kept as it came and
taken apart by a few lines of its own, so that a mistake in the server's parser cannot hide itself.
"""

import contextlib
import select
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeAlias

__all__ = ["Address", "Peer", "Received", "Transport", "unique"]

Address: TypeAlias = tuple[str, int]
Transport: TypeAlias = Literal["udp", "tcp"]
Header: TypeAlias = tuple[str, str]

# Longer than the server's own patience with a phone (6 s) and with its store (8 s).
_PATIENCE_S = 15.0


def unique(prefix: str = "") -> str:
    """Return a token that was never used before: for a Call-ID, a tag, a branch or a user."""
    return f"{prefix}{uuid.uuid4().hex[:16]}"


@dataclass(frozen=True)
class Received:
    """One message as it came.

    Attributes:
        raw: all of its octets.
        source: (host, port) of who sent it; None if it came by a stream, or is our own.
    """

    raw: bytes
    source: Address | None = None

    @property
    def lines(self) -> list[str]:
        """The start-line and the header lines; octets that are not UTF-8 as surrogates."""
        return self.raw.partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape").split("\r\n")

    @property
    def body(self) -> bytes:
        """Everything after the empty line."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        """Status of a response, 0 for a request."""
        version, _, rest = self.lines[0].partition(" ")
        return int(rest[:3]) if version == "SIP/2.0" else 0

    @property
    def method(self) -> str:
        """Method of a request, empty for a response."""
        return "" if self.status else self.lines[0].partition(" ")[0]

    @property
    def request_uri(self) -> str:
        """Request-URI of a request."""
        return self.lines[0].split(" ")[1]

    @property
    def branch(self) -> str:
        """The branch of the topmost Via: the transaction."""
        return self.headers("Via")[0].partition("branch=")[2].partition(";")[0]

    def header(self, name: str) -> str:
        """Return the value of the only header of that name, spelled so; empty if there is none."""
        values = self.headers(name)
        assert len(values) < 2, f"{name} {len(values)} times in {self.raw!r}"
        return values[0] if values else ""

    def headers(self, name: str) -> list[str]:
        """Return the values of all headers of that name, in order."""
        wanted = name.lower()
        found = [line.partition(":") for line in self.lines[1:]]
        return [value.strip() for key, _, value in found if key.strip().lower() == wanted]


class Peer:
    """A phone, or whoever sends to one; as a context manager it closes its socket.

    It answers a repeated request, told by its branch, as it did the first time and does not show it again, as
    RFC 3261 section 17.2.2 asks of everybody.

    Attributes:
        transport: ``udp`` or ``tcp``.
        server: (host, port) of whom it talks to.
        address: our own (host, port).
    """

    def __init__(self, server: Address, transport: Transport = "udp", *, host: str = "127.0.0.1") -> None:
        self.transport: Transport = transport
        self.server = server
        self._buffer = b""
        self._backlog: list[Received] = []
        self._answers: dict[str, bytes] = {}
        if transport == "udp":
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((host, 0))
        else:
            self._socket = socket.create_connection(server, _PATIENCE_S)
        host, port = self._socket.getsockname()
        self.address: Address = (host, port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    # -- Requests, written out -------------------------------------------------------------------------------

    def message(
        self,
        to: str,
        body: bytes = b"hello",
        *,
        sender: str = "alice",
        headers: Sequence[Header] = (("Content-Type", "text/plain"),),
        cseq: int = 1,
        from_: str = "",
        to_: str = "",
    ) -> bytes:
        """Return a MESSAGE.

        Args:
            to: user part of the Request-URI.
            body: its body.
            sender: user part of the From URI.
            headers: headers beside those that RFC 3261 section 8.1.1 asks for.
            cseq: CSeq number.
            from_: whole value of From, instead of one with `sender`.
            to_: whole value of To, instead of one with `to`.
        """
        return self.request(
            f"MESSAGE sip:{to}@example.com SIP/2.0",
            [
                ("From", from_ or f"<sip:{sender}@example.com>;tag={unique()}"),
                ("To", to_ or f"<sip:{to}@example.com>"),
                ("Call-ID", unique()),
                ("CSeq", f"{cseq} MESSAGE"),
                *headers,
                ("Content-Length", str(len(body))),
            ],
            body,
        )

    def registration(self, user: str, *, expires_s: int = 3600) -> bytes:
        """Return a REGISTER of `user` at this peer."""
        host, port = self.address
        return self.request(
            "REGISTER sip:example.com SIP/2.0",
            [
                ("From", f"<sip:{user}@example.com>;tag={unique()}"),
                ("To", f"<sip:{user}@example.com>"),
                ("Call-ID", unique()),
                ("CSeq", "1 REGISTER"),
                ("Contact", f"<sip:{user}@{host}:{port};transport={self.transport}>"),
                ("Expires", str(expires_s)),
                ("Content-Length", "0"),
            ],
        )

    def request(self, start_line: str, headers: Sequence[Header], body: bytes = b"") -> bytes:
        """Return a request with our Via and Max-Forwards in front of `headers`."""
        sent_by = f"{self.address[0]}:{self.address[1]}"
        via = f"SIP/2.0/{self.transport.upper()} {sent_by};branch=z9hG4bK{unique()};rport"
        lines = [
            start_line,
            *(f"{key}: {value}" for key, value in [("Via", via), ("Max-Forwards", "70"), *headers]),
        ]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body

    # -- The conversation ------------------------------------------------------------------------------------

    def send(self, raw: bytes, to: Address | None = None) -> None:
        """Put octets on the wire; a datagram to its server unless `to` names another."""
        if self.transport == "udp":
            self._socket.sendto(raw, to or self.server)
        else:
            self._socket.sendall(raw)

    def exchange(self, request: bytes, timeout_s: float = _PATIENCE_S) -> Received:
        """Send a request and return its final response."""
        self.send(request)
        return self.response(Received(request).branch, timeout_s)

    def response(self, branch: str = "", timeout_s: float = _PATIENCE_S) -> Received:
        """Return the final response of the transaction `branch`, or whichever comes first if empty."""
        return self._first(lambda one: one.status >= 200 and branch in ("", one.branch), timeout_s)

    def receive(self, timeout_s: float = _PATIENCE_S) -> Received:
        """Return the next request, which waits for :meth:`answer`."""
        return self._first(lambda one: one.status == 0, timeout_s)

    def take(self, count: int, timeout_s: float = _PATIENCE_S) -> list[Received]:
        """Receive `count` requests and answer each with 200 before the next is looked at."""
        taken: list[Received] = []
        while len(taken) < count:
            request = self.receive(timeout_s)
            self.answer(request)
            taken.append(request)
        return taken

    def answer(self, request: Received, status: int = 200, reason: str = "Whatever") -> None:
        """Answer a request; a 200 here says that the message is on the screen."""
        copied = ("via", "from", "call-id", "cseq")
        lines = [f"SIP/2.0 {status} {reason}"]
        lines += [line for line in request.lines[1:] if line.partition(":")[0].strip().lower() in copied]
        to = request.header("To")
        lines += [f"To: {to}" if ";tag=" in to else f"To: {to};tag={unique()}", "Content-Length: 0", "", ""]
        self._answers[request.branch] = "\r\n".join(lines).encode("utf-8", "surrogateescape")
        self.send(self._answers[request.branch], request.source)

    def hear(self, for_s: float) -> list[Received]:
        """Return everything that is there or comes in the next seconds."""
        heard: list[Received] = []
        deadline = time.monotonic() + for_s
        while True:
            try:
                heard.append(self._first(lambda _: True, deadline - time.monotonic()))
            except TimeoutError:
                return heard

    def poll(self) -> list[Received]:
        """Return everything that is there."""
        heard: list[Received] = []
        while select.select([self._socket], [], [], 0)[0]:
            with contextlib.suppress(TimeoutError):
                heard.append(self._first(lambda _: True, 0.0))
        return heard

    def fileno(self) -> int:
        """Return what `select` waits for."""
        return self._socket.fileno()

    def half_close(self) -> None:
        """Tell the other side of a stream that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection as a crashed host does, with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._socket.close()

    def wait_closed(self, timeout_s: float = _PATIENCE_S) -> list[Received]:
        """Wait until the other side closes the stream, and return what it sent before.

        Raises:
            TimeoutError: it did not.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._backlog.append(self._read(deadline))
            except ConnectionError:
                return self._backlog

    # -- Reading ---------------------------------------------------------------------------------------------

    def _first(self, wanted: Callable[[Received], bool], timeout_s: float) -> Received:
        """Return the first message that is wanted; others stay in the order in which they came."""
        for index, one in enumerate(self._backlog):
            if wanted(one):
                return self._backlog.pop(index)
        deadline = time.monotonic() + timeout_s
        while True:
            one = self._read(deadline)
            if one.status == 0 and one.branch in self._answers:
                self.send(self._answers[one.branch], one.source)
            elif wanted(one):
                return one
            else:
                self._backlog.append(one)

    def _read(self, deadline: float) -> Received:
        """Return the next message; TimeoutError after `deadline`, ConnectionError at the end of a stream."""
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            if self.transport == "udp":
                return Received(*self._socket.recvfrom(65536))
            if (one := self._cut()) is not None:
                return one
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError(f"the server closed the connection; left over: {self._buffer!r}")
            self._buffer += data

    def _cut(self) -> Received | None:
        """Take one whole message off the buffer of a stream."""
        self._buffer = self._buffer.lstrip(b"\r\n")
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(Received(head).header("Content-Length"))
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        return Received(head + end + rest[:length])
