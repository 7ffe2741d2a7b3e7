"""Defects that somebody could make, as patches: the simulator is worth what it finds of them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["PATCHES", "catch"]

_ROOT: Final = Path(__file__).parents[2]
PATCHES: Final = sorted((Path(__file__).parent / "mutants").glob("*.patch"))
_NEEDED: Final = ("msilo_core", "storage", "runners", "examples", "fuzz", "tests/core", "tests/sim")


def catch(patch: Path, seeds: int) -> str:
    """Tell stories with a defect until one breaks a promise; return which and how, or an empty string if none does."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in _NEEDED:
            shutil.copytree(_ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "corpus"))
        subprocess.run(["git", "apply", str(patch)], cwd=copy, check=True)
        path = os.pathsep.join(str(copy / part) for part in ("", "runners", "storage"))
        command = [sys.executable, "-m", "tests.sim", "run", "--seeds", str(seeds), "--finds", "1", "--no-keep"]
        ran = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
    found = [line for line in ran.stderr.splitlines() if line.startswith("seed ")]
    if not found and ran.returncode:
        raise RuntimeError(ran.stderr)
    return found[0] if found else ""
