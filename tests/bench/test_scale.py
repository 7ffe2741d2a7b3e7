"""What size costs: short versions, whose figures mean nothing."""

import json

import pytest
from click.testing import CliRunner

from bench.scale import growth
from tests.bench.command import bench


def test_memory() -> None:
    line = bench("memory", "--count", "100", "--inbox", "30", "--users", "5")
    assert line["begun_mb"] > 1
    assert len(line["stored_mb"]) == 10
    inbox = line["inbox"]
    assert (inbox["messages"], inbox["delivered"], inbox["out_of_place"], inbox["repeated"]) == (30, 30, 0, 0)
    assert inbox["more_mb"] == pytest.approx(inbox["most_mb"] - inbox["before_mb"], abs=0.1)


def test_growth() -> None:
    result = CliRunner().invoke(growth, ["--few", "10", "--many", "2500", "--rounds", "1", "--count", "40"])
    assert result.exit_code == 0, result.output
    few, many, ratios = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert [line["rows"] for line in (few, many)] == [10, 2500]
    assert few["delivered"] == many["delivered"] == 40
    for rate in ("rate_per_s", "store_rate_per_s"):
        assert ratios[rate]["rounds"] == [pytest.approx(many[rate] / few[rate], abs=0.01)]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--target", "udp://127.0.0.1:5060"], "leave --target out"),
        (["--storage", "postgresql:///own"], "--storage postgresql:///:temporary:"),
    ],
)
def test_growth_fills_databases_of_its_own(options: list[str], remedy: str) -> None:
    result = CliRunner().invoke(growth, options)
    assert result.exit_code == 2
    assert remedy in result.output
