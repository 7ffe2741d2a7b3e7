"""The gate on instruction counts: its comparison, and that its workloads run."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bench.instructions import BUDGET, Budget, instructions, judge, ratios_of
from bench.instructions_driver import REFERENCE, WORKLOADS

_PYTHON = "CPython 3.11.7"


def _budget(**ratios: float) -> Budget:
    return Budget(python=_PYTHON, instructions={}, ratios=ratios)


def test_counts_are_compared_as_multiples_of_the_reference() -> None:
    ratios = ratios_of({REFERENCE: 90_000, "a": 180_000, "b": 100_000})

    assert ratios == {"a": 2.0, "b": 1.1111}
    # An interpreter that takes a quarter more for everything changes nothing.
    assert ratios_of({REFERENCE: 112_500, "a": 225_000, "b": 125_000}) == ratios


@pytest.mark.parametrize(
    ("ratio", "failed", "said"),
    [
        (2.0, False, "a: +0.0% against its budget (2.000 times the reference, budget 2.000)"),
        (2.19, False, "a: +9.5% against"),
        (2.21, True, "python -m bench instructions --record"),
        (2.21, True, "a: +10.5% against its budget"),
        (1.81, False, "a: -9.5% against"),
        (1.79, False, "The budget is too high"),
    ],
)
def test_more_than_a_tenth_over_the_budget_fails(ratio: float, failed: bool, said: str) -> None:
    verdict = judge({"a": ratio}, _budget(a=2.0), _PYTHON)

    assert verdict.failed == failed
    (line,) = verdict.lines
    assert said in line


def test_one_of_several_is_enough_to_fail() -> None:
    verdict = judge({"a": 3.0, "b": 1.0}, _budget(a=2.0, b=1.0), _PYTHON)

    assert verdict.failed
    assert [line[:8] for line in verdict.lines] == ["a: +50.0", "b: +0.0%"]


def test_a_workload_without_a_budget_and_a_budget_without_a_workload_fail() -> None:
    for ratios, budget in (({"a": 1.0}, _budget()), ({}, _budget(a=1.0))):
        verdict = judge(ratios, budget, _PYTHON)
        assert verdict.failed
        assert "--record" in verdict.lines[0]


def test_another_interpreter_is_named_and_fails_nothing() -> None:
    verdict = judge({"a": 2.0}, _budget(a=2.0), "CPython 3.13.0")

    assert not verdict.failed
    assert verdict.lines[1] == (
        "measured with CPython 3.13.0, recorded with CPython 3.11.7: small changes may be the interpreter's"
    )


@pytest.mark.parametrize("name", WORKLOADS)
def test_each_workload_runs(name: str) -> None:
    WORKLOADS[name](3)


def test_each_workload_has_a_budget() -> None:
    budget = msgspec.json.decode(BUDGET.read_bytes(), type=Budget)

    assert budget.ratios.keys() == WORKLOADS.keys() - {REFERENCE}
    assert ratios_of(budget.instructions) == budget.ratios


def test_without_valgrind_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(instructions)

    assert result.exit_code == 1
    assert "apt-get install valgrind" in result.output
