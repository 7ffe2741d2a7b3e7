"""The event loop of a command."""

import importlib.util
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple, cast

import anyio

from msilo_runners.settings import Backend

__all__ = ["run"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


def run(function: Callable[[*Ts], Awaitable[R]], *arguments: *Ts, backend: Backend = "asyncio") -> R:
    """Run `function` to its end on trio, or on asyncio with uvloop where that is installed."""
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
