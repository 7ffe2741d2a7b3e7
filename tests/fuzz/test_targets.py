"""The fuzz targets hold on their seeds, on seeds that are cut and altered, and on a little of everything."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.stories import alter
from fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
SEEDS = [(target, seed) for target in TARGETS for seed in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize(("target", "seed"), SEEDS, ids=lambda value: value.name if isinstance(value, Path) else value)
def test_seed_and_what_is_near_it(target: str, seed: Path) -> None:
    data = seed.read_bytes()
    TARGETS[target](data)
    source = random.Random(seed.name)
    for _ in range(100):
        altered = bytearray(data)
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(len(altered))
            altered[at : at + source.randrange(3)] = source.randbytes(source.randrange(3))
            if not altered:
                break
        TARGETS[target](bytes(altered[: source.randrange(len(altered) + 1)]))


@pytest.mark.parametrize("seed", sorted((CORPUS / "engine").iterdir()), ids=lambda seed: seed.name)
def test_stories_like_it(seed: Path) -> None:
    source = random.Random(seed.name)
    story = seed.read_bytes()
    for _ in range(20):
        story = alter(story, source)
        TARGETS["engine"](story[:2_000])


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.binary(max_size=200))
def test_anything(target: str, data: bytes) -> None:
    TARGETS[target](data)
