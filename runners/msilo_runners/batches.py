"""Storage actions carried out by kind, many at a time.

One task for each kind of action takes all that wait, has the store carry them out as one batch, and gives the
completions back. While a batch is under way the next one gathers, so that its size follows the load: an idle
server answers at once, a busy one shares each commit among hundreds. Nothing waits on purpose (a linger timer
was measured to lose a fifth of the rate). One task for Store also keeps the messages in the order of arrival.
"""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, NoReturn, TypeVar

import anyio
import anyio.lowlevel
import msgspec

from msilo_core import (
    Aor,
    Bind,
    Completion,
    Dump,
    Expire,
    FindUser,
    LookUp,
    Remind,
    Renew,
    Retry,
    Settle,
    StorageAction,
    StorageError,
    StorageFailed,
    Store,
    Unbind,
)
from msilo_runners.logs import Throttle
from msilo_storage.protocol import Storage, Users

__all__ = ["BatchCounts", "Batches"]

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=StorageAction)

_GIVEN_UP: Final = "the server ends"


class BatchCounts(msgspec.Struct):
    """How well one kind of action was batched.

    Attributes:
        count: batches that the store was given.
        rows: actions in all of them.
        rows_max: actions in the largest.
    """

    count: int = 0
    rows: int = 0
    rows_max: int = 0


class Batches:
    """The storage side of a driver.

    Every action that is put is answered by exactly one completion, also when the store fails, misbehaves, or
    is given up because the server ends.

    Args:
        store: an open store.
        users: those who can log in.
        complete: takes the completions of one batch.
        rows_max: most actions in a batch.
    """

    def __init__(
        self, store: Storage, users: Users, complete: Callable[[Sequence[Completion]], None], *, rows_max: int
    ) -> None:
        health = _Health()
        look_up = _Flusher[LookUp]("look up", store.look_up, complete, health, rows_max)
        find_user = _Flusher[FindUser]("find user", users.find_users, complete, health, rows_max)
        bind = _Flusher[Bind]("bind", store.bind, complete, health, rows_max)
        unbind = _Flusher[Unbind]("unbind", store.unbind, complete, health, rows_max)
        append = _Flusher[Store]("store", store.append, complete, health, rows_max)
        dump = _Flusher[Dump]("dump", store.dump, complete, health, rows_max, distinct=_owner)
        renew = _Flusher[Renew]("renew", store.renew, complete, health, rows_max)
        settle = _Flusher[Settle]("settle", store.settle, complete, health, rows_max)
        expire = _Flusher[Expire]("expire", store.expire, complete, health, rows_max)
        remind = _Flusher[Remind]("remind", store.remind, complete, health, rows_max)
        retry = _Flusher[Retry]("retry", store.retry, complete, health, rows_max)
        self._put: Final[dict[type[object], Callable[..., None]]] = {
            LookUp: look_up.put,
            FindUser: find_user.put,
            Bind: bind.put,
            Unbind: unbind.put,
            Store: append.put,
            Dump: dump.put,
            Renew: renew.put,
            Settle: settle.put,
            Expire: expire.put,
            Remind: remind.put,
            Retry: retry.put,
        }
        flushers = (look_up, find_user, bind, unbind, append, dump, renew, settle, expire, remind, retry)
        self._run: Final = [flusher.run for flusher in flushers]
        self.counts: Final[dict[str, BatchCounts]] = {
            "LookUp": look_up.counts,
            "FindUser": find_user.counts,
            "Bind": bind.counts,
            "Unbind": unbind.counts,
            "Store": append.counts,
            "Dump": dump.counts,
            "Renew": renew.counts,
            "Settle": settle.counts,
            "Expire": expire.counts,
            "Remind": remind.counts,
            "Retry": retry.counts,
        }

    def put(self, action: object) -> None:
        """Take one storage action; its completion follows."""
        self._put[type(action)](action)

    async def run(self) -> None:
        """Carry out what was put, until cancelled."""
        async with anyio.create_task_group() as tasks:
            for flush in self._run:
                tasks.start_soon(flush)


class _Flusher(Generic[A]):
    """The queue of one kind of action, and the loop that empties it."""

    def __init__(
        self,
        name: str,
        carry_out: Callable[[Sequence[A]], Awaitable[Sequence[Completion]]],
        complete: Callable[[Sequence[Completion]], None],
        health: "_Health",
        rows_max: int,
        *,
        distinct: Callable[[A], object] | None = None,
    ) -> None:
        self.counts = BatchCounts()
        self._name = name
        self._carry_out = carry_out
        self._complete = complete
        self._health = health
        self._rows_max = rows_max
        self._distinct = distinct
        self._waiting: deque[A] = deque()
        self._arrived = anyio.Event()

    def put(self, action: A) -> None:
        if not self._waiting:
            self._arrived.set()
        self._waiting.append(action)

    async def run(self) -> NoReturn:
        try:
            while True:
                await self._arrived.wait()
                while self._waiting:
                    await self._flush(self._take())
                self._arrived = anyio.Event()
        finally:
            if self._waiting:
                self._complete(_failures(self._waiting, _GIVEN_UP))

    def _take(self) -> list[A]:
        waiting = self._waiting
        batch: list[A] = []
        keys: set[object] = set()
        while waiting and len(batch) < self._rows_max:
            if self._distinct is not None:
                key = self._distinct(waiting[0])
                if key in keys:
                    break
                keys.add(key)
            batch.append(waiting.popleft())
        return batch

    async def _flush(self, batch: list[A]) -> None:
        try:
            completions = await self._answers(batch)
        except BaseException:
            self._complete(_failures(batch, _GIVEN_UP))
            raise
        self._complete(completions)
        # A store that answers without waiting, as the one in memory does, must not keep the sockets waiting.
        await anyio.lowlevel.checkpoint()

    async def _answers(self, batch: list[A]) -> Sequence[Completion]:
        counts = self.counts
        counts.count += 1
        counts.rows += len(batch)
        counts.rows_max = max(counts.rows_max, len(batch))
        try:
            completions = await self._carry_out(batch)
            if [done.token for done in completions] != [asked.token for asked in batch]:
                raise _ProtocolError(f"{len(batch)} actions got {len(completions)} completions, or those of others")
        except StorageError as error:
            self._health.failed(self._name, str(error))
            return _failures(batch, str(error))
        except Exception as error:
            self._health.crashed(self._name, error)
            return _failures(batch, f"{type(error).__name__} in the store")
        refused = next((done for done in completions if type(done) is StorageFailed), None)
        if refused is not None:
            self._health.failed(self._name, refused.reason)
        else:
            self._health.answered()
        return completions


class _Health:
    """Says when the store goes away and when it is back, not how often it was asked meanwhile."""

    def __init__(self) -> None:
        self._is_down = False
        self._down_since_s = 0.0
        self._complaints = Throttle()
        self._crashes: set[tuple[str, type[Exception]]] = set()

    def failed(self, name: str, reason: str) -> None:
        if self._complaints.admit():
            logger.error("storage failed to %s: %s", name, reason)
            if not self._is_down:
                self._is_down = True
                self._down_since_s = time.monotonic()

    def crashed(self, name: str, error: Exception) -> None:
        crash = (name, type(error))
        if crash not in self._crashes:
            self._crashes.add(crash)
            logger.error("bug: the store raised while it was to %s", name, exc_info=error)

    def answered(self) -> None:
        if self._is_down:
            self._is_down = False
            logger.warning("storage answers again after %.1f s", time.monotonic() - self._down_since_s)


class _ProtocolError(Exception):
    """A store broke its protocol."""


def _owner(dump: Dump) -> Aor:
    # One inbox cannot be leased twice in a batch; an engine that gave up the first asks again while it waits.
    return dump.owner


def _failures(batch: Iterable[StorageAction], reason: str) -> list[Completion]:
    return [StorageFailed(action.token, reason) for action in batch]
