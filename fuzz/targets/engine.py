"""The engine: octets, completions and time in any order."""

import random
from typing import Final

from msilo_core import Config, Engine, Flow, Limits, Moment
from msilo_core.actions import (
    Action,
    Bind,
    Binding,
    Bound,
    Completion,
    Dump,
    Dumped,
    Expire,
    Expired,
    FindUser,
    LookedUp,
    LookUp,
    Send,
    Settle,
    Settled,
    StorageFailed,
    Store,
    Stored,
    UserFound,
)

__all__ = ["engine"]

_START: Final = Moment(0, 1_790_000_000_000)
_UDP: Final = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5071))
_TCP: Final = Flow("tcp", ("127.0.0.1", 5060), ("127.0.0.1", 5071), 1)


def engine(data: bytes) -> None:
    """A story told to the engine: datagrams, octets of streams, time, and a store that answers in any order.

    Each step is an octet that says what happens, two for a length, and so many octets.
    """
    world = _World()
    while data:
        what, size = data[0], int.from_bytes(data[1:3], "big")
        step, data = data[3 : 3 + size], data[3 + size :]
        world.step(what, step)
    world.end()


class _World:
    def __init__(self) -> None:
        self.now = _START
        self.engine = Engine(Config(), Limits(), entropy=random.Random(1), now=self.now)
        self.awaited: dict[int, Action] = {}
        self.bindings: tuple[Binding, ...] = ()
        self.rows = 0

    def step(self, what: int, data: bytes) -> None:
        match what % 5:
            case 0:
                self.take(self.engine.receive_datagram(data, _UDP, self.now))
            case 1:
                if data:
                    self.take(self.engine.receive_stream(data, _TCP, self.now))
            case 2:
                self.now = Moment(self.now.mono_ms + 97 * what, self.now.unix_ms + 97 * what)
                self.take(self.engine.handle_timeout(self.now))
            case 3:
                self.take(self.engine.flow_closed(_TCP, "fuzzed", self.now))
            case _:
                for _ in range(what // 5 % 8 + 1):
                    self.complete(fail=what >= 128)

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, LookUp | Bind | Store | FindUser | Dump | Settle | Expire):
                assert action.token not in self.awaited, "a token was issued twice"
                self.awaited[action.token] = action
            elif isinstance(action, Send):
                assert action.data, "nothing is sent"

    def complete(self, *, fail: bool) -> None:
        if not self.awaited:
            return
        token = next(iter(self.awaited))
        action = self.awaited.pop(token)
        self.take(self.engine.complete(StorageFailed(token, "fuzzed") if fail else self.answer(action), self.now))

    def answer(self, action: Action) -> Completion:
        match action:
            case LookUp():
                return LookedUp(action.token, self.bindings, bool(self.rows % 2))
            case Bind():
                self.bindings = action.contacts
                return Bound(action.token, self.bindings, bool(self.rows))
            case Store():
                self.rows += 1
                return Stored(action.token, self.rows)
            case FindUser():
                return UserFound(action.token, None)
            case Dump():
                return Dumped(action.token, ())
            case Settle():
                return Settled(action.token)
            case Expire():
                return Expired(action.token, 0)
            case _:
                raise AssertionError(action)

    def end(self) -> None:
        """Time and the store make an end of everything: nothing may stay under way, no deadline in the past."""
        for _ in range(1_000):
            while self.awaited:
                self.complete(fail=False)
            due_ms = self.engine.next_timeout()
            if due_ms is None or due_ms > self.now.mono_ms + 100_000:
                break
            later_ms = max(due_ms - self.now.mono_ms, 0)
            self.now = Moment(self.now.mono_ms + later_ms, self.now.unix_ms + later_ms)
            self.take(self.engine.handle_timeout(self.now))
        else:
            raise AssertionError("deadlines without end")
        assert self.engine.is_idle, "something is under way for ever"
