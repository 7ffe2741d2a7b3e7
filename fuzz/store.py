"""The store behind an engine in a story: it really holds rows, bindings and users."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from msilo_core.actions import (
    Bind,
    Completion,
    Dump,
    Expire,
    FindUser,
    LookUp,
    Message,
    Remind,
    Renew,
    Retry,
    Settle,
    StorageAction,
    Store,
    Stored,
    Unbind,
)
from msilo_core.uri import Aor
from msilo_core.users import User
from msilo_storage.memory import MemoryStorage

__all__ = ["ModelStore"]

T = TypeVar("T")


class ModelStore:
    """The store in memory, one action at a time and without an event loop."""

    def __init__(self, users: tuple[Aor, ...], password: str, clock: Callable[[], int]) -> None:
        """Make a store that holds nothing but users, all with one password; leases run by `clock`."""
        self._memory = MemoryStorage(clock)
        self._due_s: dict[int, int] = {}
        for owner in users:
            _finished(self._memory.add_user(User.with_password(owner, password)))

    def carry_out(self, action: StorageAction) -> Completion:
        """Do what the engine asks for."""
        memory = self._memory
        match action:
            case Store():
                completion = _finished(memory.append([action]))[0]
                if isinstance(completion, Stored):
                    self._due_s.setdefault(completion.message_id, action.message.snd_time_s)
                return completion
            case LookUp():
                return _finished(memory.look_up([action]))[0]
            case FindUser():
                return _finished(memory.find_users([action]))[0]
            case Bind():
                return _finished(memory.bind([action]))[0]
            case Dump():
                return _finished(memory.dump([action]))[0]
            case Settle():
                return _finished(memory.settle([action]))[0]
            case Expire():
                return _finished(memory.expire([action]))[0]
            case Remind():
                return _finished(memory.remind([action]))[0]
            case Retry():
                return _finished(memory.retry([action]))[0]
            case Renew():
                return _finished(memory.renew([action]))[0]
            case Unbind():
                return _finished(memory.unbind([action]))[0]

    def waiting(self, owner: Aor, now_s: int) -> list[Message]:
        """Return what waits for delivery, oldest first."""
        return [row for row in self.kept(owner) if row.snd_time_s <= now_s < row.exp_time_s]

    def kept(self, owner: Aor) -> list[Message]:
        """Return all that is not set aside, oldest first."""
        return _finished(self._memory.list(str(owner)))

    def due_s(self, message_id: int) -> int:
        """Return the time that a message was deferred to when it was stored, or 0."""
        return self._due_s[message_id]

    def last_due_s(self, before_s: int) -> int:
        """Return the latest time below `before_s` that a message which is kept is still deferred to, or 0."""
        rows = _finished(self._memory.list())
        return max((row.snd_time_s for row in rows if row.snd_time_s < before_s), default=0)


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that waits for nothing, as those of the memory store."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the memory store waited")
