"""Defects that somebody could make, as patches: the simulator is worth what it finds of them.

The first line of a patch names the promise that it breaks, and says how.
"""

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
    """Tell stories with a defect until one breaks the promise.

    Returns:
        Which and how, or an empty string if none does.

    Raises:
        RuntimeError: something else is broken by it.
    """
    promise = patch.read_text().partition(":")[0]
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
    found = next((line for line in ran.stderr.splitlines() if line.startswith("seed ")), "")
    if ran.returncode and f" breaks {promise}: " not in found:
        raise RuntimeError(found or ran.stderr)
    return found
