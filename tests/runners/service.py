"""`msilo serve` as a process of its own, started and ended as an operator does it."""

import contextlib
import select
import signal
import subprocess
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.runners.peer import Address, Transport

__all__ = ["MSILO", "Service", "run_msilo"]

MSILO = Path(sysconfig.get_path("scripts")) / "msilo"
"""The console script as it was installed."""

# A cold start on two busy cores takes seconds; a server that is not ready after this never will be.
_READY_S = 30.0


def run_msilo(*arguments: str, stdin: str | None = None, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    """Run one `msilo` command to its end; what it says and its exit status are for the test to judge."""
    return subprocess.run(
        [MSILO, *arguments], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )


class Service:
    """A running server; leaving the context kills it, whatever became of the test.

    Attributes:
        udp: (host, port) of the first UDP socket, from the ``ready:`` line.
        tcp: (host, port) of the first TCP listener.
        ready_line: the line itself.
        log: file with all that the server wrote to stderr, earlier runs in the same directory included.
    """

    def __init__(self, directory: Path, *options: str, storage: str, config: str = "") -> None:
        """Start a server and wait until it is ready.

        Args:
            directory: working directory, for the log and the configuration.
            options: further options of `msilo serve`; without ``--listen`` it gets UDP and TCP on free ports.
            storage: storage URL.
            config: text of a configuration file, or empty for none.

        Raises:
            AssertionError: it ended, or did not become ready; with its log.
        """
        self.log = directory / "msilo.log"
        arguments: list[str | Path] = [MSILO, "serve", "--storage", storage, *options]
        if "--listen" not in options:
            arguments += ["--listen", "udp://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0"]
        if config:
            path = directory / "msilo.toml"
            path.write_text(config)
            arguments += ["--config", path]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                arguments, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        try:
            self.ready_line = self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        addresses = {uri.scheme: (uri.hostname or "", uri.port or 0) for uri in map(urlsplit, self.uris)}
        self.udp = addresses.get("udp", ("", 0))
        self.tcp = addresses.get("tcp", ("", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def uris(self) -> list[str]:
        """The listen URIs of the ``ready:`` line, in order."""
        return self.ready_line.removeprefix("ready:").split()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def address(self, transport: Transport) -> Address:
        """Return (host, port) of the listener of that transport."""
        return self.udp if transport == "udp" else self.tcp

    def log_text(self) -> str:
        """Return what the server wrote to stderr so far."""
        return self.log.read_text(errors="backslashreplace")

    def kill(self) -> None:
        """End it as a power failure does, with no chance to tidy up; one that is gone is left alone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._close()

    def stop(self, within_s: float = 10) -> int:
        """End it with SIGTERM and return its exit status.

        Raises:
            subprocess.TimeoutExpired: it did not end `within_s`.
        """
        self._process.send_signal(signal.SIGTERM)
        return self.wait(within_s)

    def wait(self, within_s: float = 15) -> int:
        """Wait until it has ended, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: it did not `within_s`.
        """
        status = self._process.wait(within_s)
        self._close()
        return status

    def _wait_until_ready(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        readable, _, _ = select.select([stdout], [], [], _READY_S)
        line = stdout.readline().decode() if readable else ""
        assert line.startswith("ready: "), f"not ready, said {line!r}\n{self.log_text()}"
        return line.rstrip("\n")

    def _close(self) -> None:
        if self._process.stdout is not None:
            self._process.stdout.close()
