"""The store that the nodes share, and each process's way to it: slow, failing, and not always telling the truth.

What the store does, the memory store does. In which order, the runner's :mod:`msilo_runners.batches` says: of each kind
of action one batch is under way at a time, with all that gathered meanwhile, and the kinds do not wait for each other.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from msilo_core.actions import (
    Bind,
    Binding,
    Completion,
    Dump,
    Expire,
    FindUser,
    LookedUp,
    LookUp,
    Message,
    Outcome,
    Remind,
    Renew,
    Retry,
    Settle,
    StorageAction,
    StorageFailed,
    Store,
    Unbind,
)
from msilo_core.uri import Aor
from msilo_storage.memory import MemoryStorage
from tests.core.world import finished
from tests.sim.letters import DOMAIN, EPOCH_MS

if TYPE_CHECKING:
    from tests.sim.nodes import Process
    from tests.sim.world import World

__all__ = ["METHODS", "SharedStore", "StoreLink"]

METHODS: Final[dict[type, Callable[[MemoryStorage, Any], Any]]] = {
    LookUp: MemoryStorage.look_up,
    FindUser: MemoryStorage.find_users,
    Bind: MemoryStorage.bind,
    Store: MemoryStorage.append,
    Dump: MemoryStorage.dump,
    Settle: MemoryStorage.settle,
    Expire: MemoryStorage.expire,
    Remind: MemoryStorage.remind,
    Renew: MemoryStorage.renew,
    Retry: MemoryStorage.retry,
    Unbind: MemoryStorage.unbind,
}
"""What carries out each kind of action."""

_BATCH_MAX: Final = 16
_SLOW_MS: Final = 20_000
_LATE_MS: Final = 8_000


class SharedStore:
    """One database.

    Attributes:
        memory: what is in it.
    """

    def __init__(self, world: "World") -> None:
        self.memory = MemoryStorage(lambda: EPOCH_MS + world.ms)
        self._world = world

    def carry_out(self, process: "Process", action: StorageAction) -> Completion:
        """Do what a process asked for."""
        completion: Completion = finished(METHODS[type(action)](self.memory, [action]))[0]
        self._world.promises.done(process, action, completion)
        return completion

    def is_bound(self, owner: str, contact: str) -> bool:
        """Say whether a contact is registered."""
        now_s = self.memory.clock() // 1000
        (found,) = finished(self.memory.look_up([LookUp(0, Aor(owner, DOMAIN), now_s)]))
        return isinstance(found, LookedUp) and any(binding.contact == contact for binding in found.bindings)

    def has_bindings(self) -> bool:
        """Say whether anybody is registered, or was and is not forgotten yet."""
        return finished(self.memory.check()).bindings > 0

    def operate(self, kind: str, owner: str) -> None:
        """Do what an operator does: requeue or purge what there is of an owner."""
        aor = str(Aor(owner, DOMAIN))
        swept = self.memory.requeue(owner=aor) if kind == "requeue" else self.memory.purge(owner=aor, waiting=True)
        self._world.note(f"the operator does {kind} of {owner}: {finished(swept).done}")
        self._world.promises.ledger.swept()


class _Batch:
    """Actions that are carried out together."""

    def __init__(self, name: str, actions: list[StorageAction]) -> None:
        self.name = name
        self.actions = actions
        self.completions: list[Completion] | None = None
        self.is_dropped = False


class StoreLink:
    """The connections of one process.

    Attributes:
        awaited: actions that are not answered, by token.
    """

    def __init__(self, world: "World", process: "Process", shared: SharedStore) -> None:
        self.awaited: dict[int, StorageAction] = {}
        self._world = world
        self._process = process
        self._shared = shared
        self._waiting: dict[type, deque[StorageAction]] = {kind: deque() for kind in METHODS}
        self._under_way: dict[type, _Batch] = {}
        self._count = 0

    def put(self, action: StorageAction) -> None:
        """Take an action; its completion follows."""
        kind = type(action)
        self.awaited[action.token] = action
        waiting = self._waiting[kind]
        waiting.append(action)
        if len(waiting) == 1 and kind not in self._under_way:
            self._world.after(0, self._begin, kind)

    def die(self) -> None:
        """End with the process: what the database was told already it may do all the same."""
        fate = self._world.fate
        for waiting in self._waiting.values():
            waiting.clear()
        for batch in self._under_way.values():
            batch.is_dropped = fate.number(f"last words {batch.name}") < 0.5

    def _begin(self, kind: type) -> None:
        waiting = self._waiting[kind]
        if not waiting or kind in self._under_way:
            return
        world, fate, process = self._world, self._world.fate, self._process
        self._count += 1
        batch = _Batch(f"{process.lease_name} {kind.__name__} {self._count}", _take(waiting))
        self._under_way[kind] = batch
        key, where = batch.name, process.name
        before_ms = fate.between(0, 3, f"before {key}")
        after_ms = fate.between(0, 3, f"after {key}")
        if frozen_ms := fate.until_ms("store freeze", world.ms, where):
            before_ms += frozen_ms - world.ms
        if fate.strikes("store slow", key, world.ms, where):
            slow_ms = fate.between(300, _SLOW_MS, f"slow {key}")
            if fate.number(f"half {key}") < 0.5:
                before_ms += slow_ms
            else:
                after_ms += slow_ms
        is_lost = fate.strikes("store lost", key, world.ms, where)
        if fate.strikes("store fail", key, world.ms, where):
            world.note(f"{key}: fails")
            world.after(before_ms + after_ms, self._end, kind, batch)
            return
        is_late = fate.strikes("store late", key, world.ms, where)
        if is_late:
            # The connection breaks, and the database goes on with what it was told.
            world.after(before_ms + after_ms, self._end, kind, batch)
            world.after(before_ms + after_ms + fate.between(1, _LATE_MS, f"late {key}"), self._do, batch, True)
            return
        world.after(before_ms, self._do, batch, is_lost)
        world.after(before_ms + after_ms, self._end, kind, batch)

    def _do(self, batch: _Batch, is_lost: bool) -> None:
        """Commit."""
        if batch.is_dropped:
            return
        world, fate = self._world, self._world.fate
        completions: list[Completion] = []
        for number, action in enumerate(batch.actions):
            if fate.strikes("store row", f"{batch.name}/{number}", world.ms, self._process.name):
                completions.append(StorageFailed(action.token, "this row"))
            else:
                completions.append(self._shared.carry_out(self._process, action))
            world.note(f"{self._process.lease_name}: {_words(action)}: {_words(completions[-1])}")
        if is_lost:
            world.note(f"{batch.name}: done, and its answer lost")
            for action in batch.actions:
                world.promises.denied(self._process, action)
        else:
            batch.completions = completions

    def _end(self, kind: type, batch: _Batch) -> None:
        """Answer."""
        if not self._process.is_alive:
            return
        del self._under_way[kind]
        completions = batch.completions
        if completions is None:
            completions = [StorageFailed(action.token, "the connection broke") for action in batch.actions]
        for completion in completions:
            self._process.complete(completion)
        self._world.after(0, self._begin, kind)


def _take(waiting: deque[StorageAction]) -> list[StorageAction]:
    actions: list[StorageAction] = []
    owners: set[object] = set()
    while waiting and len(actions) < _BATCH_MAX:
        action = waiting[0]
        if isinstance(action, Dump):
            # One inbox is leased once in a batch.
            if action.owner in owners:
                break
            owners.add(action.owner)
        actions.append(waiting.popleft())
    return actions


def _words(what: StorageAction | Completion) -> str:
    """Return what an action or completion says, without what is of no interest in a trace."""
    name = type(what).__name__
    match what:
        case Store(message=message):
            return f"Store {message.callid}"
        case Settle(message_id=number, outcome=Outcome.TAKEN, taken_by=devices):
            return f"Settle row {number} taken {devices}"
        case Settle(message_id=number, outcome=outcome, status=status):
            return f"Settle row {number} {outcome} {status}"
        case Dump(owner=owner) | LookUp(owner=owner) | Bind(owner=owner):
            return f"{name} {owner.username}"
        case _:
            pass
    said = {field: getattr(what, field) for field in what.__struct_fields__ if field != "token"}
    for field in said.keys() & {"messages", "bindings", "owners"}:
        said[field] = said[field] if isinstance(said[field], int) else _names(said[field])
    return f"{name} {' '.join(f'{field}={value}' for field, value in said.items())}"


def _names(values: Iterable[object]) -> list[object]:
    return [
        one.message_id if isinstance(one, Message) else one.contact if isinstance(one, Binding) else str(one)
        for one in values
    ]
