"""Fixtures for tests that break things."""

import random

import pytest


@pytest.fixture
def chance() -> random.Random:
    """What decides when something breaks: another way in each run, and printed, so that it can be looked at again."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)
