"""The way to a thread or another event loop, and back."""

import asyncio
import threading
import time

import anyio
import anyio.to_thread
import pytest

from msilo_storage.bridge import AsyncioHost, Worker


class TestWorker:
    async def test_results_and_errors_come_back(self) -> None:
        worker = Worker("test")
        assert await worker.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await worker.run(divmod, 7, 0)
        worker.close()

    async def test_one_thing_after_another(self) -> None:
        worker = Worker("test")
        threads: list[str] = []
        done: list[int] = []

        def work(n: int) -> None:
            threads.append(threading.current_thread().name)
            time.sleep((5 - n) / 1000)
            done.append(n)

        async def call(n: int) -> None:
            await worker.run(work, n)

        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(call, n)
                await anyio.lowlevel.checkpoint()
        worker.close()
        assert done == [0, 1, 2, 3, 4]
        assert set(threads) == {"test_0"}

    async def test_what_was_begun_is_finished_though_the_caller_left(self) -> None:
        worker = Worker("test")
        begun, proceed, finished = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            proceed.wait(10)
            finished.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run, work)
            await anyio.to_thread.run_sync(begun.wait)
            tasks.cancel_scope.cancel()
        assert not finished.is_set()
        proceed.set()
        worker.close()
        assert finished.is_set()

    def test_the_event_loop_may_end_before_the_work(self, caplog: pytest.LogCaptureFixture) -> None:
        worker = Worker("test")
        proceed = threading.Event()

        async def leave() -> None:
            with anyio.move_on_after(0.01):
                await worker.run(proceed.wait, 10)

        for backend in ("asyncio", "trio"):
            proceed.clear()
            anyio.run(leave, backend=backend)
            proceed.set()
        worker.close()
        assert caplog.records == []


class TestAsyncioHost:
    async def test_results_and_errors_come_back(self) -> None:
        async def divide(a: int, b: int) -> int:
            await asyncio.sleep(0)
            return a // b

        host = AsyncioHost()
        host.open()
        assert await host.run(divide, 7, 2) == 3
        with pytest.raises(ZeroDivisionError):
            await host.run(divide, 7, 0)
        await host.close()

    async def test_asyncio_is_where_it_is_called_or_else_in_a_thread(self, anyio_backend_name: str) -> None:
        async def here() -> threading.Thread:
            await asyncio.sleep(0)
            return threading.current_thread()

        host = AsyncioHost()
        host.open()
        thread = await host.run(here)
        is_same = thread is threading.current_thread()
        assert is_same is (anyio_backend_name == "asyncio")
        await host.close()
        assert is_same or not thread.is_alive()

    async def test_what_was_begun_is_finished_though_the_caller_left(self) -> None:
        begun, finished = threading.Event(), threading.Event()

        async def work() -> None:
            begun.set()
            await asyncio.sleep(0.05)
            finished.set()
            raise RuntimeError("nobody hears this")

        host = AsyncioHost()
        host.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.run, work)
            await anyio.to_thread.run_sync(begun.wait)
            tasks.cancel_scope.cancel()
        assert not finished.is_set()
        await host.close()
        assert finished.is_set()
