"""From the event loop that calls a store, asyncio's or trio's, to the thread or loop that does the work, and back.

What is begun there runs to its end whatever becomes of the caller: a caller that is cancelled leaves at once,
and neither loses nor wedges anything by that.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import anyio

__all__ = ["AsyncioHost", "Worker"]

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """A thread that does one thing after another, in the order of the calls."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in the thread; return or raise what it does."""
        done = anyio.Event()
        wake = _waker()
        future = self._executor.submit(function, *args, **kwargs)
        future.add_done_callback(lambda _: wake(done.set))
        await done.wait()
        return future.result()

    def close(self) -> None:
        """End the thread after what it was given before."""
        self._executor.shutdown()


class AsyncioHost:
    """Runs coroutines that need asyncio: in the caller's loop if it is one, else in a loop in a thread of its own.

    Under trio a call is one hop to the thread (``call_soon_threadsafe``) and one back (``run_sync_soon``), some
    70 µs of CPU in all: with a batch to each call that is nothing beside the database.
    """

    def __init__(self) -> None:
        # The loop itself holds its tasks by weak references only.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Begin; to be called from the event loop that the calls will come from."""
        if _in_trio():
            self._loop = asyncio.new_event_loop()
            # A daemon, so that a program that forgets to close the store can still end.
            self._thread = threading.Thread(target=self._loop.run_forever, name="msilo-asyncio", daemon=True)
            self._thread.start()

    async def run(self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``function(*args, **kwargs)`` in asyncio; return or raise what it does."""
        if self._loop is None:
            task = self._begin(function(*args, **kwargs))
            # Unlike the task itself, waiting for it may be cancelled.
            await asyncio.wait((task,))
            return task.result()
        done = anyio.Event()
        wake = _waker()
        begun: list[asyncio.Task[T]] = []

        def begin() -> None:
            begun.append(self._begin(function(*args, **kwargs)))
            begun[0].add_done_callback(lambda _: wake(done.set))

        self._loop.call_soon_threadsafe(begin)
        await done.wait()
        return begun[0].result()

    async def close(self) -> None:
        """End after what is under way, also on behalf of callers that were cancelled; it must end by itself."""
        await self.run(self._idle)
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None

    async def _idle(self) -> None:
        if under_way := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(under_way)

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever waited was told, or was cancelled and does not care: asyncio need not complain.
            task.exception()


def _waker() -> Callable[[Callable[[], None]], None]:
    """Return what calls a function in the running event loop, from any thread."""
    if _in_trio():
        import trio

        call_soon: Callable[[Callable[[], None]], object] = trio.lowlevel.current_trio_token().run_sync_soon
    else:
        call_soon = asyncio.get_running_loop().call_soon_threadsafe

    def wake(function: Callable[[], None]) -> None:
        # The loop may have ended with a caller that was cancelled: nobody is left to be woken.
        with suppress(RuntimeError):
            call_soon(function)

    return wake


def _in_trio() -> bool:
    if "trio" not in sys.modules:
        return False
    import trio

    return trio.lowlevel.in_trio_run()
