"""`msilo serve --workers N`, whose workers can be told apart, and ended as a power failure ends them."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.runners.peer import Peer, Received, Transport
from tests.runners.service import Service
from tests.runners.tables import execute

__all__ = ["Team", "children", "is_running", "sender_of", "until"]


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, oldest first."""
    found: list[int] = []
    # Each of its threads has those that it started.
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in listed.read_text().split()]
    return sorted(found)


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and was not waited for is none."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def until(is_true: Callable[[], object], within_s: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


class Team(Service):
    """A running server of several workers; leaving the context kills all of them.

    Attributes:
        count: how many.
        storage: storage URL.
    """

    def __init__(self, directory: Path, *options: str, storage: str, count: int = 2, config: str = "") -> None:
        self.count = count
        self.storage = storage
        super().__init__(directory, "--workers", str(count), *options, storage=storage, config=config)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        workers = self.pids
        super().__exit__(exc_type, exc, traceback)
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def pids(self) -> list[int]:
        """The processes of the workers, oldest first."""
        return children(self.pid)

    def worker_of(self, peer: Peer) -> int:
        """Let a peer register, and return the number of the worker that its socket leads to."""
        user = f"at{peer.address[1]}"
        registered = peer.exchange(peer.registration(user))
        assert registered.status == 200, registered.raw
        (row,) = execute(self.storage, f"SELECT node FROM silo_location WHERE username = '{user}'")
        return int(str(row["node"]).rpartition(".")[2]) % self.count

    def peer_at(self, worker: int, transport: Transport = "udp") -> Peer:
        """Return a new peer whose socket leads to a worker."""
        for _ in range(64):
            peer = Peer(self.address(transport), transport)
            if self.worker_of(peer) == worker:
                return peer
            peer.__exit__(None, None, None)
        raise AssertionError(f"64 sockets, and none leads to worker {worker}")

    def kill_worker(self, worker: int) -> int:
        """Kill a worker as a power failure does; return what process it was."""
        pid = self.pid_of(worker)
        os.kill(pid, signal.SIGKILL)
        return pid

    def pid_of(self, worker: int) -> int:
        """Return the process of a worker, as its command line tells it; one that is being started is waited for."""
        found: list[int] = []

        def is_found() -> bool:
            lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in self.pids}
            found[:] = [pid for pid, line in lines.items() if b"%d" % worker in line]
            return len(found) == 1

        until(is_found)
        return found[0]


def sender_of(request: Received) -> int:
    """Return which worker sent a request."""
    return int(request.branch.removeprefix("z9hG4bK").partition("-")[0])
