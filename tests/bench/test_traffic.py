"""The benchmarks of whole servers run: short ones, whose figures mean nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.setting import Setting
from bench.traffic import print_line, store
from tests.bench.command import bench
from tests.runners.service import Service
from tests.runners.tables import init

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
def test_store(backend: str) -> None:
    line = bench("store", "--backend", backend, "--count", "400", "--window", "50", "--users", "7", "--body-bytes", "9")
    assert (line["backend"], line["count"], line["statuses"]) == (backend, 400, {"202": 400})
    assert line["rate_per_s"] > 0
    assert 0 < line["p50_ms"] <= line["p90_ms"] <= line["p99_ms"] <= line["max_ms"]
    assert line["server_cpu_us"] > 0
    assert line["server_memory_mb"] > 1
    assert line["generator_cpu_us"] > 0
    assert 1 <= line["batches"]["Store"]["mean"] <= line["batches"]["Store"]["max"] <= 50


def test_store_on_postgresql(postgres_url: str) -> None:
    init(postgres_url)
    line = bench("store", "--storage", postgres_url, "--count", "200", "--window", "20")
    assert line["statuses"] == {"202": 200}


def test_compared_batch_limits() -> None:
    line = bench("store", "--count", "200", "--window", "20", "--compare-batch-limit", "1", "--rounds", "1")
    ((shared, alone),) = line["rounds"]
    assert alone["batches"]["Store"]["max"] == 1
    assert shared["batches"]["Store"]["max"] > 1
    assert line["rate_ratio"] == pytest.approx(shared["rate_per_s"] / alone["rate_per_s"], abs=0.01)


def test_register() -> None:
    line = bench("register", "--transport", "tcp", "--count", "300", "--window", "50", "--users", "100")
    assert line["statuses"] == {"200": 300}
    assert line["batches"].keys() == {"Bind"}


@BACKENDS
def test_deliver(backend: str) -> None:
    line = bench("deliver", "--backend", backend, "--count", "200", "--users", "30", "--window", "20")
    assert line["statuses"] == {"200": 30}
    assert (line["delivered"], line["missing"], line["out_of_place"], line["repeated"]) == (200, 0, 0, 0)
    # Which is told in milliseconds.
    assert line["elapsed_s"] == pytest.approx(200 / line["rate_per_s"], abs=0.001)
    assert line["batches"]["Settle"]["max"] > 1


def test_mixed_by_several_generators() -> None:
    line = bench("mixed", "--count", "401", "--window", "40", "--processes", "2")
    stored, registered = line["statuses"]["202"], line["statuses"]["200"]
    assert (stored + registered, stored) == (401, pytest.approx(0.6 * 401, abs=2))
    # At the end some are still away.
    assert line["delivered"] + line["missing"] == stored
    assert line["missing"] < 12
    assert line["out_of_place"] == 0
    assert line["deliver"]["p50_ms"] > 0
    assert line["store"].keys() == line["register"].keys() == {"p50_ms", "p90_ms", "p99_ms", "max_ms"}


def test_several_workers() -> None:
    line = bench(
        "deliver", "--count", "200", "--users", "20", "--window", "20", "--workers", "2", "--processes", "4",
    )  # fmt: skip
    assert (line["workers"], line["delivered"], line["out_of_place"], line["missing"]) == (2, 200, 0, 0)
    assert line["server_cpu_us"] > 0
    assert line["batches"] is None


def test_a_server_that_is_running(tmp_path: Path) -> None:
    with Service(tmp_path, storage="memory:") as service:
        line = bench("store", "--target", f"udp://127.0.0.1:{service.udp[1]}", "--count", "100", "--window", "10")
        by_tcp = bench("deliver", "--target", f"tcp://127.0.0.1:{service.tcp[1]}", "--count", "50", "--users", "5")
    assert line["statuses"] == {"202": 100}
    assert line["server_cpu_us"] is None
    assert line["batches"] is None
    assert by_tcp["delivered"] == 50


def test_no_line_has_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    setting = Setting(
        backend="asyncio", storage="postgresql://msilo:secret@db/msilo", target=None, transport="udp",
        domain="example.com", count=1, window=1, users=1, body_bytes=80, processes=1, batch_limit=1,
    )  # fmt: skip
    print_line("store", setting, {})
    assert json.loads(capsys.readouterr().out)["storage"] == "postgresql://msilo:***@db/msilo"


def test_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.traffic._WINDOWS", (8,))
    monkeypatch.setattr("bench.traffic._BATCH_LIMITS", (4,))
    path = tmp_path / "store.png"
    ran = CliRunner().invoke(store, ["--storage", "memory:", "--count", "60", "--plot", str(path)])
    assert ran.exit_code == 0, ran.output
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [(line["window"], line["batch_limit"]) for line in lines] == [(8, 512), (256, 4)]
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_store_that_cannot_be_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    ran = CliRunner().invoke(store, ["--storage", "foo", "--count", "10"])
    assert ran.exit_code == 1
    assert "Traceback" not in (said := capfd.readouterr().err)
    assert "'foo' is not a storage URL" in said


def test_a_plot_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    ran = CliRunner().invoke(store, ["--storage", "memory:", "--plot", str(tmp_path / "missing" / "store.png")])
    assert ran.exit_code == 1
    assert ran.output.startswith("Error: ")
    assert "create" in ran.output
