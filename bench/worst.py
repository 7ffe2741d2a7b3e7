"""How long the worst inputs of 64 kB take in each parser."""

import contextlib
import gc
import heapq
import platform
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

import click
import msgspec

from bench import hostile
from bench.hostile import Recipe
from bench.parsers import Parser, discover
from msilo_core.errors import PeerError

__all__ = ["Worst", "accepts", "report", "worst_of"]

LIMIT_MS: Final = 50.0
"""The most that any input of 64 kB may take."""

SIZE: Final = 65_536

# Every recipe is tried at the two small sizes, the promising ones at the large ones.
# A head of 64 kB is refused early, so what is within the limits of a line and of a head is tried too.
_SMALL: Final = (1_024, 4_096)
_LARGE: Final = {"text": (SIZE,), "octets": (8_000, 32_000, SIZE)}
_CHOSEN: Final = 40
# Refused at once.
_NOTHING_MS: Final = 0.005
# What takes so long at the smallest size is slow, and need not be tried at the next.
_SLOW_MS: Final = 0.2
# Something else may have been in the way.
_TRIES: Final = 4


class Worst(msgspec.Struct, frozen=True):
    """The slowest input of a parser: how it is made, its size in characters, and CPU time."""

    parser: str
    recipe: str
    size: int
    ms: float


def report(only: str) -> None:
    """Print the slowest input of each parser whose name holds a text; exit 1 if one takes too long."""
    parsers = [parser for parser in discover() if only in parser.name]
    if not parsers:
        raise click.UsageError(f"no parser has {only!r} in its name")
    with click.progressbar(parsers, label="worst cases", file=sys.stderr) as bar:
        found = [worst_of(parser) for parser in bar]
    found.sort(key=lambda worst: -worst.ms)
    for worst in found:
        click.echo(f"{worst.ms:8.2f} ms  {worst.parser:32} {worst.size:6}  {worst.recipe}", err=True)
    line = {
        "benchmark": "parse --worst",
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "max_ms": found[0].ms,
        "limit_ms": LIMIT_MS,
        "worst": found,
    }
    click.echo(msgspec.json.encode(line).decode())
    too_slow = [worst.parser for worst in found if worst.ms > LIMIT_MS]
    if too_slow:
        raise click.ClickException(f"over {LIMIT_MS:g} ms: {', '.join(too_slow)}")


def worst_of(parser: Parser, small: tuple[int, int] = _SMALL, large: tuple[int, ...] | None = None) -> Worst:
    """Return the slowest input of a parser."""
    gc.collect()
    gc.freeze()
    recipes = hostile.of_text(lambda text: accepts(parser, text)) if parser.takes == "text" else hostile.of_octets()
    chosen = _promising(parser, recipes, small)
    worst = _slowest(parser, chosen, _LARGE[parser.takes] if large is None else large)
    gc.unfreeze()
    return worst


def accepts(parser: Parser, text: str) -> bool:
    """Say whether a parser of a value takes a text."""
    try:
        made = parser.make(text)
        if made is not None:
            parser.work(made)
    except PeerError:
        return False
    return made is not None


def _promising(parser: Parser, recipes: Iterable[Recipe], sizes: tuple[int, int]) -> list[Recipe]:
    """Return the recipes that take longest at a small size, those whose time grew most, and of each piece the slowest.

    The last, since a recipe that soon runs into a limit may be the slower one while it is short.
    """
    slow: list[tuple[float, Recipe]] = []
    growing: list[tuple[float, Recipe]] = []
    for recipe in recipes:
        less_ms = _time_ms(parser, recipe, sizes[0])
        growth = sizes[1] / sizes[0]
        if less_ms < _SLOW_MS:
            growth = _time_ms(parser, recipe, sizes[1]) / max(less_ms, _NOTHING_MS)
        slow.append((max(less_ms, _NOTHING_MS) * growth, recipe))
        growing.append((growth, recipe))
    pieces: dict[str, tuple[float, Recipe]] = {}
    for ms, recipe in slow:
        pieces[recipe.piece] = max(pieces.get(recipe.piece, (ms, recipe)), (ms, recipe), key=_first)
    chosen = [*heapq.nlargest(_CHOSEN, slow, key=_first), *heapq.nlargest(_CHOSEN, growing, key=_first)]
    return [recipe for _, recipe in chosen + list(pieces.values())]


def _first(pair: tuple[float, Recipe]) -> float:
    return pair[0]


def _slowest(parser: Parser, recipes: list[Recipe], sizes: tuple[int, ...]) -> Worst:
    """Return the slowest, by the least of several times: the slowest of once is timed again until it has stayed so."""
    turns = [(recipe, size) for recipe in dict.fromkeys(recipes) for size in sizes]
    queue = [(-_time_ms(parser, *turn), number, False) for number, turn in enumerate(turns)]
    heapq.heapify(queue)
    while True:
        negative_ms, number, is_settled = heapq.heappop(queue)
        recipe, size = turns[number]
        if is_settled:
            return Worst(parser.name, str(recipe), size, round(-negative_ms, 3))
        ms = min(-negative_ms, *(_time_ms(parser, recipe, size) for _ in range(_TRIES)))
        heapq.heappush(queue, (-ms, number, True))


def _time_ms(parser: Parser, recipe: Recipe, size: int) -> float:
    """Return the CPU time of one input; 0 if the value that is to be asked cannot be made from it."""
    data: Any = recipe.text(size) if parser.takes == "text" else recipe.octets(size)
    try:
        made = parser.make(data)
    except PeerError:
        return 0.0
    if made is None:
        return 0.0
    began_ns = time.process_time_ns()
    with contextlib.suppress(PeerError):
        parser.work(made)
    return (time.process_time_ns() - began_ns) / 1e6
