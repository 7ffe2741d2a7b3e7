"""Stories that broke a promise once hold now, and so do some more; what breaks one is found, made short and kept."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msilo_core.rows import serialise_row
from tests.sim.mutants import PATCHES
from tests.sim.scenario import draw
from tests.sim.shrink import shrink
from tests.sim.trace import read, write
from tests.sim.world import tell

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize("story", sorted((HERE / "stories").glob("*.jsonl")), ids=lambda file: file.stem)
def test_what_was_broken_once_holds(story: Path) -> None:
    result = tell(read(story))
    assert not result.promise, result.text


@pytest.mark.parametrize("first", range(0, 50, 5))
def test_promises_hold(first: int) -> None:
    for seed in range(first, first + 5):
        result = tell(draw(seed))
        assert not result.promise, f"seed {seed}: {result.text}"
        assert (
            sum(result.counts[end] for end in ("delivered", "refused", "expired", "removed", "not accepted"))
            == (result.counts["messages"])
        )


def test_all_kinds_of_faults_strike() -> None:
    kinds = {kind for seed in range(40) for kind in tell(draw(seed)).faults}
    assert kinds == {
        *("loss", "repeat", "delay", "cut", "answer"),
        *("store fail", "store lost", "store slow", "store row", "store late", "store freeze"),
    }


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_one_seed_tells_one_story(hash_seed: str) -> None:
    script = (
        "import hashlib; from tests.sim.scenario import draw; from tests.sim.world import tell;"
        "notes = [tell(draw(seed), is_noted=True).notes for seed in (1, 4, 9)];"
        "print(hashlib.sha256(repr(notes).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        ).stdout
        for env in (environment, {**environment, "PYTHONHASHSEED": "3"})
    }
    assert len(digests) == 1


def test_a_defect_is_found_and_the_story_made_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def with_an_octet_more(*values: Any) -> bytes:
        return serialise_row(*values) + b"!"

    monkeypatch.setattr("msilo_core.silo.serialise_row", with_an_octet_more)
    result = tell(draw(4))
    assert (result.promise, result.text[:8]) == ("P7", "message ")
    short = shrink(draw(4), "P7")
    assert len(short.letters) == 1
    assert not short.faults or short.only == ()
    file = tmp_path / "finds" / "seed-4.jsonl"
    write(file, short, tell(short, is_noted=True))
    assert read(file) == short
    assert tell(read(file)).promise == "P7"
    monkeypatch.undo()
    assert not tell(read(file)).promise


@pytest.mark.parametrize("patch", PATCHES, ids=lambda file: file.stem)
def test_patches_apply(patch: Path) -> None:
    subprocess.run(["git", "apply", "--check", str(patch)], cwd=ROOT, check=True)
