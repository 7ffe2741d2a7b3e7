"""The comparison with Kamailio runs; its figures mean nothing here."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.compare import Spread, compare
from tests.bench.command import bench_lines
from tests.interop.kamailio import require


def test_compare(postgres_server_url: str, tmp_path: Path) -> None:
    require()
    path = tmp_path / "ratios.png"
    cases = ["store", "deliver to one", "mixed"]
    *runs, line = bench_lines(
        "compare", "--storage", postgres_server_url, "--count", "60", "--rounds", "1", "--children", "2",
        "--window", "20", "--workers", "1", "--workers", "2", "--plot", str(path),
        *(f"--only={case}" for case in cases),
    )  # fmt: skip
    servers = ["kamailio, 2 children", "msilo, asyncio", "msilo, asyncio, 2 workers"]
    assert [(run["benchmark"], run["server"]) for run in runs if run["benchmark"] != "floor"] == [
        (case, server) for case in cases for server in servers
    ]
    delivered = [(run["delivered"], run["missing"]) for run in runs if run["benchmark"] == "deliver to one"]
    assert delivered == [(60, 0)] * 3
    assert list(line["ratios"]) == servers[1:]
    ratios = line["ratios"][servers[1]]
    assert {measure.partition(":")[0] for measure in ratios} == set(cases)
    stored = {run["server"]: run["rate_per_s"] for run in runs if run["benchmark"] == "store"}
    ratio = ratios["store: rate_per_s"]["ratio"]["median"]
    assert ratio == pytest.approx(stored[servers[1]] / stored[servers[0]], rel=0.01)
    assert line["floor"]["stored_to_inserted"]["median"] > 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_kamailio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.compare.missing_packages", lambda: ["kamailio"])
    ran = CliRunner().invoke(compare)
    assert ran.exit_code == 1
    assert "apt-get install kamailio" in ran.output


def test_a_spread() -> None:
    assert Spread.of([1.23456, 3.0, 2.0]) == Spread(2.0, 1.23, 3.0)
    assert Spread.of([12_345.6]) == Spread(12_346.0, 12_346.0, 12_346.0)
