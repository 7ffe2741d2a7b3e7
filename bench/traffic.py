"""Loads on a whole server, and what they showed: ``store``, ``register``, ``deliver``, ``mixed``."""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
import msgspec

from bench import plots, spread
from bench.load import Kind, LoadResult
from bench.servers import OpenServer, Server, ours, running
from bench.setting import Setting, count_option, setting_options, target_address
from bench.spread import Traffic
from msilo_storage.urls import redact

__all__ = [
    "Figures",
    "check_stored",
    "deliver",
    "measure_delivery",
    "measure_loop",
    "mixed",
    "print_line",
    "register",
    "run_load",
    "store",
]

Figures: TypeAlias = dict[str, Any]
"""What one run showed, as its JSON line has it: see the README."""

_WINDOWS: Final = (1, 4, 16, 64, 256, 1_024)
_BATCH_LIMITS: Final = (1, 8, 32, 128, 512)

_plot_option: Final = click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help=f"Run with windows of {', '.join(map(str, _WINDOWS))} instead, then with batches of at most "
    f"{', '.join(map(str, _BATCH_LIMITS))}, a line each, and draw rate over window, latency over load and rate over "
    "batch size into this PNG. Needs matplotlib.",
)


@click.command(short_help="MESSAGEs to users who are away.")
@count_option(20_000, "MESSAGEs in all.")
@setting_options(users=1_000, body_bytes_min=0)
@click.option(
    "--compare-batch-limit",
    metavar="N",
    type=click.IntRange(min=1),
    help="Run in turn with --batch-limit and with this one, and print the ratio of the rates.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="Rounds of a comparison.")
@_plot_option
def store(compare_batch_limit: int | None, rounds: int, plot: Path | None, **options: object) -> None:
    """Send MESSAGEs in a closed loop to users who are not registered, and wait for each 202."""
    setting = msgspec.convert(options, Setting)
    if compare_batch_limit is None:
        _run_loop("store", setting, plot)
        return
    if setting.target is not None:
        raise click.UsageError("--compare-batch-limit needs a server of its own: leave --target out")
    other = msgspec.structs.replace(setting, batch_limit=compare_batch_limit)
    # In turn, so that what else the machine does hits both alike.
    pairs = [(measure_loop("store", setting, ours), measure_loop("store", other, ours)) for _ in range(rounds)]
    ratios = [round(one["rate_per_s"] / another["rate_per_s"], 2) for one, another in pairs]
    compared = {"rounds": pairs, "rate_ratios": ratios, "rate_ratio": round(statistics.median(ratios), 2)}
    print_line("store", setting, {"compare_batch_limit": compare_batch_limit, **compared})


@click.command(short_help="REGISTERs of users for whom nothing waits.")
@count_option(20_000, "REGISTERs in all.")
@setting_options(users=10_000)
@_plot_option
def register(plot: Path | None, **options: object) -> None:
    """Send REGISTERs in a closed loop, of users for whom nothing waits, and wait for each 200."""
    _run_loop("register", msgspec.convert(options, Setting), plot)


@click.command(short_help="MESSAGEs, REGISTERs, and users who come back.")
@count_option(20_000, "MESSAGEs, REGISTERs and returns in all.")
@setting_options(users=10_000)
@_plot_option
def mixed(plot: Path | None, **options: object) -> None:
    """Of ten steps six are MESSAGEs to somebody who is away, three REGISTERs of others, for whom nothing waits, and in
    one somebody registers for whom six messages wait, and gets them.
    """
    _run_loop("mixed", msgspec.convert(options, Setting), plot)


@click.command(short_help="Users come back, and get what waits for them.")
@count_option(10_000, "MESSAGEs in all.")
@setting_options(users=1_000)
def deliver(**options: object) -> None:
    """Store MESSAGEs, the same number for each user; then let all users register at once, and take what waits.

    The rate is of messages, from the first REGISTER to the last message.
    """
    setting = msgspec.convert(options, Setting)
    print_line("deliver", setting, measure_delivery(setting, _server_of(setting)))


def measure_loop(kind: Kind, setting: Setting, open_server: OpenServer, label: str = "") -> Figures:
    """Run a closed loop once."""
    with open_server(setting) as server:
        cpu_s = server.cpu_s()
        result = run_load(kind, setting, server, spread.new_run(), label or kind)
        return {
            "rate_per_s": round(sum(result.statuses.values()) / _elapsed_s(result), 1),
            **_latencies(result),
            **(_deliveries(result) if kind == "mixed" else {}),
            **_usage(result, server, cpu_s),
        }


def measure_delivery(setting: Setting, open_server: OpenServer, label: str = "") -> Figures:
    """Store, and deliver what was stored, once."""
    label = label or "deliver"
    run = spread.new_run()
    with open_server(setting) as server:
        stored = run_load("ordered store", setting, server, run, f"{label}: store")
        check_stored(stored)
        cpu_s = server.cpu_s()
        result = run_load("deliver", setting, server, run, label, phase=1)
        elapsed_s = _elapsed_s(result)
        return {
            "rate_per_s": round(result.delivered / elapsed_s, 1),
            "elapsed_s": round(elapsed_s, 3),
            "store_rate_per_s": round(setting.count / _elapsed_s(stored), 1),
            **_latencies(result),
            **_deliveries(result),
            **_usage(result, server, cpu_s),
        }


def check_stored(result: LoadResult) -> None:
    """Raise a :class:`click.ClickException` where a message was not stored that is to be delivered."""
    not_stored = sum(count for status, count in result.statuses.items() if status != 202)
    if not_stored:
        raise click.ClickException(f"{not_stored} messages were not stored: {result.statuses}")


def print_line(benchmark: str, setting: Setting, figures: Mapping[str, object]) -> None:
    """Print the line of a run, which others may be shown: without a password of the database."""
    options = {**msgspec.to_builtins(setting), "storage": redact(setting.storage)}
    click.echo(msgspec.json.encode({"benchmark": benchmark, **options, **figures}).decode())


def _run_loop(kind: Kind, setting: Setting, plot: Path | None) -> None:
    open_server = _server_of(setting)
    if plot is None:
        print_line(kind, setting, measure_loop(kind, setting, open_server))
        return
    plots.require(plot)

    def measured(settings: Sequence[Setting], label: Callable[[Setting], str]) -> list[Figures]:
        lines: list[Figures] = []
        for one in settings:
            lines.append(measure_loop(kind, one, open_server, label(one)))
            print_line(kind, one, lines[-1])
        return lines

    by_window = measured(
        [msgspec.structs.replace(setting, window=window) for window in _WINDOWS], lambda one: f"window {one.window}"
    )
    by_batch: list[Figures] = []
    if setting.target is None:
        by_batch = measured(
            [msgspec.structs.replace(setting, batch_limit=limit) for limit in _BATCH_LIMITS],
            lambda one: f"batch limit {one.batch_limit}",
        )
    plots.draw_loop(plot, kind, list(zip(_WINDOWS, by_window, strict=True)), by_batch)


def _server_of(setting: Setting) -> OpenServer:
    if setting.target is None:
        return ours
    target_address(setting.target)
    return running


def run_load(
    kind: Kind,
    setting: Setting,
    server: Server,
    run: str,
    label: str,
    *,
    phase: int = 0,
    watch: Callable[[], object] = lambda: None,
) -> LoadResult:
    """Put a load on a server.

    Args:
        run: from :func:`bench.spread.new_run`: whose users they are.
        label: of the progress bar.
        phase: see :class:`bench.load.Load`.
        watch: called some times a second meanwhile.

    Raises:
        click.ClickException: the server is not there, or says nothing any more.
    """

    def progress(more: int) -> None:
        bar.update(more)
        watch()

    traffic = Traffic(
        kind=kind, target=server.address, transport=server.transport, run=run, domain=setting.domain, phase=phase,
        count=setting.count, window=setting.window, users=setting.users, body_bytes=setting.body_bytes,
        processes=setting.processes,
    )  # fmt: skip
    with click.progressbar(length=setting.count, label=label, file=sys.stderr) as bar:
        return spread.run(traffic, progress)


def _elapsed_s(result: LoadResult) -> float:
    return (result.ended_ns - result.began_ns) / 1e9


def _latencies(result: LoadResult) -> Figures:
    """Return the percentiles of all, and where there are several kinds of each."""
    figures: Figures = _percentiles(sorted(value for values in result.latencies_ms.values() for value in values))
    if len(result.latencies_ms) > 1:
        figures |= {series: _percentiles(values) for series, values in result.latencies_ms.items()}
    return figures


def _percentiles(ascending_ms: Sequence[float]) -> Figures:
    last = len(ascending_ms) - 1
    named = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "max_ms": 100}
    return {name: round(ascending_ms[min(len(ascending_ms) * of // 100, last)], 3) for name, of in named.items()}


def _deliveries(result: LoadResult) -> Figures:
    names = ("delivered", "out_of_place", "repeated", "refreshed", "missing")
    return {name: getattr(result, name) for name in names}


def _usage(result: LoadResult, server: Server, cpu_before_s: float | None) -> Figures:
    """Return what it took; the server is ended."""
    cpu_s, memory_mb = server.cpu_s(), server.memory_mb()
    requests = result.exchanged / 2
    batches = server.end()
    return {
        "statuses": result.statuses,
        "resent": result.resent,
        "server_cpu_us": _us(cpu_s - cpu_before_s, requests)
        if cpu_s is not None and cpu_before_s is not None
        else None,
        "server_memory_mb": round(memory_mb, 1) if memory_mb is not None else None,
        "generator_cpu_us": _us(result.cpu_s, requests),
        "batches": None
        if batches is None
        else {
            kind: {"mean": round(batching.rows / batching.count, 1), "max": batching.rows_max}
            for kind, batching in batches.items()
            if batching.count
        },
    }


def _us(seconds: float, requests: float) -> float:
    return round(seconds / requests * 1e6, 1)
