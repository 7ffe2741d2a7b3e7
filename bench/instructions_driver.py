"""What the instruction counts are of: ``python -m bench.instructions_driver WORKLOAD COUNT``, run under callgrind.

Nothing but the workload itself may depend on COUNT, since the difference between two counts is what is measured.
"""

import random
import re
import sys
from collections.abc import Callable
from typing import Final

from bench import needed
from bench.messages import messages, registers
from msilo_core import Action, Config, Engine, Flow, LookedUp, LookUp, Moment, Send, Store, Stored

__all__ = ["COUNT_MAX", "REFERENCE", "WORKLOADS"]

COUNT_MAX: Final = 700

REFERENCE: Final = "reference"
"""The workload that all budgets are measured in."""


def reference(count: int) -> None:
    """What a parser in Python consists of, and none of it ours: splitting, patterns, dicts, numbers, calls, text.

    All budgets are multiples of its cost, so a change of anything in here voids them all.
    """
    for number in range(count):
        lines = _REFERENCE_TEXT.split("\r\n")
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            fields[name.lower()] = value.strip()
        total = 0
        for value in fields.values():
            match = _REFERENCE_PATTERN.fullmatch(value)
            if match is not None:
                word, digits = match.groups()
                total += int(digits) + len(word) + _reference_call(word, number)
        text = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
        octets = f"{text}Total: {total}\r\n".encode()
        assert octets.decode().endswith("\r\n")


def parse_message(count: int) -> None:
    """The needed fields of a MESSAGE."""
    parse, corpus = needed.message, messages(_CORPUS)
    for number in range(count):
        parse(corpus[number % _CORPUS])


def parse_register(count: int) -> None:
    """The needed fields of a REGISTER."""
    parse, corpus = needed.register, registers(_CORPUS)
    for number in range(count):
        parse(corpus[number % _CORPUS])


def store_message(count: int) -> None:
    """A MESSAGE for someone who is away, from the datagram to the 202, the store's answers at once."""
    corpus = messages(COUNT_MAX)
    engine = Engine(Config(), entropy=random.Random(1), now=_moment(0))
    for number in range(count):
        now = _moment(number)
        sent = [send for action in engine.receive_datagram(corpus[number], _FLOW, now)
                for send in _carry_out(engine, action, now)]  # fmt: skip
        assert len(sent) == 1, sent
        assert sent[0].startswith(b"SIP/2.0 202 "), sent


WORKLOADS: Final[dict[str, Callable[[int], None]]] = {
    REFERENCE: reference,
    "parse MESSAGE": parse_message,
    "parse REGISTER": parse_register,
    "store MESSAGE": store_message,
}
"""By name: what does the work so many times."""

_CORPUS = 50
_FLOW = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5070))
_EPOCH_MS = 1_795_391_912_000

_REFERENCE_TEXT = "\r\n".join(
    f"{name}: {word}={number}"
    for number, (name, word) in enumerate(
        zip(
            ("Alpha", "Beta", "Gamma", "Delta", "Epsilon", "Zeta", "Eta", "Theta", "Iota", "Kappa"),
            "abcdefghij",
            strict=True,
        )
    )
)
_REFERENCE_PATTERN = re.compile(r"([a-z]++)=([0-9]++)")


def _reference_call(word: str, number: int) -> int:
    return number % 7 if word < "e" else 1


def _moment(number: int) -> Moment:
    return Moment(number, _EPOCH_MS + number)


def _carry_out(engine: Engine, action: Action, now: Moment) -> list[bytes]:
    """Answer a storage action, and what comes of that; return the octets that are sent."""
    match action:
        case Send():
            return [action.data]
        case LookUp():
            actions = engine.complete(LookedUp(action.token, bindings=(), waiting=False), now)
        case Store():
            actions = engine.complete(Stored(action.token, message_id=now.mono_ms + 1), now)
        case _:
            raise AssertionError(f"what is {action} doing here? Teach the driver to answer it")
    return [send for action in actions for send in _carry_out(engine, action, now)]


if __name__ == "__main__":
    WORKLOADS[sys.argv[1]](int(sys.argv[2]))
