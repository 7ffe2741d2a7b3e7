"""Octets for the parser's tests, each fed whole, one at a time and cut at each place."""

import time
from collections.abc import Callable, Iterator

from msilo_core.framing import Keepalive, Malformed, StreamFramer, frame_datagram
from msilo_core.limits import Limits
from msilo_core.message import Request, Response, parse_message

__all__ = ["Item", "Seen", "crlf", "framed", "growth", "request", "response", "seen"]

Item = Request | Response | Malformed | Keepalive
Seen = Request | Response | Keepalive | tuple[object, ...]

LIMITS = Limits()


def crlf(text: str) -> bytes:
    """Return the octets of a message written with plain line ends, its indentation taken off."""
    lines = text.lstrip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip(" "))
    return "\r\n".join(line[indent:] for line in lines).encode("utf-8", "surrogateescape")


def seen(item: Item) -> Seen:
    """Return a value that compares: an error has no equality of its own."""
    if isinstance(item, Malformed):
        return (type(item.error), str(item.error), item.error.status_hint, item.message, item.fatal)
    return item


def framed(data: bytes, limits: Limits = LIMITS) -> list[Item]:
    """Return what a stream of these octets holds, whatever the way that it is cut."""
    whole = StreamFramer(limits).receive(data)
    expected = [seen(item) for item in whole]
    for pieces in _cuts(data):
        framer = StreamFramer(limits)
        found = [seen(item) for piece in pieces for item in framer.receive(piece)]
        assert found == expected, [len(piece) for piece in pieces]
    return whole


def request(data: bytes, limits: Limits = LIMITS) -> Request:
    """Return a valid request: of a datagram and of a stream in every cut the same, with the same octets."""
    message = _parsed(data, limits)
    assert isinstance(message, Request)
    return message


def response(data: bytes, limits: Limits = LIMITS) -> Response:
    """Return a valid response as :func:`request` does a request."""
    message = _parsed(data, limits)
    assert isinstance(message, Response)
    return message


def growth(work: Callable[[int], object]) -> float:
    """Return how many times longer `work` takes for eight times the size: 8 if it is linear, 64 if quadratic."""
    small, large = 8_000, 64_000
    return _shortest(work, large) / max(_shortest(work, small), 1e-6)


def _shortest(work: Callable[[int], object], size: int) -> float:
    took: list[float] = []
    for _ in range(3):
        start = time.process_time()
        work(size)
        took.append(time.process_time() - start)
    return min(took)


def _parsed(data: bytes, limits: Limits) -> Request | Response:
    message = parse_message(data, limits)
    assert frame_datagram(data, limits) == message
    assert parse_message(message.serialise(), limits) == message
    if message.content_length is not None:
        assert framed(message.serialise(), limits) == [message]
    return message


def _cuts(data: bytes) -> Iterator[list[bytes]]:
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
