"""Our server and Kamailio in turn, on the same PostgreSQL, with what the machine allows in the same minute."""

import contextlib
import platform
import statistics
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import click
import msgspec

from bench import plots
from bench.database import TEMPORARY_POSTGRES, empty_postgres, postgres_server
from bench.floor import echo, insert_rate
from bench.kamailio import kamailio, missing_packages
from bench.load import Kind
from bench.servers import OpenServer, Server, ours
from bench.setting import Backend, Setting, count_option
from bench.traffic import Figures, measure_delivery, measure_loop, print_line
from msilo_core import WORKERS_MAX
from msilo_core.limits import Limits
from tests.postgres import schema_in

__all__ = ["CASES", "Spread", "compare"]

Case: TypeAlias = Literal["store", "register", "deliver to one", "deliver to many", "mixed", "window 1"]

_PER_USER: Final = 10


class _Measure(msgspec.Struct, frozen=True):
    """A figure that is compared.

    Attributes:
        case: of which runs.
        figure: its name in their lines.
        is_more_better: whether the larger one is the better.
    """

    case: Case
    figure: str
    is_more_better: bool


CASES: Final[dict[Case, Kind]] = {
    "store": "store",
    "register": "register",
    "deliver to one": "deliver",
    "deliver to many": "deliver",
    "mixed": "mixed",
    "window 1": "store",
}
"""What is compared, and the load that it is."""

_MEASURES: Final = (
    _Measure("store", "rate_per_s", True),
    _Measure("register", "rate_per_s", True),
    _Measure("register", "p99_ms", False),
    _Measure("deliver to one", "elapsed_s", False),
    _Measure("deliver to many", "rate_per_s", True),
    _Measure("mixed", "rate_per_s", True),
    _Measure("mixed", "p99_ms", False),
    _Measure("window 1", "p50_ms", False),
)


class Spread(msgspec.Struct, frozen=True):
    """The middle, the least and the most of the same figure in all rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of some values."""
        values = list(values)
        return cls(*(_rounded(value) for value in (statistics.median(values), min(values), max(values))))


class _Subject(msgspec.Struct, frozen=True):
    """A server that is compared."""

    name: str
    open_server: OpenServer
    is_ours: bool
    workers: int = 1

    @property
    def says_batches(self) -> bool:
        """Whether it says how many rows a statement had."""
        return self.is_ours and self.workers == 1


@click.command(short_help="Our server and Kamailio in turn.")
@count_option(10_000, "MESSAGEs that are delivered; twice as many in the other loads, a tenth at window 1.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Each has every server once.")
@click.option(
    "--children", type=click.IntRange(1, 256), multiple=True, default=(8, 16), show_default=True,
    help="Processes of Kamailio; several are several servers, and the best of them in each load is what counts.",
)  # fmt: skip
@click.option(
    "--backend", "backends", type=click.Choice(["asyncio", "trio"]), multiple=True, default=("asyncio",),
    show_default=True, help="Event loop of our server; several are several servers.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, WORKERS_MAX), multiple=True, default=(1,), show_default=True,
    help="Processes of our server; several are several servers. They share the load only where it comes from a few "
    "--processes for each.",
)  # fmt: skip
@click.option(
    "--storage", metavar="URL", default=TEMPORARY_POSTGRES, show_default=True,
    help="PostgreSQL for all: each run has an empty schema of its own there.",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(min=1), default=256, show_default=True, help="Requests under way at once."
)
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Generators of the load.")
@click.option("--only", type=click.Choice(list(CASES)), multiple=True, help="Only these loads.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw the ratios into this PNG. Needs matplotlib.",
)  # fmt: skip
def compare(
    count: int,
    rounds: int,
    children: Sequence[int],
    backends: Sequence[Backend],
    workers: Sequence[int],
    storage: str,
    window: int,
    processes: int,
    only: Sequence[Case],
    plot: Path | None,
) -> None:
    """Start Kamailio and our server in turn, put the same loads on both, and print the ratios.

    A line for each run, and one with the ratios, ours in Kamailio's of the same round. Kamailio's bindings are in
    memory, ours are durable; what is stored is durable in both. Beside them stand the rows that PostgreSQL stores in a
    second where one statement has as many as ours had, and the datagrams that a Python process sends back in a second.
    """
    if plot is not None:
        plots.require(plot)
    if missing := missing_packages():
        raise click.ClickException(f"Kamailio is not installed: apt-get install {' '.join(missing)}")
    cases: list[Case] = [case for case in CASES if case in (only or CASES)]
    subjects = [
        *(_Subject(f"kamailio, {number} children", _kamailio_with(number), False) for number in children),
        *(_ours_with(backend, number) for backend in backends for number in workers),
    ]
    with postgres_server(storage) as url:
        setting = Setting(
            backend=backends[0], storage=url, target=None, transport="udp", domain="example.com", count=count,
            window=window, users=1, body_bytes=80, processes=processes, batch_limit=Limits().batch_max,
        )  # fmt: skip
        runs: list[dict[tuple[Case, str], Figures]] = []
        floors: list[Figures] = []
        for number in range(rounds):
            runs.append({})
            for case in cases:
                for subject in subjects:
                    figures = _run(case, setting, subject, number)
                    runs[-1][case, subject.name] = figures
                if case == "store" and (alone := [subject for subject in subjects if subject.says_batches]):
                    floors.append(_floor(setting, runs[-1][case, alone[0].name], number))
    ratios = {
        subject.name: {
            f"{measure.case}: {measure.figure}": _ratio(measure, subject.name, subjects, runs)
            for measure in _MEASURES
            if measure.case in cases
        }
        for subject in subjects
        if subject.is_ours
    }
    line: dict[str, object] = {
        "benchmark": "compare", "python": platform.python_version(), "count": count, "rounds": rounds,
        "window": window, "processes": processes, "ratios": ratios,
    }  # fmt: skip
    if floors:
        line["floor"] = {name: Spread.of(floor[name] for floor in floors) for name in floors[0]}
    click.echo(msgspec.json.encode(line).decode())
    if plot is not None:
        plots.draw_ratios(plot, ratios)


def _run(case: Case, base: Setting, subject: _Subject, number: int) -> Figures:
    setting = _setting_of(case, base)
    label = f"{case}: {subject.name}"
    if CASES[case] == "deliver":
        figures = measure_delivery(setting, subject.open_server, label)
    else:
        figures = measure_loop(CASES[case], setting, subject.open_server, label)
    print_line(case, setting, {"server": subject.name, "round": number + 1, **figures})
    return figures


def _setting_of(case: Case, base: Setting) -> Setting:
    count = base.count
    changes: dict[Case, dict[str, int]] = {
        "store": {"count": 2 * count, "users": 1_000},
        "register": {"count": 2 * count, "users": count},
        "deliver to one": {"users": 1, "processes": 1},
        "deliver to many": {"users": max(1, count // _PER_USER)},
        "mixed": {"count": 2 * count, "users": count},
        "window 1": {"count": max(1, count // 10), "users": 1_000, "window": 1, "processes": 1},
    }
    return msgspec.structs.replace(base, **changes[case])


def _floor(setting: Setting, stored: Figures, number: int) -> Figures:
    """Return what the machine allows, and how near to that the first of ours came that is one process."""
    batch = max(1, round(stored["batches"]["Store"]["mean"]))
    case = _setting_of("store", setting)
    with schema_in(setting.storage) as own:
        inserted = insert_rate(own, batch=batch, body_bytes=case.body_bytes, rows=case.count)
    echoed = measure_loop("store", case, echo, "echo")
    figures = {
        "batch": batch,
        "inserted_rows_per_s": round(inserted, 1),
        "echoed_per_s": echoed["rate_per_s"],
        "stored_to_inserted": _rounded(stored["rate_per_s"] / inserted),
        "stored_to_echoed": _rounded(stored["rate_per_s"] / echoed["rate_per_s"]),
        "generator_cpu_us": echoed["generator_cpu_us"],
    }
    print_line("floor", case, {"round": number + 1, **figures})
    return figures


def _ratio(
    measure: _Measure, name: str, subjects: Sequence[_Subject], runs: Sequence[dict[tuple[Case, str], Figures]]
) -> Figures:
    """Return ours in Kamailio's, round by round, with the children that are the best for it here."""

    def values(subject: str) -> list[float]:
        return [run[measure.case, subject][measure.figure] for run in runs]

    best = (max if measure.is_more_better else min)(
        (subject.name for subject in subjects if not subject.is_ours),
        key=lambda subject: statistics.median(values(subject)),
    )
    pairs = zip(values(name), values(best), strict=True)
    return {
        "ratio": Spread.of(our / other for our, other in pairs),
        "ours": Spread.of(values(name)),
        "kamailio": Spread.of(values(best)),
        "best": best,
    }


def _kamailio_with(children: int) -> OpenServer:
    def open_server(setting: Setting, /) -> contextlib.AbstractContextManager[Server]:
        return kamailio(setting, children)

    return open_server


def _ours_with(backend: Backend, workers: int) -> _Subject:
    @contextlib.contextmanager
    def open_server(setting: Setting, /) -> Generator[Server]:
        with (
            empty_postgres(setting.storage) as own,
            ours(msgspec.structs.replace(setting, storage=own, backend=backend, workers=workers)) as server,
        ):
            yield server

    name = f"msilo, {backend}" if workers == 1 else f"msilo, {backend}, {workers} workers"
    return _Subject(name, open_server, True, workers)


def _rounded(value: float) -> float:
    """Return three digits of it, or all before the point."""
    return float(f"{value:.3g}") if value < 100 else round(value)
