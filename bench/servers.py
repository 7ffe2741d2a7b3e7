"""Servers under test: ours in a process of its own, or one that is running already."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import click
import msgspec

from bench import database, usage
from bench.server_process import Batching, Begun, Ended
from bench.setting import Setting, target_address
from bench.wire import Address, TransportName

__all__ = ["OpenServer", "Server", "UdpProcess", "ours", "running"]


class Server(Protocol):
    """A server that takes requests.

    Attributes:
        transport, address: where.
    """

    @property
    def transport(self) -> TransportName: ...

    @property
    def address(self) -> Address: ...

    def cpu_s(self) -> float | None:
        """Return its CPU time so far; None of one that cannot be looked at."""
        ...

    def memory_mb(self) -> float | None:
        """Return its memory; None as above."""
        ...

    def end(self) -> dict[str, Batching] | None:
        """End it, and return how it batched storage actions, by the kinds of them; None of one that does not say."""
        ...


class OpenServer(Protocol):
    """How a server is come by: a context manager."""

    def __call__(self, setting: Setting, /) -> contextlib.AbstractContextManager[Server]: ...


class UdpProcess:
    """A server in a process of which no more is known than where it is.

    Args:
        pid: its number.
        address: of its socket.
    """

    def __init__(self, pid: int, address: Address) -> None:
        self._pid = pid
        self.transport: TransportName = "udp"
        self.address = address

    def cpu_s(self) -> float | None:
        """See :class:`Server`."""
        return usage.cpu_s(self._pid)

    def memory_mb(self) -> float | None:
        """See :class:`Server`."""
        return usage.memory_mb(self._pid)

    def end(self) -> None:
        """It says nothing."""


@contextlib.contextmanager
def ours(setting: Setting) -> Generator[Server]:
    """Our server in a child, on the storage of the setting."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        database.opened(setting.storage, Path(directory)) as storage,
    ):
        path = Path(directory) / "msilo.toml"
        path.write_text(
            f'[server]\nlisten = ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]\nbackend = "{setting.backend}"\n'
            f'[storage]\nurl = "{storage}"\n'
            f"[limits]\nbatch_max = {setting.batch_limit}\n"
            # Nothing before the bodies, as with the Kamailio that it is compared with.
            "[msilo]\nadd_date = 0\n"
        )
        with subprocess.Popen(
            [sys.executable, "-m", "bench.server_process", path, str(setting.workers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                yield _Ours(process, setting.transport, says_batches=setting.workers == 1)
            finally:
                process.kill()


@contextlib.contextmanager
def running(setting: Setting) -> Generator[Server]:
    """The server that the setting names."""
    assert setting.target is not None
    yield _Running(*target_address(setting.target))


class _Ours:
    def __init__(self, process: subprocess.Popen[str], transport: TransportName, *, says_batches: bool) -> None:
        self._process = process
        self._says_batches = says_batches
        begun = msgspec.json.decode(self._line(), type=Begun)
        self.transport: TransportName = transport
        where = next(parts for parts in map(urlsplit, begun.addresses) if parts.scheme == transport)
        self.address: Address = (where.hostname or "", where.port or 0)

    def cpu_s(self) -> float | None:
        return usage.cpu_s(self._process.pid)

    def memory_mb(self) -> float | None:
        return usage.memory_mb(self._process.pid)

    def end(self) -> dict[str, Batching] | None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self._says_batches:
            self._process.wait()
            return None
        return msgspec.json.decode(self._line(), type=Ended).batches

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException("the server ended; what it says is above")
        return line


class _Running:
    def __init__(self, transport: TransportName, address: Address) -> None:
        self.transport: TransportName = transport
        self.address = address

    def cpu_s(self) -> None:
        return None

    def memory_mb(self) -> None:
        return None

    def end(self) -> None:
        return None
