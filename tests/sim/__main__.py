"""``python -m tests.sim``: tell stories by the thousand, tell one again, or see that defects are found."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import click

from tests.sim.mutants import PATCHES, catch
from tests.sim.scenario import draw
from tests.sim.shrink import shrink
from tests.sim.trace import read, write
from tests.sim.world import Result, tell

_FINDS: Final = Path("sim-finds")
_FINDS_MAX: Final = 5


@click.group()
def main() -> None:
    """Simulate nodes, store, network, phones and senders, and check the promises P1 to P10 at each step."""


@main.command()
@click.option("--seeds", default=2_000, show_default=True, help="How many stories.")
@click.option("--first", default=0, show_default=True, help="Seed of the first.")
@click.option("--messages", default=0, help="Messages in each; 20 to 60 if not given.")
@click.option("--workers", default=1, show_default=True, help="Processes.")
@click.option("--finds", "finds_max", default=_FINDS_MAX, show_default=True, help="End after so many violations.")
@click.option("--keep/--no-keep", default=True, help="Make what is found short, and keep it.")
def run(seeds: int, first: int, messages: int, workers: int, finds_max: int, keep: bool) -> None:
    """Tell a story for each seed; those that break a promise are made short and kept in sim-finds/."""
    began = time.monotonic()
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    broken: list[int] = []
    done = 0
    results = _results(range(first, first + seeds), messages, workers)
    with click.progressbar(results, length=seeds, label=f"seeds {first} to {first + seeds - 1}") as bar:
        for seed, result in bar:
            done += 1
            counts += result.counts
            faults += result.faults
            if result.promise:
                click.echo(f"\nseed {seed} breaks {result.promise}: {result.text}", err=True)
                broken.append(seed)
                if len(broken) >= finds_max:
                    break
    for seed in broken if keep else ():
        _keep(seed, messages)
    click.echo(_summary(done, counts, faults, len(broken), time.monotonic() - began))
    sys.exit(1 if broken else 0)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay(file: Path) -> None:
    """Tell a story that was kept once more, and print what happens."""
    result = tell(read(file), is_noted=True)
    for note in result.notes:
        click.echo(f"{note.ms / 1000:10.3f}  {note.what}{f'  {note.branch}' if note.branch else ''}")
    click.echo(f"broken: {result.promise}: {result.text}" if result.promise else "all promises hold")
    sys.exit(1 if result.promise else 0)


@main.command()
@click.option("--seeds", default=2_000, show_default=True, help="Within so many stories each defect is to be found.")
def mutants(seeds: int) -> None:
    """Put defects into a copy of the product, one after the other, and see that each is found."""
    caught = 0
    for patch in PATCHES:
        found = catch(patch, seeds)
        caught += bool(found)
        click.echo(f"{patch.stem}: {found or f'NOT found within {seeds} seeds'}")
    click.echo(f"{caught} of {len(PATCHES)}")
    sys.exit(0 if caught == len(PATCHES) else 1)


def _results(seeds: range, messages: int, workers: int) -> Iterator[tuple[int, Result]]:
    of_seed = partial(_tell_seed, messages=messages)
    if workers == 1:
        yield from zip(seeds, map(of_seed, seeds), strict=True)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from zip(seeds, pool.map(of_seed, seeds, chunksize=20), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _tell_seed(seed: int, messages: int) -> Result:
    return tell(draw(seed, messages))


def _keep(seed: int, messages: int) -> None:
    scenario = draw(seed, messages)
    short = shrink(scenario, tell(scenario).promise)
    file = _FINDS / f"seed-{seed}.jsonl"
    write(file, short, tell(short, is_noted=True))
    click.echo(f"python -m tests.sim replay {file}", err=True)


def _summary(seeds: int, counts: Counter[str], faults: Counter[str], broken: int, seconds: float) -> str:
    refused_at_once = counts["not accepted"]
    accepted = sum(counts[end] for end in ("delivered", "refused", "expired", "removed"))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items()))
    return (
        f"{seeds} seeds, {counts['messages']} messages: {accepted} accepted ({counts['delivered']} delivered, "
        f"{counts['refused']} refused, {counts['expired']} expired, {counts['removed']} removed), "
        f"{refused_at_once} not accepted; "
        f"{counts['repeats']} repeats at phones; faults: {kinds}; {broken} violations; {seconds:.0f} s"
    )


if __name__ == "__main__":
    main(prog_name="python -m tests.sim")
