"""A server in a process of its own, so that its CPU time is its own: ``python -m bench.server_process FILE WORKERS``.

It says where it listens in one JSON line on stdout, serves until its stdin ends, and says what it did in a second
line. Ending with stdin leaves no orphan behind, whatever becomes of the parent.
"""

import os
import signal
import sys
import time
from pathlib import Path

import anyio.to_thread
import msgspec

from msilo_core import SipError
from msilo_runners import Server, ServerConfig
from msilo_runners.loop import run
from msilo_runners.settings import read_settings
from msilo_runners.workers import Workers

__all__ = ["Batching", "Begun", "Ended"]


class Begun(msgspec.Struct, frozen=True):
    """The first line: listen URIs."""

    addresses: list[str]


class Batching(msgspec.Struct, frozen=True):
    """How one kind of storage action was batched: batches, actions in all of them, actions in the largest."""

    count: int
    rows: int
    rows_max: int


class Ended(msgspec.Struct, frozen=True):
    """The second line, of a server that is one process.

    Attributes:
        cpu_s: CPU time since the first line, of all threads, the kernel's part included.
        stored_messages: as the engine counted them.
        batches: how each kind of storage action was batched, by its name.
    """

    cpu_s: float
    stored_messages: int
    batches: dict[str, Batching]


def main() -> None:
    """Serve as the settings file says that is the first argument, in as many processes as the second says."""
    settings = read_settings(Path(sys.argv[1]))
    workers = int(sys.argv[2])
    try:
        if workers > 1:
            run(_serve_together, Workers(settings.server, workers, settings.backend), backend=settings.backend)
        else:
            run(_serve, settings.server, backend=settings.backend)
    except SipError as error:
        sys.exit(str(error))


async def _serve(config: ServerConfig) -> None:
    async with Server(config) as server:
        _say(Begun(server.addresses))
        began_s = time.process_time()
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        cpu_s = time.process_time() - began_s
        counts = server.batches.items()
        batches = {kind: Batching(batched.count, batched.rows, batched.rows_max) for kind, batched in counts}
        _say(Ended(cpu_s, server.statistics.stored_messages, batches))


async def _serve_together(workers: Workers) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run, _say_begun)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        # As an operator ends them.
        os.kill(os.getpid(), signal.SIGTERM)


def _say_begun(addresses: list[str]) -> None:
    _say(Begun(addresses))


def _say(line: Begun | Ended) -> None:
    print(msgspec.json.encode(line).decode(), flush=True)


if __name__ == "__main__":
    main()
