"""Whether size costs: ``memory`` with many messages and a long inbox, ``growth`` of the rate with the table."""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import anyio
import asyncpg
import click
import msgspec

from bench import database, spread
from bench.database import TEMPORARY_POSTGRES, TEMPORARY_SQLITE
from bench.servers import Server, ours
from bench.setting import Setting, count_option, setting_options
from bench.traffic import Figures, check_stored, measure_delivery, print_line, run_load
from msilo_core import Aor, Message, Store, Stored
from msilo_storage import open_store

__all__ = ["growth", "memory"]

_PARTS: Final = 10

_FILL_BATCH: Final = 1_000
_INBOX: Final = 10
_WEEK_S: Final = 7 * 86_400


@click.command(short_help="Memory after a million messages, and with a long inbox.")
@count_option(1_000_000, "MESSAGEs in all.")
@click.option(
    "--inbox", type=click.IntRange(min=1), default=100_000, show_default=True, help="MESSAGEs that one user gets."
)
@setting_options(users=10_000)
def memory(inbox: int, **options: object) -> None:
    """Store MESSAGEs in ten parts, and look after each how much memory the server has; then store some more for one
    user, let him register, and look meanwhile.
    """
    setting = msgspec.convert(options, Setting)
    _refuse_target(setting)
    with ours(setting) as server:
        begun_mb = _memory_mb(server)
        stored_mb: list[float] = []
        part = msgspec.structs.replace(setting, count=max(1, setting.count // _PARTS))
        for number in range(_PARTS):
            label = f"store {number + 1}/{_PARTS}"
            check_stored(run_load("store", part, server, spread.new_run(), label))
            stored_mb.append(_memory_mb(server))
        long = msgspec.structs.replace(setting, count=inbox, users=1, window=1)
        run = spread.new_run()
        check_stored(run_load("ordered store", long, server, run, "inbox: store"))
        seen_mb = [_memory_mb(server)]
        result = run_load(
            "deliver", long, server, run, "inbox: deliver", phase=1, watch=lambda: seen_mb.append(_memory_mb(server))
        )
        figures = {
            "begun_mb": begun_mb,
            "stored_mb": stored_mb,
            "inbox": {
                "messages": inbox,
                "delivered": result.delivered,
                "out_of_place": result.out_of_place,
                "repeated": result.repeated,
                "before_mb": seen_mb[0],
                "most_mb": max(seen_mb),
                "more_mb": round(max(seen_mb) - seen_mb[0], 1),
            },
        }
        server.end()
    print_line("memory", setting, figures)


@click.command(short_help="The rate with many rows in the table against that with few.")
@count_option(10_000, "MESSAGEs that are stored, and delivered, in a run.")
@click.option("--few", type=click.IntRange(min=1), default=10_000, show_default=True, help="Rows in the one table.")
@click.option("--many", type=click.IntRange(min=1), default=10_000_000, show_default=True, help="Rows in the other.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs on each, in turn.")
@setting_options(users=1_000)
def growth(few: int, many: int, rounds: int, **options: object) -> None:
    """Fill two tables with messages of other users, ten for each; then store and deliver on each in turn.

    What is stored in a run is delivered in it, so that the tables stay as they are. A line for each run, and at the end
    one with the ratios.
    """
    setting = msgspec.convert(options, Setting)
    _refuse_target(setting)
    if setting.storage not in (TEMPORARY_POSTGRES, TEMPORARY_SQLITE):
        raise click.UsageError(f"growth fills databases of its own: --storage {TEMPORARY_POSTGRES}")
    lines: dict[int, list[Figures]] = {few: [], many: []}
    with contextlib.ExitStack() as opened:
        settings: list[tuple[int, Setting]] = []
        for rows in lines:
            directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            url = opened.enter_context(database.opened(setting.storage, directory))
            anyio.run(_fill, url, rows)
            settings.append((rows, msgspec.structs.replace(setting, storage=url)))
        for number in range(rounds):
            for rows, one in settings:
                figures = measure_delivery(one, ours, f"{rows} rows, {number + 1}/{rounds}")
                lines[rows].append(figures)
                print_line("growth", setting, {"rows": rows, **figures})
    print_line("growth", setting, {"few": few, "many": many, **_ratios(lines[few], lines[many])})


def _ratios(few: list[Figures], many: list[Figures]) -> Figures:
    ratios: Figures = {}
    for rate in ("store_rate_per_s", "rate_per_s"):
        of_rounds = [round(more[rate] / less[rate], 2) for less, more in zip(few, many, strict=True)]
        ratios[rate] = {"median": round(statistics.median(of_rounds), 2), "rounds": of_rounds}
    return ratios


async def _fill(url: str, rows: int) -> None:
    now_s = int(time.time())
    with click.progressbar(length=rows, label=f"{rows} rows") as bar:
        async with open_store(url) as store:
            for first in range(0, rows, _FILL_BATCH):
                batch = [_row(number, now_s) for number in range(first, min(first + _FILL_BATCH, rows))]
                for answer in await store.append(batch):
                    if not isinstance(answer, Stored):
                        raise click.ClickException(f"cannot fill the table: {answer}")
                bar.update(len(batch))
    if url.startswith("postgresql"):
        # As a table is that has grown for long; otherwise the first runs would share the disk with this.
        connection = await asyncpg.connect(url)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()


def _row(number: int, now_s: int) -> Store:
    user = number // _INBOX
    message = Message(
        owner=Aor(f"filler{user}", "example.com"),
        src_addr=f"sip:sender{number % 1_000}@example.com",
        dst_addr=f"sip:filler{user}@example.com",
        inc_time_s=now_s,
        exp_time_s=now_s + _WEEK_S,
        ctype="text/plain",
        body=b"What waits here is of somebody who is away for the whole of the measurement.",
        callid=f"{number:032x}@example.com",
        cseq=1,
        from_tag=f"{number:08x}",
        from_hdr=f"<sip:sender{number % 1_000}@example.com>;tag={number:08x}",
        to_hdr=f"<sip:filler{user}@example.com>",
    )
    return Store(number, message)


def _refuse_target(setting: Setting) -> None:
    if setting.target is not None:
        raise click.UsageError("this needs a server of its own: leave --target out")


def _memory_mb(server: Server) -> float:
    found = server.memory_mb()
    if found is None:
        raise click.ClickException("nobody knows on this system what memory a process has; Linux tells")
    return round(found, 1)
