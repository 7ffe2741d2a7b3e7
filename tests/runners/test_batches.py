"""Storage actions in batches: their size, their order, and one completion for each whatever the store does."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from msilo_core.actions import (
    Bind,
    Completion,
    Dump,
    Dumped,
    Expire,
    FindUser,
    LookUp,
    Message,
    Outcome,
    Refused,
    Remind,
    Renew,
    Retry,
    Settle,
    StorageAction,
    StorageFailed,
    Store,
    Stored,
    Unbind,
)
from msilo_core.errors import Unavailable
from msilo_core.uri import Aor
from msilo_runners import logs
from msilo_runners.batches import BatchCounts, Batches
from msilo_storage.memory import MemoryStorage

BOB = Aor("bob", "example.com")
CAROL = Aor("carol", "example.com")


class GatedStorage(MemoryStorage):
    """A store whose disk can be slow, down, or in the hands of a bug."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []
        self.gate: anyio.Event | None = None
        self.error: Exception | None = None
        self.lost_completions = 0

    async def append(self, stores: Sequence[Store]) -> list[Stored | Refused | StorageFailed]:
        self.batches.append([store.token for store in stores])
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        completions = await super().append(stores)
        return completions[: len(completions) - self.lost_completions]

    async def dump(self, dumps: Sequence[Dump]) -> list[Dumped | StorageFailed]:
        self.batches.append([dump.token for dump in dumps])
        return await super().dump(dumps)


class Running:
    """Batches at work, and what they completed."""

    def __init__(self, batches: Batches, completed: list[Completion]) -> None:
        self.batches = batches
        self.completed = completed

    def put(self, *actions: StorageAction) -> None:
        for action in actions:
            self.batches.put(action)

    async def until_completed(self, count: int) -> None:
        with anyio.fail_after(5):
            while len(self.completed) < count:  # noqa: ASYNC110
                await anyio.sleep(0.001)

    @property
    def tokens(self) -> list[int]:
        return [completion.token for completion in self.completed]


@asynccontextmanager
async def running(store: MemoryStorage, *, rows_max: int = 512) -> AsyncGenerator[Running]:
    completed: list[Completion] = []
    batches = Batches(store, store, completed.extend, rows_max=rows_max)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batches.run)
        yield Running(batches, completed)
        tasks.cancel_scope.cancel()


def store_action(token: int, owner: Aor = BOB) -> Store:
    message = Message(
        owner=owner,
        src_addr="sip:alice@example.com",
        dst_addr=str(owner),
        inc_time_s=1,
        exp_time_s=10,
        callid=str(token),
    )
    return Store(token, message)


def dump_action(token: int, owner: Aor = BOB) -> Dump:
    return Dump(token, owner, messages_max=10, lease="a", now_ms=2_000, lease_ms=7_000)


async def test_each_kind_of_action_reaches_the_store_and_is_completed() -> None:
    async with running(MemoryStorage()) as work:
        work.put(store_action(1))
        await work.until_completed(1)
        work.put(dump_action(2))
        await work.until_completed(2)
        work.put(
            Settle(3, BOB, 1, "a", Outcome.DELIVERED),
            LookUp(4, BOB, 2),
            Bind(5, BOB, 2, "call", 1),
            Expire(6, 2_000),
            Remind(8, 2, "one", 10, 90),
            FindUser(7, BOB),
            Renew(9, BOB, (1,), "a", 1_000),
            Retry(10, 2, "a", 10, 30),
            Unbind(11, BOB, "sip:bob@192.0.2.1", 0),
        )
        await work.until_completed(11)
        assert sorted(work.tokens) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
        assert not [done for done in work.completed if isinstance(done, StorageFailed)]
        assert set(work.batches.counts) == {
            "LookUp", "FindUser", "Bind", "Unbind", "Store", "Dump", "Renew", "Settle", "Expire", "Remind", "Retry",
        }  # fmt: skip
        assert list(work.batches.counts.values()) == [BatchCounts(1, 1, 1)] * 11


async def test_what_comes_during_a_commit_is_one_batch_in_order_and_no_larger_than_the_limit() -> None:
    store = GatedStorage()
    store.gate = anyio.Event()
    async with running(store, rows_max=4) as work:
        work.put(store_action(1))
        await anyio.wait_all_tasks_blocked()
        work.put(*map(store_action, range(2, 8)))
        # Other kinds do not wait for it.
        work.put(LookUp(100, BOB, 2))
        await work.until_completed(1)
        assert work.tokens == [100]
        store.gate.set()
        await work.until_completed(8)
        assert store.batches == [[1], [2, 3, 4, 5], [6, 7]]
        assert work.tokens == [100, 1, 2, 3, 4, 5, 6, 7]
        assert work.batches.counts["Store"] == BatchCounts(count=3, rows=7, rows_max=4)
        assert [message.callid for message in await store.list()] == list("1234567")


async def test_one_inbox_is_dumped_once_in_a_batch() -> None:
    store = GatedStorage()
    async with running(store) as work:
        work.put(dump_action(1), dump_action(2, CAROL), dump_action(3), dump_action(4, CAROL))
        await work.until_completed(4)
        assert store.batches == [[1, 2], [3, 4]]


async def test_a_store_that_fails_fails_each_action_once_and_is_complained_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    store = GatedStorage()
    async with running(store) as work:
        store.error = Unavailable("the database does not answer")
        for first in (1, 3, 5):
            work.put(store_action(first), store_action(first + 1))
            await work.until_completed(first + 1)
        reason = "the database does not answer"
        assert work.completed == [StorageFailed(token, reason) for token in range(1, 7)]
        store.error = None
        work.put(store_action(7), store_action(8))
        await work.until_completed(8)
        assert work.tokens == list(range(1, 9))
        down, up = [record.message for record in caplog.records]
        assert down == "storage failed to store: the database does not answer"
        assert up.startswith("storage answers again after 0.")

        # The next outage is told again, but not before the interval is over.
        store.error = Unavailable("again")
        work.put(store_action(9))
        await work.until_completed(9)
        assert len(caplog.records) == 2
        monkeypatch.setattr(logs, "COMPLAINT_INTERVAL_S", 0.0)
        work.put(store_action(10))
        await work.until_completed(10)
        assert caplog.records[-1].message == "storage failed to store: again"


async def test_a_bug_of_a_store_fails_the_batch_and_leaves_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    store = GatedStorage()
    async with running(store) as work:
        store.error = ZeroDivisionError("bug")
        for token in (1, 2):
            work.put(store_action(token))
            await work.until_completed(token)
        store.error = None
        work.put(store_action(3))
        await work.until_completed(3)
        assert work.completed == [
            StorageFailed(1, "ZeroDivisionError in the store"),
            StorageFailed(2, "ZeroDivisionError in the store"),
            Stored(3, 1),
        ]
        (record,) = caplog.records
        assert record.message == "bug: the store raised while it was to store"
        assert record.exc_info is not None


async def test_a_store_that_answers_too_few_has_failed_all(caplog: pytest.LogCaptureFixture) -> None:
    store = GatedStorage()
    store.lost_completions = 1
    async with running(store) as work:
        work.put(store_action(1), store_action(2))
        await work.until_completed(2)
        assert work.tokens == [1, 2]
        assert all(isinstance(done, StorageFailed) for done in work.completed)
    assert len(caplog.records) == 1


async def test_the_end_completes_what_is_under_way_and_what_waits() -> None:
    store = GatedStorage()
    store.gate = anyio.Event()
    async with running(store) as work:
        work.put(store_action(1))
        await anyio.wait_all_tasks_blocked()
        work.put(store_action(2))
    assert work.completed == [StorageFailed(1, "the server ends"), StorageFailed(2, "the server ends")]


async def test_what_was_completed_is_not_completed_again_at_the_end() -> None:
    async with running(MemoryStorage()) as work:
        work.put(store_action(1))
        await work.until_completed(1)
    assert work.tokens == [1]
