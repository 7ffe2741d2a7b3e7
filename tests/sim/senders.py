"""Those who send messages: each sends its own again and again until a server takes it, or until it gives up."""

from typing import TYPE_CHECKING, Final

from tests.sim.agents import Agent
from tests.sim.letters import Letter

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Sender"]

_AGAIN: Final = frozenset({0, 500, 503})
"""Statuses after which the same message is sent again: no answer, and what says nothing about the message."""


class Sender(Agent):
    """A user agent client, or the proxy in front of one."""

    def __init__(self, world: "World", name: str, number: int) -> None:
        transport = "tcp" if world.fate.number(f"transport {name}") < 0.2 else "udp"
        super().__init__(world, name, transport, (f"127.0.3.{number + 1}", 5060))
        self._unfinished: set[int] = set()
        world.network.settle(self.address, self)

    @property
    def is_done(self) -> bool:
        """Whether each message was taken, refused or given up."""
        return not self._unfinished

    def send(self, letter: Letter) -> None:
        """Send a message for the first time, or once more: the same Call-ID, CSeq and From tag in a new transaction."""
        world = self._world
        self._unfinished.add(letter.plan.number)
        tried = len(letter.statuses)
        node = world.fate.pick(world.node_names, f"node {letter.name} {tried}")
        branch = self.branch()
        data = letter.octets(self.transport, self.address, branch)
        world.note(f"{self.name} sends {letter.name} to {node}", branch)
        self.request(branch, data, node, lambda status: self._sent(letter, status))

    def _sent(self, letter: Letter, status: int) -> None:
        world = self._world
        world.note(f"{self.name} is told {status or 'nothing'} of {letter.name}")
        letter.statuses.append(status)
        if status in _AGAIN and len(letter.statuses) < letter.plan.tries:
            wait_ms = world.fate.between(0, 12_000, f"again {letter.name} {len(letter.statuses)}")
            world.after(wait_ms, self.send, letter)
            return
        self._unfinished.discard(letter.plan.number)
        letter.is_accepted = 200 <= status < 300
