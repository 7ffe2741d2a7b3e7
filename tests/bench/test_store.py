"""The benchmarks of whole servers run: short ones, whose figures mean nothing."""

from pathlib import Path

import pytest

from tests.bench.command import bench
from tests.runners.service import Service
from tests.runners.tables import init


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_store(backend: str) -> None:
    line = bench("store", "--backend", backend, "--count", "400", "--window", "50", "--users", "7", "--body-bytes", "9")
    assert (line["backend"], line["count"], line["stored"]) == (backend, 400, 400)
    assert line["rate_per_s"] > 0
    assert 0 < line["p50_ms"] <= line["p90_ms"] <= line["p99_ms"] <= line["max_ms"]
    assert line["server_cpu_us"] > 0
    assert line["generator_cpu_us"] > 0
    assert 1 <= line["batch_mean"] <= line["batch_max"] <= 50


def test_store_on_postgresql(postgres_url: str) -> None:
    init(postgres_url)
    line = bench("store", "--storage", postgres_url, "--count", "200", "--window", "20")
    assert line["stored"] == 200


def test_compared_batch_limits() -> None:
    line = bench("store", "--count", "200", "--window", "20", "--compare-batch-limit", "1", "--rounds", "1")
    ((shared, alone),) = line["rounds"]
    assert alone["batch_max"] == 1
    assert shared["batch_max"] > 1
    assert line["rate_ratio"] == pytest.approx(shared["rate_per_s"] / alone["rate_per_s"], abs=0.01)


def test_a_server_that_is_running(tmp_path: Path) -> None:
    with Service(tmp_path, storage="memory:") as service:
        line = bench("store", "--target", f"udp://127.0.0.1:{service.udp[1]}", "--count", "100", "--window", "10")
    assert line["stored"] == 100
    assert line["server_cpu_us"] is None
