"""Nodes: at each address one process after another, each an engine with a clock, sockets and a way to the store."""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from examples.deferred import Deferred
from fuzz.bounds import check_bounds
from msilo_core import Config, Engine, Flow, Limits, Moment
from msilo_core.actions import Action, CloseFlow, Completion, Dropped, Send, StorageAction
from msilo_core.config import DeliveryConfig
from msilo_core.errors import Unavailable
from msilo_core.parameters import SiloConfig
from msilo_core.route import Route, ServerRoute, SiloRoute
from msilo_core.uri import Aor
from tests.sim.broken import Broken
from tests.sim.letters import DOMAIN, EPOCH_MS
from tests.sim.network import Pipe
from tests.sim.scenario import NodePlan, Role
from tests.sim.store import StoreLink
from tests.sim.wire import Address, Wire, parse

if TYPE_CHECKING:
    from tests.sim.agents import Agent
    from tests.sim.world import World

__all__ = ["Node", "Process"]

_ROUTES: Final[dict[Role, type[Route]]] = {"server": ServerRoute, "silo": SiloRoute, "deferred": Deferred}

_GRACE_MS: Final = 5_000
_ABANDON_MS: Final = 1_000
_POLL_MS: Final = 50
_CONNECT_MS: Final = 5_000


class Node:
    """A place where processes run.

    Attributes:
        name: of the place.
        address: where it listens.
        skew_ms: how far its clock is ahead.
        process: the one that runs, or None.
    """

    def __init__(self, world: "World", plan: NodePlan, number: int) -> None:
        self.name = plan.name
        self.address: Address = (f"127.0.1.{number + 1}", 5060)
        self.skew_ms = plan.skew_ms
        self.process: Process | None = None
        self._world = world
        self._count = 0

    def start(self) -> None:
        """Let a process begin where none runs."""
        if self.process is None:
            self._count += 1
            self.process = Process(self._world, self, f"{self.name}.{self._count}")
            self._world.network.settle(self.address, self.process)

    def crash(self, down_ms: int) -> None:
        """Let the process end at once; another one begins later."""
        process = self.process
        if process is not None:
            self._world.note(f"{process.lease_name} crashes")
            process.die()
            self._world.after(down_ms, self.start)

    def stop(self, down_ms: int) -> None:
        """Let the process end gracefully."""
        if self.process is not None:
            self._world.note(f"{self.process.lease_name} is stopped")
            self.process.stop(down_ms)


class Process:
    """One engine, from its start to its end.

    Attributes:
        name: of the node.
        lease_name: of the process, in leases.
        address: where it listens.
        engine: it.
        is_alive: whether it runs.
        is_ending: whether it was stopped.
        awaited: what it asked the store for.
    """

    def __init__(self, world: "World", node: Node, lease_name: str) -> None:
        scenario = world.scenario
        self.name = node.name
        self.lease_name = lease_name
        self.address = node.address
        self.is_alive = True
        self.is_ending = False
        self._latest_s = 0
        self.limits = Limits(**scenario.limits)
        self._world = world
        self._node = node
        # A node whose clock is behind, or whose store is, believes in bindings that have expired for others, which took
        # new ones.
        most = 10 * self.limits.bindings_per_aor_max
        self._bounds = msgspec.structs.replace(self.limits, bindings_per_aor_max=most)
        self._paused_until_ms = 0
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._alarm_ms: int | None = None
        self._pipes: dict[int, Pipe] = {}
        self._tokens = 0
        self._link = StoreLink(world, self, world.store)
        self.engine = Engine(
            Config(
                node=lease_name,
                silo=msgspec.convert(scenario.silo, SiloConfig),
                delivery=msgspec.convert(
                    {
                        "window": scenario.window,
                        "devices": scenario.devices,
                        **{f"{name}_s": value for name, value in scenario.delivery.items()},
                    },
                    DeliveryConfig,
                ),
            ),
            self.limits,
            entropy=random.Random(f"{scenario.seed} {lease_name}"),
            now=self.now,
            route=_ROUTES[scenario.role](),
        )
        world.note(f"{lease_name} begins")
        self._set_alarm()

    @property
    def now(self) -> Moment:
        """The present, by its own clocks."""
        ms = self._world.ms
        return Moment(ms, EPOCH_MS + ms + self._node.skew_ms)

    @property
    def latest_s(self) -> int:
        """The furthest that its clock has been when it did something, or now."""
        return max(self._latest_s, self.now.unix_s)

    # -- The end -------------------------------------------------------------------------------------------------------

    def die(self) -> None:
        """End at once."""
        self.is_alive = False
        self._node.process = None
        self._world.network.leave(self.address)
        self._link.die()
        for pipe in self._pipes.values():
            pipe.close(self)
        self._pipes.clear()
        self._world.promises.died(self)

    def stop(self, down_ms: int) -> None:
        """End gracefully, as :class:`msilo_runners.Server` does."""
        if not self.is_ending:
            self.is_ending = True
            self._feed(self.engine.close)
            self._poll(self._world.ms + _GRACE_MS, down_ms, is_last=False)

    def _poll(self, until_ms: int, down_ms: int, is_last: bool) -> None:
        world = self._world
        if not self.is_alive:
            return
        if not self.engine.is_idle and world.ms < until_ms:
            world.after(_POLL_MS, self._poll, until_ms, down_ms, is_last)
        elif self.engine.is_idle or is_last:
            world.note(f"{self.lease_name} has ended")
            self.die()
            world.after(down_ms, self._node.start)
        else:
            self._feed(self.engine.abandon)
            self._poll(world.ms + _ABANDON_MS, down_ms, is_last=True)

    def pause(self, ms: int) -> None:
        """Do nothing for a while; what comes waits."""
        if self.is_alive:
            self._paused_until_ms = max(self._paused_until_ms, self._world.ms + ms)
            self._world.after(ms, self._go_on)

    def _go_on(self) -> None:
        if self._world.ms >= self._paused_until_ms:
            held, self._held = self._held, []
            for do, values in held:
                do(*values)

    def _waits(self, do: Callable[..., None], *values: Any) -> bool:
        """Say whether something has to wait until a pause is over, or for ever; what waits keeps its order."""
        if not self.is_alive:
            return True
        if self._world.ms < self._paused_until_ms or self._held:
            self._held.append((do, values))
            return True
        return False

    # -- What comes ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, wire: Wire | None, source: Address) -> None:
        """Take a datagram."""
        if not self._waits(self.receive, data, wire, source):
            self._hear(wire or parse(data))
            self._feed(self.engine.receive_datagram, data, Flow("udp", self.address, source))

    def pipe_received(self, pipe: Pipe, data: bytes, wire: Wire | None) -> None:
        """Take octets of a connection."""
        if not self._waits(self.pipe_received, pipe, data, wire) and pipe.token in self._pipes:
            if wire is not None:
                self._hear(wire)
            self._feed(self.engine.receive_stream, data, self._flow(pipe))

    def pipe_closed(self, pipe: Pipe) -> None:
        """Learn that a connection has ended."""
        if not self._waits(self.pipe_closed, pipe) and self._pipes.pop(pipe.token, None) is not None:
            self._world.promises.flow_ended(self, self._flow(pipe))
            self._feed(self.engine.flow_closed, self._flow(pipe), "the peer closed it")

    def opened(self, pipe: Pipe) -> None:
        """Learn that a peer has connected."""
        if not self._waits(self.opened, pipe):
            self._feed(self.engine.flow_opened, self._flow(pipe))

    def complete(self, completion: Completion) -> None:
        """Take an answer of the store's."""
        if not self._waits(self.complete, completion):
            del self._link.awaited[completion.token]
            self._feed(self.engine.complete, completion)

    def dump(self, owner: str) -> None:
        """Let the application ask for a delivery."""
        with suppress(Unavailable):
            self._perform(self.engine.dump(Aor(owner, DOMAIN), None, self.now))
            self._set_alarm()

    def _hear(self, wire: Wire) -> None:
        promises = self._world.promises
        if wire.status:
            promises.hears(self, wire)
        elif wire.method == "MESSAGE":
            promises.asked_by(self, wire)

    def _feed(self, question: Callable[..., list[Action]], *values: Any) -> None:
        now = self.now
        self._latest_s = max(self._latest_s, now.unix_s)
        try:
            actions = question(*values, now)
        except Exception as error:
            raise Broken("P9", f"{self.lease_name} raised {type(error).__name__}: {error}") from error
        self._perform(actions)
        self._set_alarm()
        self.check_bounds()

    def awaits(self, action: StorageAction) -> bool:
        """Say whether an action is not answered yet."""
        return self._link.awaited.get(action.token) is action

    def check_bounds(self, *, is_over: bool = False) -> None:
        """Check that nothing in the engine has grown over its limit."""
        try:
            check_bounds(self.engine, self._bounds, list(self._link.awaited.values()), is_over=is_over)
        except AssertionError as error:
            raise Broken("P9", f"{self.lease_name} is out of bounds: {error}") from error

    def _set_alarm(self) -> None:
        due_ms = self.engine.next_timeout()
        if due_ms is not None and (self._alarm_ms is None or due_ms < self._alarm_ms):
            self._alarm_ms = due_ms
            self._world.after(max(due_ms - self._world.ms, 0), self._ring, due_ms)

    def _ring(self, due_ms: int) -> None:
        if self._alarm_ms == due_ms and not self._waits(self._ring, due_ms):
            self._alarm_ms = None
            self._feed(self.engine.handle_timeout)

    # -- What goes -----------------------------------------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> None:
        while actions:
            failed: list[int] = []
            for action in actions:
                if isinstance(action, Send):
                    if not self._send(action):
                        failed.append(action.token)
                elif isinstance(action, CloseFlow):
                    self._close(action.flow)
                elif isinstance(action, StorageAction):
                    self._world.promises.asked(self, action)
                    self._link.put(action)
                else:
                    assert isinstance(action, Dropped), action
            actions = []
            for token in failed:
                if token:
                    self._world.promises.send_failed(self, token)
                    actions += self.engine.send_failed(token, self.now)

    def _send(self, send: Send) -> bool:
        """Carry out a Send; say whether it could be."""
        world, flow = self._world, send.flow
        if send.data == b"\r\n":
            wire = None
        else:
            wire = parse(send.data)
            if wire.status:
                world.promises.answers(self, wire)
            else:
                world.promises.sends(self, wire, flow, send.token)
        if not flow.is_stream:
            world.network.send(self.name, self.address, flow.remote, send.data, wire)
            return True
        pipe = self._pipes.get(flow.token)
        if not flow.token:
            pipe = next((one for one in self._pipes.values() if one.remote == flow.remote), None)
            pipe = pipe or world.reach(self, world.network.at(flow.remote))
        elif pipe is not None and self._flow(pipe) != flow:
            pipe = None
        if pipe is None or not pipe.is_open:
            return False
        pipe.to_peer(send.data, wire)
        return True

    def _close(self, flow: Flow) -> None:
        pipe = self._pipes.pop(flow.token, None)
        if pipe is not None:
            self._world.promises.flow_ended(self, self._flow(pipe))
            pipe.close(self)

    def new_pipe(self, agent: "Agent") -> Pipe:
        """Return a new connection with a peer."""
        self._tokens += 1
        name = f"{agent.name}={self.lease_name}/{self._tokens}"
        pipe = Pipe(self._world, name, self, agent, agent.address, self._tokens)
        self._pipes[pipe.token] = pipe
        self._world.keep(pipe, agent)
        return pipe

    def _flow(self, pipe: Pipe) -> Flow:
        return Flow("tcp", self.address, pipe.remote, pipe.token)
