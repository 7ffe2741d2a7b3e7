"""The engine: a story of octets, completions and time, in any order, and what is promised whatever happens.

A story is text, so that a seed can be read and a find be understood: records between RECORD SEPARATORs (0x1E). The
first holds words that say how the engine is set up, see :data:`fuzz.world.SETTINGS` and what stands behind it there.
Each of the others is a letter, as many single figures as the step has arguments, and octets. The steps:

====== ===========================================================================================================
``M``  peer, sender, owner, number: the peer sends a MESSAGE; octets: its own header lines, an empty one, the body
``G``  peer, owner, number: the peer sends a REGISTER; octets: its own header lines, as Contact
``A``  n: a phone answers the request that the engine sent n requests ago; octets: status line and header lines
``B``  n: whoever got the request that was sent n requests ago sends it back
``U``  peer: a datagram of these octets
``S``  peer: these octets on the peer's stream
``O``  peer: its stream is opened
``K``  peer: its stream is closed
``E``  n: the store carries out the n-th of the actions that it was asked for, and says so later
``C``  n: it says what became of the n-th, which it carries out if it has not yet
``F``  n: it fails to
``X``  n: it carries it out, and says that it failed, as when a connection breaks
``P``  from here on the store does at once what it is asked for
``H``  from here on it does not
``N``  n: the request that was sent n requests ago could not be sent
``T``  octets: so many milliseconds pass, with every deadline on the way
``J``  octets: so many milliseconds pass in one leap, as when a machine slept
``D``  owner: the application asks for a delivery
``Z``  a graceful end begins
``Y``  its patience ends
====== ===========================================================================================================

Numbers beyond what there is count from the start again, so that nearly every record says something.
"""

from collections.abc import Callable
from typing import Final

from fuzz.octets import decoded
from fuzz.stories import SEPARATOR
from fuzz.world import Failure, World

__all__ = ["engine"]

_RECORDS_MAX: Final = 64
_LEAP_MS_MAX: Final = 300_000_000


def engine(data: bytes) -> None:
    """Tell a story to an engine, then let the store and time make an end of everything."""
    words, *records = data.split(SEPARATOR)[: _RECORDS_MAX + 1]
    world = World(frozenset(decoded(words).split()))
    for record in records:
        step = _STEPS.get(record[:1])
        if step is not None:
            figures, tell = step
            octets = record[1 : figures + 1].ljust(figures, b"0")
            tell(world, [(octet - ord("0")) % 10 for octet in octets], record[figures + 1 :])
            world.check()
    world.end()


def _message(world: World, figures: list[int], octets: bytes) -> None:
    peer, sender, owner, number = figures
    world.message(peer, sender, owner, number, decoded(octets))


def _register(world: World, figures: list[int], octets: bytes) -> None:
    peer, owner, number = figures
    world.register(peer, owner, number, decoded(octets))


def _answer(world: World, figures: list[int], octets: bytes) -> None:
    status_line, _, headers = decoded(octets).partition("\n")
    world.answer(figures[0], status_line, headers)


def _milliseconds(octets: bytes) -> int:
    digits = bytes(octet for octet in octets[:9] if octet in b"0123456789")
    return min(int(digits or b"0"), _LEAP_MS_MAX)


_STEPS: Final[dict[bytes, tuple[int, Callable[[World, list[int], bytes], None]]]] = {
    b"M": (4, _message),
    b"G": (3, _register),
    b"A": (1, _answer),
    b"B": (1, lambda world, figures, _: world.come_back(figures[0])),
    b"U": (1, lambda world, figures, octets: world.datagram(figures[0], octets)),
    b"S": (1, lambda world, figures, octets: world.stream(figures[0], octets)),
    b"O": (1, lambda world, figures, _: world.open(figures[0])),
    b"K": (1, lambda world, figures, _: world.close_stream(figures[0])),
    b"E": (1, lambda world, figures, _: world.carry_out(figures[0])),
    b"C": (1, lambda world, figures, _: world.complete(figures[0], Failure.NONE)),
    b"F": (1, lambda world, figures, _: world.complete(figures[0], Failure.NOT_DONE)),
    b"X": (1, lambda world, figures, _: world.complete(figures[0], Failure.DONE)),
    b"P": (0, lambda world, _, __: world.be_prompt(True)),
    b"H": (0, lambda world, _, __: world.be_prompt(False)),
    b"N": (1, lambda world, figures, _: world.fail_to_send(figures[0])),
    b"T": (0, lambda world, _, octets: world.pass_time(_milliseconds(octets))),
    b"J": (0, lambda world, _, octets: world.leap(_milliseconds(octets))),
    b"D": (1, lambda world, figures, _: world.dump(figures[0])),
    b"Z": (0, lambda world, _, __: world.close()),
    b"Y": (0, lambda world, _, __: world.abandon()),
}
"""By letter: how many figures it takes, and what it does."""
