"""A user agent on a socket: what ``msilo send`` and ``msilo listen`` are made of."""

import math
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from msilo_core import Account, Action, Address, Answered, Arrived, Flow, Limits, LocalError, UserAgent
from msilo_runners.addresses import TransportAddress
from msilo_runners.driver import Driver, read_clock
from msilo_runners.errors import StartError

__all__ = ["Client", "Observation", "open_client"]

Observation = Answered | Arrived

END_S: Final = 2.0
"""Time for the registrar to confirm that we leave; without that the binding runs out by itself."""

END_POLL_S: Final = 0.01


class Client:
    """A user agent that is connected to one server.

    Attributes:
        agent: what knows SIP.
        flow: how the server is reached; its local address is where we can be reached.
        observations: what the agent saw, in order.
    """

    def __init__(
        self, agent: UserAgent, driver: Driver, flow: Flow, observations: MemoryObjectReceiveStream[Observation]
    ) -> None:
        self.agent = agent
        self.flow = flow
        self.observations = observations
        self._driver = driver

    def perform(self, actions: Sequence[Action]) -> None:
        """Carry out what a command of the agent returned."""
        self._driver.perform(actions, read_clock())

    async def leave(self) -> None:
        """Give up the registration, and wait for its confirmation for a while."""
        self.perform(self.agent.close(read_clock()))
        with anyio.move_on_after(END_S, shield=True):
            while not self.agent.is_idle:  # noqa: ASYNC110  # once in the life of a client
                await anyio.sleep(END_POLL_S)


@asynccontextmanager
async def open_client(server: TransportAddress, account: Account | None = None) -> AsyncGenerator[Client]:
    """Make a user agent that talks to `server`, a host name allowed, and answers its challenges as `account`.

    Raises:
        StartError: the host is unknown, or there is no way to it.
    """
    limits = Limits()
    remote, source = await _route(server)
    seen, observations = anyio.create_memory_object_stream[Observation](math.inf)

    def observe(action: object) -> None:
        if not isinstance(action, Observation):
            raise LocalError(f"a user agent does not ask for {type(action).__name__}")
        seen.send_nowait(action)

    agent = UserAgent(limits=limits, account=account, now=read_clock())
    driver = Driver(agent, limits=limits, observe=observe)
    with seen, observations:
        try:
            # On TCP, too: a server that lost our connection calls back at the address of our Contact.
            local = driver.bind(TransportAddress(server.transport, source, 0)).address
            async with anyio.create_task_group() as tasks:
                await tasks.start(driver.run)
                yield Client(agent, driver, Flow(server.transport, local, remote), observations)
                tasks.cancel_scope.cancel()
        finally:
            driver.close()


async def _route(server: TransportAddress) -> tuple[Address, str]:
    """Return the address of the server, and ours on the way to it."""
    try:
        found = await anyio.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
        family, _, _, _, address = found[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Connecting a datagram socket sends nothing; it only asks the system for the route.
            probe.connect(address)
            return (address[0], address[1]), probe.getsockname()[0]
    except OSError as error:
        raise StartError(f"cannot reach {server}: {error.strerror}") from None
