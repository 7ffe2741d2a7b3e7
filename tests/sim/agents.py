"""What phones and senders have in common: an address, connections, and requests of their own (RFC 3261 figure 6)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.sim.network import Pipe
from tests.sim.wire import Address, Wire, parse

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["T1_MS", "TIMED_OUT_MS", "Agent"]

T1_MS: Final = 500
_T2_MS: Final = 4_000
TIMED_OUT_MS: Final = 64 * T1_MS
"""Timers F and J."""


class _Request:
    """A request without a final answer."""

    def __init__(self, data: bytes, done: Callable[[int], None], send: Callable[[], None], ends_ms: int) -> None:
        self.data = data
        self.done = done
        self.send = send
        self.ends_ms = ends_ms
        self.interval_ms = T1_MS
        self.pipe: Pipe | None = None


class Agent:
    """A user agent; what it makes of requests is for a subclass to say.

    Attributes:
        name: in the story.
        transport: of its own requests.
        address: where it is.
        is_up: whether it has any power.
    """

    def __init__(self, world: "World", name: str, transport: str, address: Address) -> None:
        self.name = name
        self.transport = transport
        self.address = address
        self.is_up = True
        self._world = world
        self._requests: dict[str, _Request] = {}
        self._pipes: dict[str, Pipe] = {}
        self._branches = 0

    def branch(self) -> str:
        """Return a branch that was never used."""
        self._branches += 1
        return f"z9hG4bK{self.name}.{self._branches}"

    # -- Requests of its own -------------------------------------------------------------------------------------------

    def request(self, branch: str, data: bytes, node: str, done: Callable[[int], None]) -> None:
        """Send a request to a node until it is finally answered: `done` is told the status, 0 for none in time."""
        world = self._world
        ends_ms = world.ms + TIMED_OUT_MS
        if self.transport == "tcp":
            pipe = self._pipe_to(node)
            if pipe is None:
                # Refused, as where no process runs.
                world.after(200, done, 0)
                return
            request = _Request(data, done, lambda: pipe.to_server(data), ends_ms)
            request.pipe = pipe
        else:
            to = world.address_of(node)
            request = _Request(data, done, lambda: world.network.send(self.name, self.address, to, data, None), ends_ms)
            world.after(T1_MS, self._send_again, branch, request)
        self._requests[branch] = request
        world.after(TIMED_OUT_MS, self._end, branch, request, 0)
        request.send()

    def forget_requests(self) -> None:
        """Let nobody wait for any answer."""
        self._requests.clear()

    def _pipe_to(self, node: str) -> Pipe | None:
        pipe = self._pipes.get(node)
        if pipe is None or not pipe.is_open:
            pipe = self._world.connect(self, node)
            if pipe is not None:
                self._pipes[node] = pipe
        return pipe

    def _send_again(self, branch: str, request: _Request) -> None:
        if self._requests.get(branch) is request:
            request.send()
            request.interval_ms = min(2 * request.interval_ms, _T2_MS)
            self._world.after(request.interval_ms, self._send_again, branch, request)

    def _end(self, branch: str, request: _Request, status: int) -> None:
        if self._requests.get(branch) is request:
            del self._requests[branch]
            request.done(status)

    # -- What comes ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, wire: Wire | None, source: Address) -> None:
        """Take a datagram."""
        self._receive(wire or parse(data), lambda answer: self._answer(answer, source))

    def pipe_received(self, pipe: Pipe, data: bytes, wire: Wire | None) -> None:
        """Take a message of a connection, which a node always writes in one piece."""
        self._receive(wire or parse(data), pipe.to_server)

    def pipe_closed(self, pipe: Pipe) -> None:
        """Let what was asked by this connection have failed."""
        for branch, request in list(self._requests.items()):
            if request.pipe is pipe:
                self._end(branch, request, 0)

    def received(self, wire: Wire, answer: Callable[[bytes], None]) -> None:
        """A request came."""

    def _receive(self, wire: Wire, answer: Callable[[bytes], None]) -> None:
        if not self.is_up:
            return
        if not wire.status:
            self.received(wire, answer)
        elif wire.status >= 200 and (request := self._requests.get(wire.branch)) is not None:
            self._end(wire.branch, request, wire.status)

    def _answer(self, data: bytes, to: Address) -> None:
        self._world.network.send(self.name, self.address, to, data, None)
