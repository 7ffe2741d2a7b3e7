"""Route functions of the operator's own, found by name."""

import importlib
import sys
from pathlib import Path

from msilo_core import Route
from msilo_runners.errors import SettingsError

__all__ = ["load_route"]


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
