"""One story, told: nodes, phones, senders, a store, a network, and time, which jumps from one event to the next."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from msilo_core.outcome import ATTEMPTS_MAX
from tests.sim.agents import TIMED_OUT_MS, Agent
from tests.sim.broken import Broken
from tests.sim.fate import Fate
from tests.sim.ledger import Row, device_of
from tests.sim.letters import EPOCH_MS, Letter
from tests.sim.network import Network, Pipe, Place
from tests.sim.nodes import Node, Process
from tests.sim.phones import Phone
from tests.sim.promises import Promises
from tests.sim.scenario import OPERATOR, Event, LetterPlan, Scenario
from tests.sim.senders import Sender
from tests.sim.store import SharedStore
from tests.sim.wire import Address

__all__ = ["Note", "Result", "World", "tell"]

_STEPS_MAX: Final = 300_000
"""More than the longest story has."""

_CALM_MS_MAX: Final = 1_800_000
"""In so long a calm everything is delivered: leases of dead nodes and bindings of phones that are gone end, pauses are
over, and what a phone answers 5xx again and again is set aside."""

_FORGOTTEN_MS_MAX: Final = 1_500_000
"""In so long all bindings have ended, by whatever clock."""

_BEHIND_MS_MAX: Final = 640_000
"""No clock is so far behind another that in so long it does not come to where that was, and 32 s later."""

_LOOK_MS: Final = 5_000


class Note(msgspec.Struct, frozen=True, array_like=True):
    """A line of a trace.

    Attributes:
        ms: when.
        what: what happened.
        branch: which transaction it belongs to, or empty.
    """

    ms: int
    what: str
    branch: str = ""


class Result(msgspec.Struct):
    """What became of a story.

    Attributes:
        counts: messages by how they ended, and what else there is to count.
        faults: single faults by kind.
        struck: their names.
        promise: that was broken; empty if none was.
        text: how.
        notes: what happened, if it was wanted.
    """

    counts: Counter[str]
    faults: Counter[str]
    struck: tuple[str, ...]
    promise: str = ""
    text: str = ""
    notes: list[Note] = []


class World:
    """See the module.

    Attributes:
        scenario: the story.
        ms: the present: milliseconds since the beginning.
        fate: chance and faults.
        network: datagrams.
        store: what all nodes share.
        promises: the checks.
        is_calm: whether the faults are over.
        node_names: all nodes.
        notes: the trace.
    """

    def __init__(self, scenario: Scenario, *, is_noted: bool = False) -> None:
        self.scenario = scenario
        self.ms = 0
        self.fate = Fate(scenario)
        self.is_calm = False
        self.node_names = [node.name for node in scenario.nodes]
        self.notes: list[Note] = []
        self._is_noted = is_noted
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._armed = 0
        self._pipes: dict[str, list[Pipe]] = defaultdict(list)
        self.network = Network(self)
        self.promises = Promises(self)
        self.store = SharedStore(self)
        self._nodes = {plan.name: Node(self, plan, number) for number, plan in enumerate(scenario.nodes)}
        self._phones = {plan.name: Phone(self, plan, number) for number, plan in enumerate(scenario.phones)}
        names = sorted({letter.sender for letter in scenario.letters})
        self._senders = {name: Sender(self, name, number) for number, name in enumerate(names)}

    # -- Time ----------------------------------------------------------------------------------------------------------

    def after(self, wait_ms: int, do: Callable[..., None], *values: Any) -> None:
        """Let something be done in so many milliseconds; what is for the same instant keeps its order."""
        self._armed += 1
        heapq.heappush(self._heap, (self.ms + wait_ms, self._armed, do, values))

    def note(self, what: str, branch: str = "") -> None:
        """Write a line of the trace."""
        if self._is_noted:
            self.notes.append(Note(self.ms, what, branch))

    def _run_until(self, end_ms: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end_ms:
            self.ms, _, do, values = heapq.heappop(heap)
            do(*values)
            self._steps += 1
            if self._steps > _STEPS_MAX:
                raise Broken("P9", "there is no end of it")
        self.ms = end_ms

    _steps = 0

    # -- The story -----------------------------------------------------------------------------------------------------

    def run(self) -> Counter[str]:
        """Tell it to its end; return how the messages ended.

        Raises:
            Broken: a promise.
        """
        scenario = self.scenario
        for node in self._nodes.values():
            node.start()
        for event in scenario.events:
            self.after(event.at_ms, self._happen, event)
        for plan in scenario.letters:
            self.after(plan.at_ms, self._send, plan)
        self._run_until(scenario.calm_ms)
        self._calm_down()
        # Clocks ten minutes apart end a binding at once, and leave the retries to the REGISTERs.
        poisoned = sum(plan.poison >= 500 for plan in scenario.letters)
        refresh_s = max(plan.refresh_s for plan in scenario.phones)
        calm_ms_max = _CALM_MS_MAX + poisoned * ATTEMPTS_MAX * refresh_s * 1000
        for _ in range(calm_ms_max // _LOOK_MS):
            self._run_until(self.ms + _LOOK_MS)
            if self._is_settled():
                break
        self.note("nothing waits any more" if self._is_settled() else "it does not come to an end")
        ends = self.promises.ledger.check_end(self._now_s)
        for phone, row in self._lacking():
            raise Broken("P2", f"{phone.name} never gets {row.letter.name}, row {row.number}, which others took")
        self._fall_asleep()
        return ends

    def _happen(self, event: Event) -> None:
        node = self._nodes.get(event.who)
        if event.who == OPERATOR:
            self.store.operate(event.kind, event.owner)
        elif node is None:
            self._happen_to_phone(self._phones[event.who], event.kind)
        elif event.kind == "crash":
            node.crash(event.ms)
        elif event.kind == "stop":
            node.stop(event.ms)
        elif event.kind == "step":
            self.note(f"the clock of {event.who} is set")
            node.skew_ms = event.ms
        elif node.process is not None:
            self.note(f"{event.who}: {event.kind}")
            if event.kind == "pause":
                node.process.pause(event.ms)
            else:
                node.process.dump(event.owner)

    def _happen_to_phone(self, phone: Phone, kind: str) -> None:
        self.note(f"{phone.name}: {kind}")
        does = {
            "on": phone.turn_on,
            "off": phone.turn_off,
            "vanish": phone.vanish,
            "move": phone.move,
            "break": phone.cut_off,
        }
        does[kind]()

    def _send(self, plan: LetterPlan) -> None:
        letter = Letter(plan)
        self.promises.ledger.add(letter)
        self._senders[plan.sender].send(letter)

    def _calm_down(self) -> None:
        """Let all faults be over, and every owner have a phone."""
        self.note("calm")
        self.is_calm = True
        for node in self._nodes.values():
            node.start()
        for owner in self.scenario.owners:
            phones = (phone for phone in self._phones.values() if phone.plan.owner == owner)
            next(phone for phone in phones if not phone.plan.methods).turn_on()

    def _is_settled(self) -> bool:
        processes = [node.process for node in self._nodes.values()]
        return (
            not self.promises.ledger.waiting(self._now_s)
            and not self._lacking()
            and all(sender.is_done for sender in self._senders.values())
            and all(process is not None and process.engine.is_idle for process in processes)
        )

    def _lacking(self) -> list[tuple[Phone, Row]]:
        """Return which phones that are there lack what."""
        store = self.store
        return [
            (phone, row)
            for phone in self._phones.values()
            if phone.is_there and self.scenario.devices == "each" and store.is_bound(phone.plan.owner, phone.contact)
            for row in self.promises.ledger.lacking(
                self._now_s, phone.plan.owner, device_of(phone.instance, phone.contact)
            )
        ]

    def _fall_asleep(self) -> None:
        """Let everybody fall silent: what the nodes remember for their sake is forgotten."""
        for phone in self._phones.values():
            phone.stop()
        for _ in range(_FORGOTTEN_MS_MAX // _LOOK_MS if self.scenario.devices == "each" else 0):
            # What a device lacks that is gone is tried as long as its binding lives.
            if not self.store.has_bindings():
                break
            self._run_until(self.ms + _LOOK_MS)
        self._run_until(self.ms + 3 * TIMED_OUT_MS)
        for pipes in list(self._pipes.values()):
            for pipe in pipes:
                pipe.drop()
        for _ in range(_BEHIND_MS_MAX // TIMED_OUT_MS):
            # One whose clock is behind still sends what has expired by all others.
            self._run_until(self.ms + TIMED_OUT_MS)
            with suppress(Broken):
                self._check_forgotten()
                return
        self._check_forgotten()

    def _check_forgotten(self) -> None:
        for node in self._nodes.values():
            if node.process is not None:
                node.process.check_bounds(is_over=True)

    @property
    def _now_s(self) -> int:
        return (EPOCH_MS + self.ms) // 1000

    # -- Who is where --------------------------------------------------------------------------------------------------

    def address_of(self, node: str) -> Address:
        """Return where a node listens."""
        return self._nodes[node].address

    def connect(self, agent: Agent, node: str) -> Pipe | None:
        """Let a peer connect to a node; None if it cannot."""
        process = self._nodes[node].process
        if process is None or self.fate.until_ms("cut", self.ms, agent.name, node):
            return None
        pipe = process.new_pipe(agent)
        process.opened(pipe)
        return pipe

    def reach(self, process: Process, place: Place | None) -> Pipe | None:
        """Let a node connect to a peer; None if it cannot."""
        if not isinstance(place, Phone) or not place.is_reachable:
            return None
        if self.fate.until_ms("cut", self.ms, place.name, process.name):
            return None
        return process.new_pipe(place)

    def keep(self, pipe: Pipe, agent: Agent) -> None:
        """Remember a connection of a peer's."""
        self._pipes[agent.name].append(pipe)

    def close_pipes(self, agent: Agent) -> None:
        """Let all connections of a peer end."""
        for pipe in self._pipes.pop(agent.name, ()):
            pipe.close(agent)


def tell(scenario: Scenario, *, is_noted: bool = False) -> Result:
    """Tell a story; return what became of it."""
    world = World(scenario, is_noted=is_noted)
    promise = text = ""
    ends: Counter[str] = Counter()
    try:
        ends = world.run()
    except Broken as broken:
        promise, text = broken.promise, broken.text
    ends["messages"] = len(world.promises.ledger.letters)
    ends["repeats"] = world.promises.repeats
    struck = world.fate.struck
    return Result(ends, Counter(struck.values()), tuple(struck), promise, text, world.notes)
