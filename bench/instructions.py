"""What parsing, storing, registering and delivering cost in instructions: a gate that a busy machine cannot move.

Each workload of bench/instructions_driver.py runs under callgrind for 200 messages and for 700; the difference by 500
is the cost of one, without the start of the interpreter. Hashes are fixed, and everything is compiled before.

How steady it is: three runs gave the same counts to the last instruction, with the other core idle or busy. Another
environment, folder or tree moved one by up to 1.3 % (addresses decide what collides in the interpreter's caches). What
moves them for good is another build of the interpreter, of msgspec or of the C library, whose copying and searching
depend on the processor too. So a budget is not a count: it is a multiple of the count of a reference, fixed Python code
of the same kind (splitting, patterns, dicts, text) that runs beside the workloads in the same interpreter, and nearly
all that such a change moves it moves in both. A budget for each interpreter would be sharper, but a gate with no budget
for the one it meets is open, and CI would find out on the day that its Python is updated. Where a new interpreter
shifts a ratio all the same, `--record` is the remedy, and the diff of the budget file shows it.
"""

import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click
import msgspec

from bench.instructions_driver import COUNT_MAX, REFERENCE, WORKLOADS

__all__ = ["Budget", "Verdict", "instructions", "judge", "ratios_of"]

BUDGET: Final = Path(__file__).with_name("instructions.json")

TOLERANCE: Final = 0.10
"""How far above its budget a workload may be, and how far below it the budget is called too high."""

_COUNT_MIN: Final = 200
_RECORD: Final = "python -m bench instructions --record"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The file.

    Attributes:
        python: the interpreter that it was recorded with, for a reader.
        instructions: what one message cost then, by workload, for a reader.
        ratios: the same in multiples of the reference: what is compared.
    """

    python: str
    instructions: dict[str, int]
    ratios: dict[str, float]


class Verdict(msgspec.Struct, frozen=True):
    """What came of a comparison: lines for a reader, and whether one of them is a failure."""

    lines: list[str]
    failed: bool


@click.command()
@click.option("--record", is_flag=True, help=f"Write what is measured to bench/{BUDGET.name}.")
def instructions(record: bool) -> None:
    """Count the instructions of parsing, storing, registering and delivering; compare them with the recorded budget.

    Exit 1 if one is more than 10 % over. Needs valgrind.
    """
    counts = _measure()
    ratios = ratios_of(counts)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    line = {"benchmark": "instructions", "python": python, "instructions": counts, "ratios": ratios}
    click.echo(msgspec.json.encode(line).decode())
    if record:
        budget = Budget(python=python, instructions=counts, ratios=ratios)
        BUDGET.write_bytes(msgspec.json.format(msgspec.json.encode(budget), indent=2) + b"\n")
        return
    verdict = judge(ratios, msgspec.json.decode(BUDGET.read_bytes(), type=Budget), python)
    for text in verdict.lines:
        click.echo(text, err=True)
    if verdict.failed:
        sys.exit(1)


def ratios_of(counts: dict[str, int]) -> dict[str, float]:
    """Return the workloads' counts in multiples of the reference's."""
    reference = counts[REFERENCE]
    return {name: round(count / reference, 4) for name, count in counts.items() if name != REFERENCE}


def judge(ratios: dict[str, float], budget: Budget, python: str) -> Verdict:
    """Compare what was measured with the budget.

    Args:
        ratios: of each workload, in multiples of the reference.
        budget: what they may be.
        python: the interpreter that was measured.
    """
    lines: list[str] = []
    failed = False
    for name, ratio in ratios.items():
        allowed = budget.ratios.get(name)
        if allowed is None:
            lines.append(f"{name}: no budget. Record one: {_RECORD}")
            failed = True
            continue
        change = ratio / allowed - 1
        text = f"{name}: {change:+.1%} against its budget ({ratio:.3f} times the reference, budget {allowed:.3f})"
        if change > TOLERANCE:
            text += f". Make it cheaper, or record a new budget and say why in the commit: {_RECORD}"
            failed = True
        elif change < -TOLERANCE:
            text += f". The budget is too high to guard this: {_RECORD}"
        lines.append(text)
    for name in budget.ratios.keys() - ratios.keys():
        lines.append(f"{name}: has a budget and is not measured any more. Record anew: {_RECORD}")
        failed = True
    if python != budget.python:
        lines.append(f"measured with {python}, recorded with {budget.python}: small changes may be the interpreter's")
    return Verdict(lines, failed)


def _measure() -> dict[str, int]:
    """Return what one message of each workload costs, in instructions."""
    for name in WORKLOADS:
        _run([], name, 1)  # writes the .pyc files
    turns = [(name, count) for name in WORKLOADS for count in (_COUNT_MIN, COUNT_MAX)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = dict(zip(turns, pool.map(_counted, turns), strict=True))
    return {
        name: round((counted[name, COUNT_MAX] - counted[name, _COUNT_MIN]) / (COUNT_MAX - _COUNT_MIN))
        for name in WORKLOADS
    }


def _counted(turn: tuple[str, int]) -> int:
    """Return the instructions of a whole process."""
    name, count = turn
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        out = Path(directory) / "callgrind.out"
        _run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"], name, count)
        for line in out.read_text().splitlines():
            if line.startswith("totals: "):
                return int(line.removeprefix("totals: "))
    raise click.ClickException("callgrind gave no total")


def _run(prefix: list[str], name: str, count: int) -> None:
    command = [*prefix, sys.executable, "-m", "bench.instructions_driver", name, str(count)]
    try:
        ran = subprocess.run(
            command, cwd=BUDGET.parents[1], env=os.environ | {"PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise click.ClickException("valgrind is not installed (Debian: apt-get install valgrind)") from None
    if ran.returncode:
        raise click.ClickException(f"{' '.join(command)} failed:\n{ran.stderr}")
