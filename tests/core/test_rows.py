"""Rows of the table silo and the MESSAGEs they come from and become."""

import msgspec
import pytest

from msilo_core import Aor, Flow, Message, ParseError, SiloConfig
from msilo_core.rows import AlreadyExpired, row_of, serialise_row
from msilo_core.targets import Target
from tests.core.wire import request
from tests.core.world import World, body_of, header, message

BOB = Aor("bob", "example.com")
NOW = World().now
FLOW = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5072))
TARGET = Target("sip:bob@h", "sip:bob@h", FLOW, "<sip:p;lr>")
VIA = "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx"

# As Kamailio leaves it: nothing in the columns that are ours.
KAMAILIOS = Message(
    owner=BOB,
    src_addr="sip:alice@example.com",
    dst_addr="sip:bob@example.com",
    inc_time_s=1_795_391_912,
    exp_time_s=2**40,
    body=b"hi",
    message_id=7,
)


def delivered(row: Message, config: SiloConfig | None = None) -> bytes:
    data = serialise_row(row, config if config is not None else SiloConfig(), lambda _: True, TARGET, VIA)
    request(data)
    return data


def test_row_of_kamailio_is_a_whole_message() -> None:
    data = delivered(KAMAILIOS)
    assert header(data, "From").startswith("<sip:alice@example.com>;tag=")
    assert header(data, "To") == "<sip:bob@example.com>"
    assert header(data, "CSeq") == "1 MESSAGE"
    assert header(data, "Date") == "Sun, 22 Nov 2026 23:58:32 GMT"
    assert header(data, "Route") == "<sip:p;lr>"
    assert b"Content-Type" not in data
    assert body_of(data) == b"hi"
    # At each attempt the same identity, so that a phone can tell.
    assert delivered(KAMAILIOS) == data
    other = msgspec.structs.replace(KAMAILIOS, message_id=8)
    assert header(delivered(other), "Call-ID") != header(data, "Call-ID")


def test_sender_without_a_tag_gets_one() -> None:
    row = row_of(request(message().replace(b";tag=f1", b"")), BOB, "sip:a@b", "sip:c@d", 0, 0, (), SiloConfig(), NOW)
    assert row.from_tag == ""
    assert header(delivered(row), "From").startswith('"Alice" <sip:alice@example.com>;tag=')


@pytest.mark.parametrize(
    ("ctype", "body"),
    [
        ("text/plain", b"[Offline message - Sun Nov 22 23:58:32 2026] hi"),
        ("Text/Plain", b"[Offline message - Sun Nov 22 23:58:32 2026] hi"),
        ("text/plain;charset=UTF-8", b"hi"),
        ("message/cpim", b"hi"),
    ],
)
def test_date_before_plain_text_alone(ctype: str, body: bytes) -> None:
    row = msgspec.structs.replace(KAMAILIOS, ctype=ctype)
    assert body_of(delivered(row, SiloConfig(add_date=1))) == body


@pytest.mark.parametrize(
    "line", ['Content-Type: text/plain;x="\udcff"', 'Content-Type: text/plain;x="\\\0"', "Date: \udcff"]
)
def test_text_columns_hold_text(line: str) -> None:
    data = message().replace(b"Content-Type: text/plain", line.encode("utf-8", "surrogateescape"))
    with pytest.raises(ParseError):
        row_of(request(data), BOB, "sip:a@b", "sip:c@d", 0, 0, (), SiloConfig(), NOW)


def test_text_beyond_ascii_is_text() -> None:
    data = message().replace(b"text/plain", 'text/plain;x="é"'.encode())
    assert row_of(request(data), BOB, "sip:a@b", "sip:c@d", 0, 0, (), SiloConfig(), NOW).ctype == 'text/plain;x="é"'


def test_expires_shortens_and_never_lengthens() -> None:
    def lifetime(headers: str) -> int:
        row = row_of(request(message(headers=headers)), BOB, "sip:a@b", "sip:c@d", 0, 0, (), SiloConfig(), NOW)
        return row.exp_time_s - NOW.unix_s

    assert (lifetime(""), lifetime("Expires: 10\r\n"), lifetime("Expires: 999999\r\n")) == (259_200, 10, 259_200)
    with pytest.raises(AlreadyExpired):
        lifetime("Expires: 0\r\n")
