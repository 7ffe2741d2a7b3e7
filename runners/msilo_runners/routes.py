"""Route functions of the operator's own: found by name, and complained about when they raise."""

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from msilo_core import Call, Route
from msilo_runners.errors import SettingsError
from msilo_runners.logs import Throttle

__all__ = ["load_route", "with_log"]

logger = logging.getLogger(__name__)


def load_route(name: str) -> Route:
    """Return an instance of a class such as ``my_routes:MyRoute``, of a module that is installed or lies here.

    Raises:
        SettingsError: there is no such class, or it is no route.
    """
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name.isidentifier():
        raise SettingsError(f"route {name!r} names no class: give MODULE:CLASS, such as my_routes:MyRoute")
    here = str(Path.cwd())
    if here not in sys.path:
        # As `python -m` does: a program that was installed does not look here.
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # Whatever a module of the operator's raises is about it.
        raise SettingsError(f"route {name!r}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    kind = getattr(module, class_name, None)
    if not isinstance(kind, type):
        raise SettingsError(f"route {name!r}: {module_name} has no class {class_name}")
    missing = [part for part in ("uses_location", "request_route", "failure_route") if not hasattr(kind, part)]
    if missing:
        raise SettingsError(f"route {name!r} is no route: it lacks {', '.join(missing)}; derive it from ServerRoute")
    try:
        route: Route = kind()
    except Exception as error:
        raise SettingsError(f"route {name!r}: cannot make one: {type(error).__name__}: {error}") from error
    return route


def with_log(route: Route) -> Route:
    """Return `route` with a line in the log, and the traceback, for what its functions raise.

    The engine answers 500 and counts it in `Statistics.route_errors`, but has no log. The sender of a request may bring
    it on again and again: see :class:`msilo_runners.logs.Throttle`.
    """
    throttle = Throttle()
    raised = 0

    def run(function: Callable[[Call], None], call: Call) -> None:
        nonlocal raised
        try:
            function(call)
        except Exception:
            raised += 1
            if throttle.admit():
                logger.exception("bug: a route function raised; %d times so far", raised)
            raise

    class WithLog:
        uses_location: ClassVar[bool] = route.uses_location

        def request_route(self, call: Call) -> None:
            run(route.request_route, call)

        def failure_route(self, call: Call) -> None:
            run(route.failure_route, call)

    return WithLog()
