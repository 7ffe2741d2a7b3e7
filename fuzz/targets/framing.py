"""Datagrams and streams: however a stream is cut, the messages are the same, and none is kept that is too long."""

import random
from collections.abc import Iterator
from typing import Final, TypeAlias

from msilo_core.framing import Keepalive, Malformed, StreamFramer, frame_datagram
from msilo_core.limits import Limits
from msilo_core.message import Request, Response

__all__ = ["framing"]

Framed: TypeAlias = Request | Response | Malformed | Keepalive

_LIMITS: Final = (
    Limits(),
    Limits(message_bytes_max=400, head_bytes_max=350, line_bytes_max=80, headers_max=10, body_bytes_max=60),
)


def framing(data: bytes) -> None:
    """The first octet says by which limits the rest is read, and how it is cut on a stream."""
    if not data:
        return
    seed, data = data[0], data[1:]
    limits = _LIMITS[seed % len(_LIMITS)]
    frame_datagram(data, limits)
    whole = StreamFramer(limits)
    expected = whole.receive(data)
    for pieces in (_evenly(data, 1 + seed // 2), _anyhow(data, seed)):
        framer = StreamFramer(limits)
        found = [framed for piece in pieces for framed in framer.receive(piece)]
        assert list(map(_shown, found)) == list(map(_shown, expected)), data
        assert framer.pending_bytes == whole.pending_bytes, data
    assert whole.pending_bytes <= min(len(data), limits.message_bytes_max), data
    for framed in expected:
        if isinstance(framed, Request | Response):
            assert frame_datagram(framed.serialise(), limits) == framed, data
    if any(isinstance(framed, Malformed) and framed.fatal for framed in expected):
        assert not whole.receive(data), "nobody knows where a message begins behind a fatal one"


def _evenly(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def _anyhow(data: bytes, seed: int) -> Iterator[bytes]:
    source = random.Random(seed)
    while data:
        size = source.randrange(1, len(data) + 1)
        yield data[:size]
        data = data[size:]


def _shown(framed: Framed) -> object:
    """Return a value that compares: an error has no equality of its own."""
    match framed:
        case Malformed(error=error, message=message, fatal=fatal):
            return type(error), str(error), fatal, None if message is None else message.serialise()
        case Keepalive():
            return framed
        case _:
            return framed.serialise()
