"""What the needed fields of a MESSAGE and of a REGISTER cost, beside what two other parsers take for the same."""

import gc
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec

from bench import worst
from bench.messages import messages, registers
from bench.needed import Needed
from bench.peers import Subject, comparable, load_peers, ours

__all__ = ["parse"]

_GOALS: Final = {"sipmessage": 0.3, "sippy": 0.4}
"""The most of a peer's time that ours may be."""

# Different ones, so that nothing is quick only because it was seen just now.
_MESSAGES: Final = 50


@click.command()
@click.option(
    "--peers",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where 'pip install --no-deps --target DIR sipmessage==0.7.1 sippy==2.5.0 pycryptodome ElPeriodic' put them."
    "  [default: a cache folder, filled by pip]",
)
@click.option("--no-peers", is_flag=True, help="Measure ours alone.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=15, show_default=True, help="The least of so many counts."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=1_000, show_default=True, help="Messages parsed in one repeat."
)
@click.option("--worst", "worst_cases", is_flag=True, help="Inputs made to be slow instead: exit 1 if one is too slow.")
@click.option(
    "--only", metavar="TEXT", default="", help="With --worst: only parsers whose name holds this.", show_default=False
)
def parse(folder: Path | None, no_peers: bool, repeats: int, count: int, worst_cases: bool, only: str) -> None:
    """Parse a MESSAGE and a REGISTER to what the engine needs, in turn with sipmessage and sippy, or hostile inputs.

    Times are CPU time in microseconds for one message, with the garbage collector off; a ratio is our time in a
    peer's. The peers check less (see bench/peers.py), and all must have given the same values before they are measured.
    """
    if worst_cases:
        worst.report(only)
        return
    subjects = [ours(), *([] if no_peers else load_peers(folder))]
    least_us = _measure(subjects, repeats, count)
    line: dict[str, object] = {
        "benchmark": "parse",
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "versions": {subject.name: subject.version for subject in subjects},
        "repeats": repeats,
        "count": count,
    }
    for kind in _KINDS:
        line[kind] = {
            "us": {name: round(us, 2) for (name, of), us in least_us.items() if of == kind},
            "ratio": {
                peer.name: round(least_us["msilo", kind] / least_us[peer.name, kind], 3) for peer in subjects[1:]
            },
        }
    line["goals"] = _GOALS
    _show(line, subjects, least_us)
    click.echo(msgspec.json.encode(line).decode())


def require_equal(subjects: list[Subject]) -> None:
    """Make sure that all give the same values, so that nobody is measured at other work.

    Raises:
        click.ClickException: two differ.
    """
    for kind, (corpus, _) in _KINDS.items():
        for data in corpus:
            expected = comparable(_parser(subjects[0], kind)(data))
            for peer in subjects[1:]:
                found = comparable(_parser(peer, kind)(data))
                if found != expected:
                    raise click.ClickException(f"{peer.name} reads {kind} as {found}, msilo as {expected}")


_KINDS: Final[dict[str, tuple[list[bytes], Callable[[Subject], Callable[[bytes], Needed]]]]] = {
    "MESSAGE": (messages(_MESSAGES), lambda subject: subject.parse_message),
    "REGISTER": (registers(_MESSAGES), lambda subject: subject.parse_register),
}


def _parser(subject: Subject, kind: str) -> Callable[[bytes], Needed]:
    return _KINDS[kind][1](subject)


def _measure(subjects: list[Subject], repeats: int, count: int) -> dict[tuple[str, str], float]:
    """Return the least time for each (subject, kind), in microseconds a message."""
    require_equal(subjects)
    least_us: dict[tuple[str, str], float] = {}
    turns = [(subject, kind) for subject in subjects for kind in _KINDS]
    order = random.Random(1)
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            # Shuffled, so that what else the machine does hits all alike.
            order.shuffle(turns)
            for subject, kind in turns:
                us = _time_us(_parser(subject, kind), _KINDS[kind][0], count)
                least_us[subject.name, kind] = min(us, least_us.get((subject.name, kind), us))
    finally:
        gc.enable()
    return least_us


def _time_us(work: Callable[[bytes], Needed], corpus: list[bytes], count: int) -> float:
    batch = (corpus * (count // len(corpus) + 1))[:count]
    began_ns = time.process_time_ns()
    for data in batch:
        work(data)
    return (time.process_time_ns() - began_ns) / count / 1e3


def _show(line: dict[str, object], subjects: list[Subject], least_us: dict[tuple[str, str], float]) -> None:
    click.echo(f"{line['implementation']} {line['python']}, us a message, and ours in theirs:", err=True)
    for subject in subjects:
        row = f"{subject.name} {subject.version}".ljust(20)
        for kind in _KINDS:
            us = least_us[subject.name, kind]
            row += f"  {kind} {us:7.2f}"
            if subject is not subjects[0]:
                goal = _GOALS[subject.name]
                row += f" ({least_us['msilo', kind] / us:.2f}, goal {goal})"
        click.echo(row, err=True)
