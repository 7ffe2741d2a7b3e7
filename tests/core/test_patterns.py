"""What holds for every pattern of the core, whatever it is for."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import msilo_core


def parts_of(value: Any) -> list[Any]:
    return list(value) if type(value) in (tuple, list) else [value]


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    for module_info in pkgutil.walk_packages(msilo_core.__path__, "msilo_core."):
        module: dict[str, Any] = vars(importlib.import_module(module_info.name))
        for name, value in module.items():
            for pattern in parts_of(value):
                if isinstance(pattern, re.Pattern):
                    yield f"{module_info.name}.{name}", pattern


def possessive_groups(parsed: Any) -> list[Any]:
    """Return what is repeated possessively in a parsed pattern and is more than a character or a class of them."""
    found: list[Any] = []
    for operation, argument in parsed:
        if str(operation) == "POSSESSIVE_REPEAT":
            body = list(argument[2])
            if len(body) > 1 or str(body[0][0]) not in ("IN", "LITERAL", "NOT_LITERAL", "ANY"):
                found.append(body)
        for part in parts_of(argument):
            for branch in parts_of(part):
                if type(branch).__name__ == "SubPattern":
                    found += possessive_groups(branch)
    return found


def test_there_are_patterns() -> None:
    assert len(dict(patterns())) > 50


@pytest.mark.parametrize(("name", "pattern"), [pytest.param(*item, id=item[0]) for item in patterns()])
def test_no_group_is_possessive(name: str, pattern: re.Pattern[Any]) -> None:
    """CPython issue 106052: before 3.11.5 one that matches in part leaves the place where it was not given back."""
    # The parser is the one that re itself uses, under whatever name.
    parse: Any = importlib.import_module("re._parser").parse
    assert possessive_groups(parse(pattern.pattern, pattern.flags)) == [], name


@pytest.mark.parametrize("group", ["(?:ab)*+", "x|(y(?:ab)?+)", "(?=(?:ab)++)", "(?>(?:a(?:bc)?+)*)"])
def test_a_group_that_is_possessive_would_be_found(group: str) -> None:
    parse: Any = importlib.import_module("re._parser").parse
    assert possessive_groups(parse(group)) != []
