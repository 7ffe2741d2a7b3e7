"""What the instruction counts are of: ``python -m bench.instructions_driver WORKLOAD COUNT``, run under callgrind.

Nothing but the workload itself may depend on COUNT, since the difference between two counts is what is measured.
"""

import random
import re
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

from bench import needed
from bench.messages import messages, registers
from msilo_core import (
    Action,
    Bind,
    Bound,
    Config,
    Dump,
    Dumped,
    Engine,
    Flow,
    LookedUp,
    LookUp,
    Message,
    Moment,
    Send,
    Settle,
    Settled,
    Store,
    Stored,
    parse_aor,
)

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
    _store(messages(COUNT_MAX), count)


def store_relayed_message(count: int) -> None:
    """The same, of a MESSAGE that came by way of a proxy, which put a Via on top of the phone's."""
    via = b"Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK%08x.0"
    relayed = [
        data.replace(b"Via: ", via % number + b"\r\nVia: ", 1).replace(
            b";rport", b";received=198.51.100.7;rport=5060", 1
        )
        for number, data in enumerate(messages(COUNT_MAX))
    ]
    _store(relayed, count)


def bind_register(count: int) -> None:
    """A REGISTER that nothing waits for, from the datagram to the 200, the store's answer at once."""
    corpus, engine = registers(COUNT_MAX), _engine()
    for number in range(count):
        sent = _receive(engine, corpus[number], number)
        assert len(sent) == 1, sent
        assert sent[0].startswith(b"SIP/2.0 200 "), sent


def deliver_message(count: int) -> None:
    """A stored MESSAGE, from the store's answer to a Dump to the record that the phone's 200 came; in full pages."""
    engine = _engine()
    waiting = deque([_row(number) for number in range(COUNT_MAX)][:count])
    sent = _receive(engine, registers(1)[0], 0, waiting)
    for number in range(count):
        data = sent[-1]
        assert data.startswith(b"MESSAGE "), sent
        copied = data[data.index(b"Via: ") : data.index(b"Date: ")]
        sent = _receive(engine, b"SIP/2.0 200 OK\r\n%bContent-Length: 0\r\n\r\n" % copied, number, waiting)
    assert engine.statistics.dumped_messages == count
    assert not sent, sent


WORKLOADS: Final[dict[str, Callable[[int], None]]] = {
    REFERENCE: reference,
    "parse MESSAGE": parse_message,
    "parse REGISTER": parse_register,
    "store MESSAGE": store_message,
    "store relayed MESSAGE": store_relayed_message,
    "bind REGISTER": bind_register,
    "deliver MESSAGE": deliver_message,
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


def _store(corpus: list[bytes], count: int) -> None:
    engine = _engine()
    for number in range(count):
        sent = _receive(engine, corpus[number], number)
        assert len(sent) == 1, sent
        assert sent[0].startswith(b"SIP/2.0 202 "), sent


def _engine() -> Engine:
    return Engine(Config(), entropy=random.Random(1), now=_moment(0))


def _moment(number: int) -> Moment:
    return Moment(number, _EPOCH_MS + number)


def _row(number: int) -> Message:
    return Message(
        owner=parse_aor("bob@example.com"), src_addr="sip:alice@example.com", dst_addr="sip:bob@example.com",
        inc_time_s=_EPOCH_MS // 1000 - 60, exp_time_s=_EPOCH_MS // 1000 + 86_400, ctype="text/plain;charset=utf-8",
        body=b"The quick brown fox jumps over the lazy dog, and nobody is there to see how it is done.",
        extra_hdrs="User-Agent: Desk Phone 5.2.6 (x86_64 Linux)\r\n", callid=f"{number:030x}@192.0.2.17", cseq=1,
        from_tag=f"{number:010x}", from_hdr=f'"Alice" <sip:alice@example.com>;tag={number:010x}',
        to_hdr="<sip:bob@example.com>", date_hdr="Sun, 22 Nov 2026 23:58:32 GMT", message_id=number + 1,
    )  # fmt: skip


def _receive(engine: Engine, data: bytes, number: int, waiting: deque[Message] | None = None) -> list[bytes]:
    """Return what is sent when a datagram has come, and the store has done what that asks of it."""
    now = _moment(number)
    actions = engine.receive_datagram(data, _FLOW, now)
    return [send for action in actions for send in _carry_out(engine, action, now, waiting)]


def _carry_out(engine: Engine, action: Action, now: Moment, waiting: deque[Message] | None) -> list[bytes]:
    """Answer a storage action, and what comes of that; return the octets that are sent."""
    match action:
        case Send():
            return [action.data]
        case LookUp():
            actions = engine.complete(LookedUp(action.token, bindings=(), waiting=False), now)
        case Store():
            actions = engine.complete(Stored(action.token, message_id=now.mono_ms + 1), now)
        case Bind():
            actions = engine.complete(Bound(action.token, action.contacts, waiting=bool(waiting)), now)
        case Dump():
            assert waiting is not None
            page = tuple([waiting.popleft() for _ in range(min(action.messages_max, len(waiting)))])
            actions = engine.complete(Dumped(action.token, page), now)
        case Settle():
            actions = engine.complete(Settled(action.token), now)
        case _:
            raise AssertionError(f"what is {action} doing here? Teach the driver to answer it")
    return [send for action in actions for send in _carry_out(engine, action, now, waiting)]


if __name__ == "__main__":
    WORKLOADS[sys.argv[1]](int(sys.argv[2]))
