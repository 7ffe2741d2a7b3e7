"""The event loop of a command."""

import gc
import importlib.util
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, TypeVarTuple, cast

import anyio

from msilo_runners.settings import Backend

__all__ = ["run"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

GC_THRESHOLDS: Final = (10_000, 10, 100)
"""For :func:`gc.set_threshold`: Python's own are (700, 10, 10).

What a request leaves behind holds no cycle, but is kept for the 32 s in which it may be repeated: the collector walked
over all of that again and again and found nothing, for a fifth of the CPU time, in pauses of a tenth of a second.
"""


def run(function: Callable[[*Ts], Awaitable[R]], *arguments: *Ts, backend: Backend = "asyncio") -> R:
    """Run `function` to its end on trio, or on asyncio with uvloop where that is installed."""
    gc.set_threshold(*GC_THRESHOLDS)
    options: dict[str, Any] = {}
    if backend == "asyncio":
        options["use_uvloop"] = importlib.util.find_spec("uvloop") is not None
    try:
        return anyio.run(function, *arguments, backend=backend, backend_options=options)
    except BaseExceptionGroup as group:
        raise _lone(group) from None


def _lone(group: BaseExceptionGroup[BaseException]) -> BaseException:
    # Task groups wrap what passes through them; the operator is told of the error, not of its way.
    if len(group.exceptions) != 1:
        return group
    error = group.exceptions[0]
    if not isinstance(error, BaseExceptionGroup):
        return error
    return _lone(cast("BaseExceptionGroup[BaseException]", error))
