"""The network between nodes and peers: datagrams that are lost, repeated, late or overtaken; connections that break.

A connection keeps what it is given and its order, and delays it while the network is cut; after long enough it breaks,
and each end learns of that in its own time.
"""

from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from tests.sim.wire import Address, Wire, parse

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Network", "Pipe", "PipeEnd", "Place"]

_NEAR_MS: Final = 1
_FAR_MS: Final = 30
_LATE_MS: Final = 4_000
"""Less than T4 (5 s), the most that RFC 3261 lets a message stay in the network."""

_PATIENCE_MS: Final = 20_000
"""A connection whose network is cut for longer breaks."""


class Place(Protocol):
    """Who has an address."""

    name: str

    def receive(self, data: bytes, wire: Wire | None, source: Address) -> None:
        """Take a datagram; `wire` is what it says, where it was read before."""
        ...


class PipeEnd(Protocol):
    """Who is at one end of a connection."""

    name: str

    def pipe_received(self, pipe: "Pipe", data: bytes, wire: Wire | None) -> None:
        """Take octets."""
        ...

    def pipe_closed(self, pipe: "Pipe") -> None:
        """Learn that it has ended."""
        ...


class Network:
    """Datagrams, by address."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._places: dict[Address, Place] = {}
        self._counts: Counter[str] = Counter()

    def settle(self, address: Address, place: Place) -> None:
        """Let `place` have an address."""
        self._places[address] = place

    def leave(self, address: Address) -> None:
        """Let nobody have an address."""
        self._places.pop(address, None)

    def at(self, address: Address) -> Place | None:
        """Return who has an address."""
        return self._places.get(address)

    def send(self, sender: str, source: Address, to: Address, data: bytes, wire: Wire | None) -> None:
        """Carry a datagram, or lose it, or carry it twice."""
        world, fate = self._world, self._world.fate
        place = self._places.get(to)
        if place is None:
            world.note(f"{sender} to {to[0]}: nobody there")
            return
        link = f"{sender}>{place.name}"
        self._counts[link] += 1
        key = f"{link} {self._counts[link]}"
        if fate.until_ms("cut", world.ms, sender, place.name) or fate.strikes("loss", key, world.ms):
            world.note(f"{key}: lost")
            return
        copies = 2 if fate.strikes("repeat", key, world.ms) else 1
        for copy in range(copies):
            wait_ms = fate.between(_NEAR_MS, _FAR_MS, f"way {key} {copy}")
            if copy or fate.strikes("delay", key, world.ms):
                wait_ms += fate.between(1, _LATE_MS, f"late {key} {copy}")
            world.after(wait_ms, self._arrive, to, place, data, wire, source)

    def _arrive(self, to: Address, place: Place, data: bytes, wire: Wire | None, source: Address) -> None:
        # Who moved away meanwhile does not get it.
        if self._places.get(to) is place:
            place.receive(data, wire, source)


class Pipe:
    """A connection between a node's process and a peer.

    Attributes:
        name: for the trace.
        token: number that the process knows it by.
        remote: the peer's address.
        is_open: whether neither end has closed it.
    """

    def __init__(self, world: "World", name: str, server: PipeEnd, peer: PipeEnd, remote: Address, token: int) -> None:
        self.name = name
        self.token = token
        self.remote = remote
        self.is_open = True
        self._world = world
        self._server = server
        self._peer = peer
        self._free_ms = {server: 0, peer: 0}
        self._count = 0

    def to_server(self, data: bytes) -> None:
        """Let the peer write one message, which may come in two pieces; what it says goes with the last."""
        self._count += 1
        cut = self._world.fate.between(0, 3 * len(data), f"piece {self.name} {self._count}")
        if 0 < cut < len(data):
            self._carry(self._server, self._peer, data[:cut], None)
            self._carry(self._server, self._peer, data[cut:], parse(data))
        else:
            self._carry(self._server, self._peer, data, parse(data))

    def to_peer(self, data: bytes, wire: Wire | None) -> None:
        """Let the node write one message."""
        self._carry(self._peer, self._server, data, wire)

    def close(self, by: PipeEnd) -> None:
        """Let an end close it, or die: the other one learns of it."""
        if self.is_open:
            self.is_open = False
            other = self._server if by is self._peer else self._peer
            self._tell(other)

    def drop(self) -> None:
        """Let it break; both ends learn of it."""
        if self.is_open:
            self.is_open = False
            self._tell(self._server)
            self._tell(self._peer)

    def _tell(self, end: PipeEnd) -> None:
        self._count += 1
        # A reset comes at once or, where the network is cut, only when somebody writes or asks.
        wait_ms = self._world.fate.between(1, 200, f"reset {self.name} {self._count}")
        self._world.after(wait_ms, end.pipe_closed, self)

    def _carry(self, to: PipeEnd, by: PipeEnd, data: bytes, wire: Wire | None) -> None:
        world = self._world
        if not self.is_open:
            return
        self._count += 1
        key = f"{self.name} {self._count}"
        ready_ms = world.ms + world.fate.between(_NEAR_MS, _FAR_MS, f"way {key}")
        if world.fate.strikes("loss", key, world.ms):
            # TCP sends it again.
            ready_ms += 300
        cut_ms = world.fate.until_ms("cut", world.ms, to.name, by.name)
        if cut_ms:
            ready_ms = max(ready_ms, cut_ms + 500)
        if ready_ms > world.ms + _PATIENCE_MS:
            world.after(_PATIENCE_MS, self.drop)
            return
        # In order: nothing overtakes what was written before.
        ready_ms = self._free_ms[to] = max(ready_ms, self._free_ms[to])
        world.after(ready_ms - world.ms, self._arrive, to, data, wire)

    def _arrive(self, to: PipeEnd, data: bytes, wire: Wire | None) -> None:
        if self.is_open:
            to.pipe_received(self, data, wire)
