"""How much: a little in every run of the tests, and all that is for the record with ``MSILO_FAULTS=full``."""

import os
from typing import Final, TypeVar

import pytest

__all__ = ["IS_FULL", "PATIENCE", "scaled"]

T = TypeVar("T")

IS_FULL: Final = os.environ.get("MSILO_FAULTS") == "full"

# Nothing here is about how fast the machine is: a test that takes so long hangs.
PATIENCE: Final = pytest.mark.timeout(3_600 if IS_FULL else 120)


def scaled(everyday: T, full: T) -> T:
    """Return the number for this run."""
    return full if IS_FULL else everyday
