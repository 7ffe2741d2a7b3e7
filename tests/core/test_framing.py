"""Datagrams and streams to messages (RFC 3261 sections 7.5, 18.3 and 20.14)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.compose import build_response
from msilo_core.errors import (
    BodyTooLong,
    HeadTooLong,
    LineTooLong,
    MessageTooLong,
    ParseError,
    PeerError,
    TooManyHeaders,
    Unsupported,
)
from msilo_core.framing import KEEPALIVE, Malformed, StreamFramer, frame_datagram
from msilo_core.limits import Limits
from msilo_core.message import Request, Response, parse_message
from tests.core.wire import Item, crlf, framed, growth, seen

PING = b"\r\n\r\n"

MESSAGE = crlf("""
    MESSAGE sip:bob@example.com SIP/2.0
    Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1
    From: <sip:alice@example.com>;tag=1
    To: <sip:bob@example.com>
    Call-ID: 1@192.0.2.1
    CSeq: 1 MESSAGE
    Content-Length: 5

    Hello""")

OK = crlf("""
    SIP/2.0 200 OK
    v: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK2
    f: <sip:alice@example.com>;tag=1
    t: <sip:bob@example.com>;tag=2
    i: 2@192.0.2.9
    CSeq: 1 MESSAGE
    l: 0

    """)

HEAD_BYTES = MESSAGE.index(PING)


def malformed(item: object, error: type[PeerError], *, fatal: bool = False) -> Request | Response | None:
    """Check that `item` is malformed in that way and return what could be made out."""
    assert isinstance(item, Malformed)
    assert type(item.error) is error
    assert item.fatal is fatal
    return item.message


# -- Datagrams ---------------------------------------------------------------------------------------------------------


def test_a_datagram_holds_one_message() -> None:
    assert frame_datagram(MESSAGE) == parse_message(MESSAGE)
    assert frame_datagram(OK) == parse_message(OK)
    assert frame_datagram(b"\r\n" + MESSAGE) == parse_message(MESSAGE)


@pytest.mark.parametrize("data", [b"", b"\r\n", PING, PING * 9, b"\n", b"\r"])
def test_a_datagram_of_line_ends_keeps_a_binding_alive(data: bytes) -> None:
    assert frame_datagram(data) is KEEPALIVE


def test_without_a_content_length_the_body_is_the_rest() -> None:
    message = frame_datagram(MESSAGE.replace(b"Content-Length: 5\r\n", b"") + b" Bob\r\n")

    assert isinstance(message, Request)
    assert message.body == b"Hello Bob\r\n"


def test_what_is_behind_the_body_is_cut_off() -> None:
    assert frame_datagram(MESSAGE + b" Bob" + MESSAGE) == parse_message(MESSAGE)


@pytest.mark.parametrize("length", ["6", "99999", "-5", "five", "", "5, 5", "5\r\nl: 5", "99999999999999999999"])
def test_a_body_that_is_not_all_there_is_answered(length: str) -> None:
    item = frame_datagram(MESSAGE.replace(b"h: 5", f"h: {length}".encode()))

    request = malformed(item, ParseError)
    assert isinstance(request, Request)
    assert build_response(request, 400, "Bad Request").startswith(
        b"SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/TCP 192.0.2.1;"
    )


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"SIP/2.0\r\n", b"SIP/3.0\r\n", Unsupported),
        (b"sip:bob@example.com SIP", b"tel:+1201 SIP", Unsupported),
        (b"To: <sip:bob@example.com>", b"To: Bob, <sip:bob@example.com>", ParseError),
        (b"SIP/2.0\r\n", b"SIP/2.0  \r\n", ParseError),
    ],
)
def test_an_invalid_request_can_be_answered(old: bytes, new: bytes, error: type[PeerError]) -> None:
    assert isinstance(malformed(frame_datagram(MESSAGE.replace(old, new, 1)), error), Request)


def test_an_invalid_response_is_told_from_a_request() -> None:
    assert isinstance(malformed(frame_datagram(OK.replace(b"200", b"999", 1)), ParseError), Response)


@pytest.mark.parametrize(
    "data", [b"\0\0\0\0", b"hello", b"jaK", b"\x16\x03\x01\x02", MESSAGE[:HEAD_BYTES], b"a b\r\n\r\n"]
)
def test_garbage_has_nobody_to_answer(data: bytes) -> None:
    assert malformed(frame_datagram(data), ParseError) is None


def test_the_limits_of_a_datagram() -> None:
    for name, size, error in (
        ("message_bytes_max", len(MESSAGE), MessageTooLong),
        ("head_bytes_max", HEAD_BYTES, HeadTooLong),
        ("body_bytes_max", 5, BodyTooLong),
        ("line_bytes_max", len(b"Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1"), LineTooLong),
    ):
        assert frame_datagram(MESSAGE, Limits(**{name: size})) == parse_message(MESSAGE)
        assert malformed(frame_datagram(MESSAGE, Limits(**{name: size - 1})), error) is not None
    assert malformed(frame_datagram(MESSAGE, Limits(headers_max=5)), TooManyHeaders) is not None


def test_what_is_cut_off_does_not_count() -> None:
    assert frame_datagram(MESSAGE + b"x" * 1_000, Limits(message_bytes_max=len(MESSAGE))) == parse_message(MESSAGE)


# -- Streams -----------------------------------------------------------------------------------------------------------


def test_a_stream_holds_messages() -> None:
    message, ok = parse_message(MESSAGE), parse_message(OK)

    assert framed(MESSAGE) == [message]
    assert framed(MESSAGE + OK + MESSAGE) == [message, ok, message]
    assert framed(b"\r\n" + MESSAGE + b"\r\n" + OK + b"\r\n") == [message, ok]


@pytest.mark.parametrize(
    ("data", "items"),
    [
        (b"", []),
        (b"\r\n", []),
        (PING, [KEEPALIVE]),
        (PING + b"\r\n", [KEEPALIVE]),
        (PING * 3, [KEEPALIVE] * 3),
        (PING + MESSAGE + PING, [KEEPALIVE, parse_message(MESSAGE), KEEPALIVE]),
        # A pong, a message, a pong: no ping.
        (b"\r\n" + MESSAGE + b"\r\n" + MESSAGE, [parse_message(MESSAGE)] * 2),
    ],
)
def test_two_line_ends_between_messages_are_a_ping(data: bytes, items: list[Item]) -> None:
    assert framed(data) == items


def test_how_much_of_a_message_is_waiting() -> None:
    framer = StreamFramer()
    assert framer.pending_bytes == 0

    for at in range(1, len(MESSAGE)):
        assert framer.receive(MESSAGE[at - 1 : at]) == []
        assert framer.pending_bytes == at
    assert framer.receive(MESSAGE[-1:]) == [parse_message(MESSAGE)]
    assert framer.pending_bytes == 0
    framer.receive(OK + PING + b"\r\n")
    assert framer.pending_bytes == 0
    framer.receive(b"MES")
    assert framer.pending_bytes == 3


def test_after_an_invalid_message_the_stream_goes_on() -> None:
    first, second, third = framed(MESSAGE.replace(b"CSeq: 1 M", b"CSeq: 1 Z") + OK.replace(b"i:", b"j:") + MESSAGE)

    assert isinstance(malformed(first, ParseError), Request)
    assert isinstance(malformed(second, ParseError), Response)
    assert third == parse_message(MESSAGE)
    (other,) = framed(MESSAGE.replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1))
    assert isinstance(malformed(other, Unsupported), Request)


@pytest.mark.parametrize("length", ["", "-5", "five", "5, 5", "5\r\nl: 5", "99999999999999999999"])
def test_nobody_knows_where_the_next_message_begins(length: str) -> None:
    (item,) = framed(MESSAGE.replace(b"h: 5", f"h: {length}".encode()) + MESSAGE)

    assert isinstance(malformed(item, ParseError, fatal=True), Request)


def test_a_stream_needs_a_content_length() -> None:
    (item,) = framed(MESSAGE.replace(b"Content-Length: 5\r\n", b"") + MESSAGE)

    assert isinstance(malformed(item, ParseError, fatal=True), Request)


@pytest.mark.parametrize(
    "start",
    [
        b"MESSAGE sip:bob@example.com SIP/2.0 ",
        b"MESSAGE  sip:bob@example.com SIP/2.0",
        b"MESSAGE sip:b ob SIP/2.0",
        b"MESSAGE  SIP/2.0",
        b"MESSAGE sip:bob@example.com SIP/2",
    ],
)
def test_behind_a_malformed_start_line_nothing_is_trusted(start: bytes) -> None:
    (item,) = framed(MESSAGE.replace(b"MESSAGE sip:bob@example.com SIP/2.0", start, 1) + MESSAGE)

    assert isinstance(malformed(item, ParseError, fatal=True), Request)


@pytest.mark.parametrize(
    ("body", "length", "is_made_out"),
    [
        (b"Hello", 3, True),
        (b"Hello Bob", 5, False),
        (b"Hello Bob", 3, True),
        (b"Hello\r\nBob", 3, False),
        (b"x", 0, True),
    ],
)
def test_a_content_length_that_is_too_small_makes_the_next_start_line_garbage(
    body: bytes, length: int, is_made_out: bool
) -> None:
    lying = MESSAGE.replace(b"h: 5", f"h: {length}".encode()).replace(b"Hello", body)
    first, second = framed(lying + MESSAGE + MESSAGE)

    assert isinstance(first, Request)
    assert first.body == body[:length]
    assert (malformed(second, ParseError, fatal=True) is not None) is is_made_out


@pytest.mark.parametrize(("old", "new"), [(b"1 MESSAGE", b"1 OPTIONS"), (b"1 MESSAGE", b"1"), (b"CSeq", b"X")])
def test_another_fault_in_a_request_does_not_end_its_stream(old: bytes, new: bytes) -> None:
    first, second = framed(MESSAGE.replace(old, new) + MESSAGE)

    malformed(first, ParseError)
    assert second == parse_message(MESSAGE)


def test_a_content_length_that_is_too_large_waits_for_more() -> None:
    framer = StreamFramer()

    assert framer.receive(MESSAGE.replace(b"h: 5", b"h: 6")) == []
    assert framer.pending_bytes == len(MESSAGE)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\0" + PING, b"hello\r\n\r\n", b"\n\r\n\r\n", b"\r\r\n\r\n\r\n", b"a: b\nc\r\n\r\n"]
)
def test_garbage_ends_a_stream(data: bytes) -> None:
    (item,) = framed(data + MESSAGE)

    assert malformed(item, ParseError, fatal=True) is None


def test_a_broken_stream_stays_broken() -> None:
    framer = StreamFramer()

    assert len(framer.receive(b"hello" + PING + MESSAGE)) == 1
    assert framer.receive(MESSAGE) == []
    assert framer.receive(PING) == []
    assert framer.pending_bytes == 0


def test_the_limits_of_a_stream() -> None:
    for name, size, error in (
        ("message_bytes_max", len(MESSAGE), MessageTooLong),
        ("head_bytes_max", HEAD_BYTES, HeadTooLong),
        ("body_bytes_max", 5, BodyTooLong),
        ("headers_max", 6, TooManyHeaders),
    ):
        assert framed(MESSAGE + MESSAGE, Limits(**{name: size})) == [parse_message(MESSAGE)] * 2
        (item,) = framed(MESSAGE + MESSAGE, Limits(**{name: size - 1}))
        malformed(item, error, fatal=True)
    # What is wrong with a line harms nobody else's message.
    longest = len(b"Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1")
    first, second = framed(MESSAGE + OK, Limits(line_bytes_max=longest - 1))
    assert isinstance(malformed(first, LineTooLong), Request)
    assert second == parse_message(OK)


def test_a_message_that_is_too_long_is_refused_before_its_body_has_come() -> None:
    head = MESSAGE.replace(b"h: 5", b"h: 65536")[: -len(b"Hello")]

    (item,) = framed(head)
    assert isinstance(malformed(item, BodyTooLong, fatal=True), Request)


def test_a_head_without_end_is_refused_as_soon_as_that_is_known() -> None:
    limits = Limits(head_bytes_max=100)
    framer = StreamFramer(limits)
    # The head may still have its 100 octets: the last three may begin the empty line.
    assert framer.receive(b"MESSAGE sip:" + b"a" * 88 + b"\r\n\r") == []
    assert framer.receive(b"\n") != []

    framer = StreamFramer(limits)
    assert framer.receive(b"MESSAGE sip:" + b"a" * 91) == []
    (item,) = framer.receive(b"a")
    assert malformed(item, HeadTooLong, fatal=True) is None


# -- Any octets --------------------------------------------------------------------------------------------------------

_PIECES = [
    MESSAGE, OK, MESSAGE[:HEAD_BYTES], MESSAGE[:40], MESSAGE[40:], b"Hello", PING, b"\r\n", b"\r", b"\n", b" ", b"\0",
    b"l: 3\r\n", b"l: 70000\r\n", b"M sip:a SIP/2.0\r\n", b"M sip:a SIP/2.0\r\nl: 2\r\n\r\nab",
    b"SIP/2.0 200 OK\r\nl: 0\r\n\r\n",
]  # fmt: skip
octets = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=3), max_size=8).map(b"".join)
LIMITS = Limits(head_bytes_max=300, body_bytes_max=100)


@given(octets)
def test_any_datagram_is_a_message_or_malformed(data: bytes) -> None:
    item = frame_datagram(data, LIMITS)

    if isinstance(item, Malformed):
        assert not item.fatal
        assert 400 <= item.error.status_hint < 600
    elif item is not KEEPALIVE:
        assert item.serialise() in data


@given(octets, st.lists(st.integers(0, 1_000), max_size=6))
def test_any_stream_gives_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    whole = StreamFramer(LIMITS)
    expected = [seen(item) for item in whole.receive(data)]
    pieces = StreamFramer(LIMITS)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [seen(item) for start, end in pairwise(places) for item in pieces.receive(data[start:end])]

    assert found == expected
    assert pieces.pending_bytes == whole.pending_bytes
    assert sum(isinstance(item, Malformed) and item.fatal for item in StreamFramer(LIMITS).receive(data)) <= 1


@pytest.mark.parametrize(
    "piece",
    [
        b"\r\n",
        PING,
        b"\r",
        b"\r\n\r",
        b"a",
        b"a: b\r\n",
        b"M sip:a SIP/2.0\r\nl: 2\r\n\r\nab",
        b"M sip:a SIP/2.0\r\nl: 0\r\n\r\n",
        b" ",
    ],
)
@pytest.mark.parametrize("start", [b"", b"M sip:a SIP/2.0\r\n", b"M sip:a SIP/2.0\r\nl: 4000\r\n\r\n"])
def test_a_hostile_stream_takes_linear_time(start: bytes, piece: bytes) -> None:
    limits = Limits(head_bytes_max=1_000_000, headers_max=1_000_000)

    def trickle(size: int) -> None:
        # One octet at a time: a framer that looks again at what it has would take quadratic time.
        framer = StreamFramer(limits)
        for octet in start + piece * (size // len(piece)):
            framer.receive(bytes((octet,)))

    def pour(size: int) -> None:
        StreamFramer(limits).receive(start + piece * (size // len(piece)))

    assert growth(trickle) < 32
    assert growth(pour) < 32
