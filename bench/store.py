"""How many MESSAGEs for people who are away a server stores in a second, and what one costs."""

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
import msgspec

from bench import load
from bench.server_process import Begun, Ended
from msilo_core.limits import Limits

__all__ = ["store"]

_TEMPORARY: Final = "sqlite:///:temporary:"

# What the action is called that stores a message, in the server's counts of batches.
_STORE: Final = "Store"


class _Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What one run is about; the fields are options of the command."""

    backend: str
    storage: str
    target: str | None
    count: int
    window: int
    users: int
    body_bytes: int
    batch_limit: int


class _Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run showed.

    Attributes:
        rate_per_s: answers in a second.
        p50_ms, p90_ms, p99_ms, max_ms: from request to final answer.
        stored: answers with 202; any other is in `count` less this.
        resent: requests that had to be sent again.
        server_cpu_us: CPU time of the server for each message; None of a server that was running already. A
            database server has its own on top.
        generator_cpu_us: CPU time of the sender for each message.
        batch_mean, batch_max: messages in one statement of the store.
    """

    rate_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    stored: int
    resent: int
    server_cpu_us: float | None
    generator_cpu_us: float
    batch_mean: float | None
    batch_max: int | None


@click.command()
@click.option("--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True)
@click.option(
    "--storage",
    metavar="URL",
    default=_TEMPORARY,
    show_default=True,
    help="Rows stay where it is a database of yours: give an empty one.",
)
@click.option(
    "--target", metavar="URI", help="A server that is running, such as udp://127.0.0.1:5060, instead of one of our own."
)
@click.option("--count", type=click.IntRange(min=1), default=20_000, show_default=True, help="MESSAGEs in all.")
@click.option(
    "--window", type=click.IntRange(min=1), default=256, show_default=True, help="MESSAGEs under way at once."
)
@click.option("--users", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="Recipients.")
@click.option(
    "--body-bytes", type=click.IntRange(0, 60_000), default=80, show_default=True, help="Length of each body."
)
@click.option(
    "--batch-limit",
    type=click.IntRange(min=1),
    default=Limits().batch_max,
    show_default=True,
    help="Most messages in one statement of the store (limits.batch_max).",
)
@click.option(
    "--compare-batch-limit",
    metavar="N",
    type=click.IntRange(min=1),
    help="Run in turn with --batch-limit and with this one, and print the ratio of the rates.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="Rounds of a comparison.")
def store(
    backend: str,
    storage: str,
    target: str | None,
    count: int,
    window: int,
    users: int,
    body_bytes: int,
    batch_limit: int,
    compare_batch_limit: int | None,
    rounds: int,
) -> None:
    """Send MESSAGEs over UDP in a closed loop to users who are not registered, and wait for each 202."""
    setting = _Setting(
        backend=backend, storage=storage, target=target, count=count, window=window, users=users,
        body_bytes=body_bytes, batch_limit=batch_limit,
    )  # fmt: skip
    if compare_batch_limit is None:
        _print({"benchmark": "store", **msgspec.to_builtins(setting), **msgspec.to_builtins(_measure(setting))})
        return
    if target is not None:
        raise click.UsageError("--compare-batch-limit needs a server of its own: leave --target out")
    other = msgspec.structs.replace(setting, batch_limit=compare_batch_limit)
    # In turn, so that what else the machine does hits both alike.
    pairs = [(_measure(setting), _measure(other)) for _ in range(rounds)]
    ratios = [round(one.rate_per_s / another.rate_per_s, 2) for one, another in pairs]
    _print(
        {
            "benchmark": "store",
            **msgspec.to_builtins(setting),
            "compare_batch_limit": compare_batch_limit,
            "rounds": [msgspec.to_builtins(pair) for pair in pairs],
            "rate_ratios": ratios,
            "rate_ratio": round(statistics.median(ratios), 2),
        }
    )


def _measure(setting: _Setting) -> _Figures:
    """Run it once, on a server of its own or on the one that is given."""
    if setting.target is not None:
        where = urlsplit(setting.target)
        if where.scheme != "udp" or not where.hostname or not where.port:
            raise click.BadParameter(f"{setting.target}: give udp://HOST:PORT", param_hint="--target")
        return _figures(setting, _load(setting, (where.hostname, where.port)), None)
    with _serving(setting) as server:
        where = urlsplit(server.begun.addresses[0])
        result = _load(setting, (where.hostname or "", where.port or 0))
        return _figures(setting, result, server.end())


def _load(setting: _Setting, target: load.Address) -> load.LoadResult:
    wanted = load.Load(
        target=target,
        count=setting.count,
        window=setting.window,
        users=setting.users,
        body_bytes=setting.body_bytes,
    )
    with click.progressbar(length=setting.count, label=f"batch limit {setting.batch_limit}", file=sys.stderr) as bar:
        try:
            return load.run(wanted, bar.update)
        except TimeoutError as error:
            raise click.ClickException(str(error)) from None


def _figures(setting: _Setting, result: load.LoadResult, ended: Ended | None) -> _Figures:
    latencies = result.latencies_ms
    batching = ended.batches[_STORE] if ended is not None else None

    def percentile(percent: int) -> float:
        return round(latencies[min(len(latencies) * percent // 100, len(latencies) - 1)], 3)

    return _Figures(
        rate_per_s=round(setting.count / result.elapsed_s, 1),
        p50_ms=percentile(50),
        p90_ms=percentile(90),
        p99_ms=percentile(99),
        max_ms=percentile(100),
        stored=result.statuses.get(202, 0),
        resent=result.resent,
        server_cpu_us=None if ended is None else round(ended.cpu_s / setting.count * 1e6, 1),
        generator_cpu_us=round(result.cpu_s / setting.count * 1e6, 1),
        batch_mean=None if batching is None else round(batching.rows / batching.count, 1),
        batch_max=None if batching is None else batching.rows_max,
    )


class _ServerProcess:
    """A server that is running in a child."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.begun = msgspec.json.decode(self._line(), type=Begun)

    def end(self) -> Ended:
        """End it, and return what it did."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return msgspec.json.decode(self._line(), type=Ended)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException("the server ended; what it says is above")
        return line


@contextlib.contextmanager
def _serving(setting: _Setting) -> Generator[_ServerProcess, None, None]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        settings = Path(directory) / "msilo.toml"
        storage = setting.storage.replace(_TEMPORARY, f"sqlite:///{directory}/msilo.db")
        settings.write_text(
            f'[server]\nlisten = ["udp://127.0.0.1:0"]\nbackend = "{setting.backend}"\n'
            f'[storage]\nurl = "{storage}"\n'
            f"[limits]\nbatch_max = {setting.batch_limit}\n"
        )
        with subprocess.Popen(
            [sys.executable, "-m", "bench.server_process", settings],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                yield _ServerProcess(process)
            finally:
                process.kill()


def _print(line: dict[str, object]) -> None:
    click.echo(msgspec.json.encode(line).decode())
