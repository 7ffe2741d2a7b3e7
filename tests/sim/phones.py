"""Phones: they register, are carried about, run out of power, and answer what they like; and show each message once."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.sim.agents import TIMED_OUT_MS, Agent
from tests.sim.letters import DOMAIN
from tests.sim.network import Pipe
from tests.sim.scenario import PhonePlan
from tests.sim.wire import Key, Wire, response, via

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Phone"]

_SILENT: Final = 0
_MOODS: Final = (
    # (what it says first, what it says finally, how much later at most, whether it shows it)
    (0, 202, 0, True),
    (180, 200, 3_000, True),
    (0, 200, 1_500, True),
    (0, 200, 9_000, True),
    (100, 200, 45_000, True),
    (0, _SILENT, 0, False),
    (0, _SILENT, 0, True),
    *((0, status, 0, False) for status in (302, 401, 408, 480, 480, 486, 500, 503, 404, 415, 488, 603)),
)
"""What a phone may do instead of saying 200 at once."""


class Phone(Agent):
    """A device of an owner.

    Attributes:
        plan: what was planned.
        life: how often its battery was empty: all that it knew is forgotten then.
        contact: the URI that it registers.
    """

    def __init__(self, world: "World", plan: PhonePlan, number: int) -> None:
        super().__init__(world, plan.name, plan.transport, (f"127.0.2.{number + 1}", 5062))
        self.plan = plan
        self.life = 0
        self._number = number
        self._is_on = False
        self._moves = 0
        self._cseq = 0
        self._registration = 0
        self._known: dict[Key, None] = {}
        self._answers: dict[str, tuple[bytes, int]] = {}
        self._seen: Counter[int] = Counter()
        world.network.settle(self.address, self)

    @property
    def contact(self) -> str:
        """The URI that it registers; what it asks for behind it."""
        host, port = (f"10.0.0.{self._number + 1}", 5062) if self.plan.is_private else self.address
        uri = f"sip:{self.plan.owner}@{host}:{port}"
        return f"{uri};transport=tcp" if self.transport == "tcp" else uri

    @property
    def instance(self) -> str:
        """What tells it from the other devices of its owner wherever it is; empty: its contact."""
        return f"<urn:x-phone:{self.name}>" if self.plan.has_instance else ""

    @property
    def is_there(self) -> bool:
        """Whether it takes messages where it is registered."""
        return self.is_up and self._is_on and not self.plan.methods

    @property
    def is_reachable(self) -> bool:
        """Whether a connection can be made to it."""
        return self.is_up and not self.plan.is_private

    # -- What it does by itself ----------------------------------------------------------------------------------------

    def turn_on(self) -> None:
        """Register, and go on doing so."""
        self.is_up = self._is_on = True
        self._registration += 1
        self._register(self._registration, self.plan.expires_s)

    def turn_off(self) -> None:
        """Leave the registrar; what comes all the same is answered."""
        self._registration += 1
        self._is_on = False
        if self.is_up:
            self._register(self._registration, 0)

    def vanish(self) -> None:
        """Be without power from one moment to the next, and forget all."""
        self.is_up = self._is_on = False
        self.life += 1
        self._registration += 1
        self.forget_requests()
        self._known.clear()
        self._answers.clear()
        self.cut_off()

    def move(self) -> None:
        """Get another address, and register from there."""
        self._world.network.leave(self.address)
        self.cut_off()
        self._moves += 1
        self.address = (f"127.0.{10 + self._moves}.{self._number + 1}", 5062)
        self._world.network.settle(self.address, self)
        self.turn_on()

    def cut_off(self) -> None:
        """Lose all connections."""
        self._world.close_pipes(self)

    def stop(self) -> None:
        """Register no more, and answer on."""
        self._registration += 1
        self._is_on = False

    def _register(self, registration: int, expires_s: int) -> None:
        if registration != self._registration or not self.is_up:
            return
        world = self._world
        self._cseq += 1
        node = world.fate.pick(world.node_names, f"node {self.name} {self._moves} {self._cseq // 5}")
        branch = self.branch()
        owner = self.plan.owner
        instance = f';+sip.instance="{self.instance}"' if self.instance else ""
        lines = [
            f"REGISTER sip:{DOMAIN} SIP/2.0",
            via(self.transport, self.address, branch),
            "Max-Forwards: 70",
            f"From: <sip:{owner}@{DOMAIN}>;tag=r{self.name}",
            f"To: <sip:{owner}@{DOMAIN}>",
            f"Call-ID: {self.name}.{self.life}",
            f"CSeq: {self._cseq} REGISTER",
            f"Contact: <{self.contact}>;q={self.plan.q / 1000:.3f};expires={expires_s}{instance}",
            *([f"Allow: {self.plan.methods}"] if self.plan.methods else []),
            "Content-Length: 0",
        ]
        data = "\r\n".join(lines).encode() + b"\r\n\r\n"
        world.note(f"{self.name} registers {self.contact} for {owner} at {node} for {expires_s} s", branch)
        world.promises.registers(owner, self.contact, self.address[0], self.instance)
        self.request(branch, data, node, lambda status: self._registered(registration, expires_s, status))

    def _registered(self, registration: int, expires_s: int, status: int) -> None:
        world = self._world
        world.note(f"{self.name} is told {status or 'nothing'} of its REGISTER")
        if status == 200:
            wait_ms = 1000 * self.plan.refresh_s
            if not expires_s:
                return
        else:
            wait_ms = world.fate.between(500, 8_000, f"register {self.name} {self._cseq}")
        world.after(wait_ms, self._register, registration, expires_s)

    def pipe_closed(self, pipe: Pipe) -> None:
        """Register again, for the connection that is gone may be the one that is registered."""
        super().pipe_closed(pipe)
        if self._is_on:
            wait_ms = self._world.fate.between(500, 10_000, f"reconnect {pipe.name}")
            self._world.after(wait_ms, self._reconnect, self._registration)

    def _reconnect(self, registration: int) -> None:
        if registration == self._registration and self._is_on:
            self.turn_on()

    # -- Messages ------------------------------------------------------------------------------------------------------

    def received(self, wire: Wire, answer: Callable[[bytes], None]) -> None:
        """A request came (RFC 3261 section 17.2.2, and section 8.2.2.2)."""
        world = self._world
        known = self._answers.get(wire.branch)
        if known is not None and world.ms < known[1] + TIMED_OUT_MS:
            if known[0]:
                answer(known[0])
            return
        letter = world.promises.letter_of(wire)
        world.promises.arrives(self, letter, wire)
        self._answers[wire.branch] = (b"", world.ms)
        if wire.key in self._known:
            world.promises.repeats += 1
            status = 482 if self.plan.manners == "merges" else 200
            world.note(f"{self.name} has {letter.name} already: {status}", wire.branch)
            self._say(wire, status, answer)
            return
        first, status, wait_ms, is_shown = self._mood(letter.plan.number, letter.plan.poison)
        if is_shown:
            self._known[wire.key] = None
            world.note(f"{self.name} shows {letter.name}", wire.branch)
            world.promises.shown(self, letter, wire)
        if first:
            self._say(wire, first, answer)
        if status == _SILENT:
            world.note(f"{self.name} does not answer {letter.name}", wire.branch)
        elif wait_ms:
            world.after(wait_ms, self._say_later, self.life, wire, status, answer)
        else:
            self._say(wire, status, answer)

    def _mood(self, number: int, poison: int) -> tuple[int, int, int, bool]:
        if poison:
            return 0, poison, 0, False
        world = self._world
        self._seen[number] += 1
        key = f"{self.name} {number}/{self._seen[number]}"
        if world.is_calm or not world.fate.strikes("answer", key, world.ms, self.name):
            return 0, 200, 0, True
        first, status, wait_ms, is_shown = world.fate.pick(_MOODS, f"mood {key}")
        return first, status, wait_ms and world.fate.between(1, wait_ms, f"wait {key}"), is_shown

    def _say_later(self, life: int, wire: Wire, status: int, answer: Callable[[bytes], None]) -> None:
        if self.is_up and self.life == life:
            self._say(wire, status, answer)

    def _say(self, wire: Wire, status: int, answer: Callable[[bytes], None]) -> None:
        retry_s = self._world.fate.between(0, 20, f"patience {self.name} {wire.branch}") if status in (480, 503) else 0
        data = response(wire, status, f"{self.name}.{self.life}", retry_s)
        self._answers[wire.branch] = (data, self._answers[wire.branch][1])
        self._world.note(f"{self.name} answers {status}", wire.branch)
        answer(data)
