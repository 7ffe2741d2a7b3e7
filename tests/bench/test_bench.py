"""The benchmarks run: short ones, whose figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runners.service import Service
from tests.runners.tables import init

_ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> dict[str, Any]:
    """Run `python -m bench` and return its line."""
    ran = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=_ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    record: dict[str, Any] = json.loads(line)
    return record


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
