"""The parent of the workers of ``msilo serve --workers N``: it opens the sockets, and starts again who dies.

Each worker is a whole server in a process of its own (:mod:`msilo_runners.worker`), with its own connections to the
store. The parent serves nobody itself, so that there is little that could end it; and if it dies, they end.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, assert_never

import anyio
import msgspec
from anyio.abc import Process, TaskGroup, TaskStatus

from msilo_runners.addresses import parse_transport_address
from msilo_runners.errors import SettingsError, StartError
from msilo_runners.seats import Answer, Idle, Orders, Ready, Refused, Seats
from msilo_runners.server import check, new_node
from msilo_runners.settings import Backend, ServerConfig

__all__ = ["Workers"]

logger = logging.getLogger(__name__)

PAUSE_MIN_S: Final = 0.5
PAUSE_MAX_S: Final = 4.0
"""Before a worker is started again that died young, the pause doubles from the one to the other. Nobody else serves its
phones meanwhile, which send again for 32 s."""

YOUNG_S: Final = 10.0
"""A worker that lived for so long is started again at once."""

KILL_S: Final = 4.0
"""Time beyond the grace until workers are killed: what they take to abandon deliveries and close the store, and some
more."""

LAST_WORDS_S: Final = 1.0
"""Time to read what a worker said before it ended."""

ANSWER_BYTES_MAX: Final = 65_536


class Workers:
    """So many workers on the same addresses and the same store.

    Args:
        config: what each serves.
        count: how many.
        backend: the event loop of each.

    Raises:
        SettingsError: nobody should serve with these settings, or not several workers.
    """

    def __init__(self, config: ServerConfig, count: int, backend: Backend) -> None:
        check(config)
        if config.storage == "memory:":
            raise SettingsError(
                f"--workers {count}: each would have a memory: of its own: give --storage sqlite:///FILE or "
                "postgresql://…, or leave --workers out"
            )
        self._config = config
        self._count = count
        self._backend: Backend = backend
        self._seats = Seats(new_node(), count)
        self._processes: dict[int, Process] = {}
        self._streams: dict[int, socket.socket] = {}
        self._idle: set[int] = set()
        self._ending = anyio.Event()
        self._ended = anyio.Event()
        self._kept = 0
        self._killed_by: int | None = None

    async def run(self, ready: Callable[[list[str]], object]) -> None:
        """Serve until SIGTERM or SIGINT asks for the end, and then until all workers have ended.

        Args:
            ready: told the listen URIs when all serve.

        Raises:
            StartError: an address is taken or cannot be shared, or a worker cannot start for the first time.
        """
        with self._seats:
            self._seats.open([parse_transport_address(text) for text in self._config.listen])
            async with anyio.create_task_group() as tasks:
                await self._start_all(tasks)
                with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    ready([str(where) for where in self._seats.addresses])
                    await anext(signals)
                    await self._end(signals)
        if self._killed_by is not None:
            signal.signal(self._killed_by, signal.SIG_DFL)
            os.kill(os.getpid(), self._killed_by)

    async def _start_all(self, tasks: TaskGroup) -> None:
        # What is wrong for one is so for all, and is said once; and one makes the file of SQLite.
        await tasks.start(self._keep, 0)
        failures: list[StartError] = []

        async def start(number: int, scope: anyio.CancelScope) -> None:
            try:
                await tasks.start(self._keep, number)
            except StartError as error:
                failures.append(error)
                scope.cancel()

        async with anyio.create_task_group() as starting:
            for number in range(1, self._count):
                starting.start_soon(start, number, starting.cancel_scope)
        if failures:
            raise failures[0]

    async def _keep(self, number: int, *, task_status: TaskStatus[None]) -> None:
        """Start a worker, and again whenever it has died, until the end."""
        self._kept += 1
        is_known = False

        def note_ready() -> None:
            nonlocal is_known
            if not is_known:
                is_known = True
                task_status.started()

        pause_s = 0.0
        try:
            while not self._ending.is_set():
                began_s = anyio.current_time()
                ended = await self._live(number, note_ready)
                if self._ending.is_set():
                    break
                why = ended.text if isinstance(ended, Refused) else ended
                if not is_known:
                    raise StartError(why if isinstance(ended, Refused) else f"worker {number} {why} before it served")
                is_young = anyio.current_time() - began_s < YOUNG_S
                pause_s = min(max(2 * pause_s, PAUSE_MIN_S), PAUSE_MAX_S) if is_young else 0.0
                logger.error("worker %d: %s: it is started again in %g s", number, why, pause_s)
                with anyio.move_on_after(pause_s):
                    await self._ending.wait()
        finally:
            self._kept -= 1
            if not self._kept:
                self._ended.set()

    async def _live(self, number: int, note_ready: Callable[[], None]) -> str | Refused:
        """Start a worker and wait until it has ended; return how it did, or what it said that it cannot start for."""
        place = self._seats.place(number)
        ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs:
                    process = await anyio.open_process(
                        # -P: what lies where the server was started is nobody's module.
                        [sys.executable, "-P", "-m", "msilo_runners.worker", str(number), str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=None,
                        stderr=None,
                        pass_fds=[theirs.fileno(), *place.descriptors],
                    )
            except OSError as error:
                return Refused(f"cannot start a process: {error.strerror}")
            async with process:
                self._processes[number], self._streams[number] = process, ours
                if self._ending.is_set():
                    process.terminate()
                # A socket takes some kilobytes at once. A process that is gone already is found out below.
                with contextlib.suppress(OSError):
                    ours.sendall(msgspec.json.encode(Orders(place, self._config, self._backend)) + b"\n")
                ours.setblocking(False)
                refusals: list[Refused] = []
                status = 0
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._listen, number, ours, note_ready, refusals.append)
                    status = await process.wait()
                    # What it said last is there; only what it has started itself may still hold its end of the stream.
                    tasks.cancel_scope.deadline = anyio.current_time() + LAST_WORDS_S
                del self._processes[number], self._streams[number]
                self._idle.discard(number)
                self._let_go()
        return refusals[0] if refusals else _ended_with(status)

    async def _listen(
        self,
        number: int,
        stream: socket.socket,
        note_ready: Callable[[], None],
        note_refusal: Callable[[Refused], None],
    ) -> None:
        """Take note of what a worker says, until it ends."""
        async for answer in _answers(stream):
            match answer:
                case Ready():
                    note_ready()
                case Refused():
                    note_refusal(answer)
                case Idle():
                    self._idle.add(number)
                    self._let_go()
                case _:
                    assert_never(answer)

    def _let_go(self) -> None:
        """Let workers go that nobody needs: at the end all together, for each may have what is for another."""
        if self._ending.is_set() and self._idle != self._streams.keys():
            return
        for number in self._idle:
            with contextlib.suppress(OSError):
                self._streams[number].shutdown(socket.SHUT_WR)

    async def _end(self, signals: AsyncIterator[int]) -> None:
        self._ending.set()
        self._signal(signal.SIGTERM)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._kill_when_asked, signals)
            tasks.start_soon(self._kill_when_late)
            await self._ended.wait()
            tasks.cancel_scope.cancel()

    async def _kill_when_asked(self, signals: AsyncIterator[int]) -> None:
        # A second signal is for an operator who does not want to wait.
        self._killed_by = await anext(signals)
        self._signal(signal.SIGKILL)

    async def _kill_when_late(self) -> None:
        wait_s = self._config.grace_s + KILL_S
        await anyio.sleep(wait_s)
        logger.warning("workers that have not ended after %g s are killed", wait_s)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


async def _answers(stream: socket.socket) -> AsyncGenerator[Answer]:
    """Yield what a worker says, until it has ended."""
    buffer = b""
    with contextlib.suppress(ConnectionError):
        while True:
            await anyio.wait_readable(stream)
            data = stream.recv(ANSWER_BYTES_MAX)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                yield msgspec.json.decode(line, type=Answer)


def _ended_with(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
