"""The benchmarks as they are run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["bench", "bench_lines"]

_ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> dict[str, Any]:
    """Run `python -m bench` and return its only line."""
    (line,) = bench_lines(*arguments)
    return line


def bench_lines(*arguments: str) -> list[dict[str, Any]]:
    """Run `python -m bench` and return its lines."""
    ran = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=_ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]
