"""Where a worker sits: the sockets that its parent made for it, and what the two say to each other."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self, TypeAlias

import msgspec

from msilo_core import Worker
from msilo_runners.addresses import TransportAddress
from msilo_runners.driver import open_socket
from msilo_runners.errors import StartError
from msilo_runners.exchange import Exchange, exchange_pair
from msilo_runners.settings import Backend, ServerConfig

__all__ = ["Answer", "Idle", "Orders", "Place", "Ready", "Refused", "Seat", "Seats"]


class Place(msgspec.Struct, frozen=True):
    """What a worker must know to take its seat.

    Attributes:
        worker: which of them it is.
        start: number of this start, of all starts of all workers.
        group: what the names of all have in common, in leases.
        listening: file descriptors of the sockets to listen on.
        inbox: that of the socket which the others write to.
        outboxes: those of the sockets that they read, by their number.
    """

    worker: Worker
    start: int
    group: str
    listening: tuple[int, ...]
    inbox: int
    outboxes: dict[int, int]

    @property
    def node(self) -> str:
        """The name of the worker in leases."""
        return f"{self.group}.{self.start}"

    @property
    def descriptors(self) -> list[int]:
        """All file descriptors."""
        return [*self.listening, self.inbox, *self.outboxes.values()]


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told.

    Attributes:
        place: where it sits.
        config: what it serves.
        backend: its event loop.
    """

    place: Place
    config: ServerConfig
    backend: Backend


class Ready(msgspec.Struct, frozen=True, tag=True):
    """It serves."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """It cannot start; `text` is one line for the operator, with the remedy."""

    text: str


class Idle(msgspec.Struct, frozen=True, tag=True):
    """Asked to end, it has nothing under way any more; it goes on handing over to others until it is let go."""


Answer: TypeAlias = Ready | Refused | Idle


class Seat:
    """A place that has been taken: its sockets are this process's to close.

    Attributes:
        worker: which of them this is.
        node: its name in leases.
        listening: sockets to listen on.
        exchange: leads to the others.
    """

    def __init__(self, place: Place) -> None:
        self.worker = place.worker
        self.node = place.node
        self.listening = [socket.socket(fileno=number) for number in place.listening]
        outboxes = {number: socket.socket(fileno=outbox) for number, outbox in place.outboxes.items()}
        self.exchange = Exchange(place.worker, place.start, socket.socket(fileno=place.inbox), outboxes)


class Seats:
    """The sockets of all workers, which stay open when one of them dies.

    So what has come for it waits until it is started again; and who is served by whom stays as it is: a system parts
    what comes among the sockets that there are.

    Args:
        group: see :class:`Place`.
        count: how many workers.

    Attributes:
        addresses: where they listen, with the real ports.
    """

    addresses: list[TransportAddress]

    def __init__(self, group: str, count: int) -> None:
        self._group = group
        self._count = count
        self._opened = ExitStack()
        self._starts = 0
        self._listening: list[list[socket.socket]] = [[] for _ in range(count)]
        self._inboxes: list[socket.socket] = []
        self._outboxes: list[socket.socket] = []

    def open(self, addresses: Sequence[TransportAddress]) -> None:
        """Open all sockets.

        Raises:
            StartError: an address is taken or not ours, or cannot be shared on this system.
        """
        with self._opened as opened:
            self.addresses = [self._share(opened, where) for where in addresses]
            for _ in range(self._count):
                inbox, outbox = exchange_pair()
                self._inboxes.append(opened.enter_context(inbox))
                self._outboxes.append(opened.enter_context(outbox))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._opened.close()

    def place(self, number: int) -> Place:
        """Return a place for a new start of a worker."""
        round_number = self._starts = self._starts + 1
        outboxes = {other: one.fileno() for other, one in enumerate(self._outboxes) if other != number}
        return Place(
            Worker(number, self._count),
            round_number * self._count + number,
            self._group,
            tuple(one.fileno() for one in self._listening[number]),
            self._inboxes[number].fileno(),
            outboxes,
        )

    def _share(self, opened: ExitStack, where: TransportAddress) -> TransportAddress:
        try:
            # First as if it were for one alone: those who share a port are not told that others have it already.
            with open_socket(where) as alone:
                where = TransportAddress.of(where.transport, alone.getsockname()[:2])
            for listening in self._listening:
                listening.append(opened.enter_context(open_socket(where, is_shared=True)))
        except OSError as error:
            raise StartError(f"cannot listen on {where}: {error.strerror}") from None
        return where
