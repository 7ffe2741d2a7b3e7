"""Who asked for which IMDN, and the IMDN itself; what RFC 5438 says of both is in tests/rfc/test_rfc5438.py."""

import pytest

from msilo_core.cpim import parse_cpim
from msilo_core.imdn import Disposition, Im, build_imdn, is_imdn, read_im
from tests.core.imdn import HEAD, TEXT, cpim, document


def without(name: str) -> str:
    return "".join([line for line in HEAD.splitlines(keepends=True) if f"{name}:" not in line])


def built(read: Im | None, disposition: Disposition = Disposition.STORED) -> bytes:
    """Return the IMDN that tells of a message."""
    assert read is not None
    return build_imdn(
        read, disposition, "d834", sender_uri="sip:a@example.com", recipient_uri="sip:b@example.com",
        stored_s=1_790_000_000, now_s=1_790_000_060,
    )  # fmt: skip


# -- What is read ------------------------------------------------------------------------------------------------------


def test_what_is_repeated() -> None:
    read = read_im("Message/CPIM; charset=utf-8", cpim())
    assert read == Im(
        asked=frozenset({"processing", "negative-delivery"}),
        message_id="34jk324j",
        date_time="2006-04-04T12:16:49-05:00",
        sender="Alice <im:alice@example.com>",
        recipient="Bob <im:bob@example.com>",
        recipient_uri="im:bob@example.com",
        original_uri="",
        route=(),
    )


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", cpim()),
        ("", cpim()),
        ("message/cpimx", cpim()),
        ("multipart/mixed;boundary=x", cpim()),
        ("message/cpim", b""),
        ("message/cpim", cpim().replace(b"To: Bob", b"To Bob")),
        ("message/cpim", cpim(without("imdn.Message-ID"))),
        ("message/cpim", cpim(HEAD.replace("34jk324j", ""))),
        ("message/cpim", cpim(HEAD.replace("34jk324j", "34 jk"))),
        ("message/cpim", cpim(HEAD.replace("34jk324j", "34\\njk"))),
        ("message/cpim", cpim(without("imdn.Disposition-Notification"))),
        ("message/cpim", cpim(without("imdn.Disposition-Notification"), TEXT + "Disposition-Notification")),
        ("message/cpim", cpim(HEAD.replace("processing, negative-delivery", ""))),
        ("message/cpim", cpim(HEAD.replace("processing, negative-delivery", ' "processing'))),
        ("message/cpim", cpim(HEAD.replace("imdn.D", "D"))),
        ("message/cpim", cpim(HEAD.replace("params:imdn", "params:other"))),
        ("message/cpim", cpim(HEAD.replace("34jk324j", "x" * 2000))),
    ],
)
def test_what_asks_for_none(content_type: str, body: bytes) -> None:
    assert read_im(content_type, body) is None


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        ("processing", {"processing"}),
        ("processing,display", {"processing", "display"}),
        ('negative-delivery ;a=b , display;c="d,processing"', {"negative-delivery", "display"}),
        ("Processing", {"Processing"}),
    ],
)
def test_values_of_what_is_asked(value: str, asked: set[str]) -> None:
    read = read_im("message/cpim", cpim(HEAD.replace("processing, negative-delivery", value)))
    assert read is not None
    assert read.asked == asked


@pytest.mark.parametrize("content_type", ["multipart/signed", "multipart/encrypted", "application/pkcs7-mime"])
def test_secured_content_gets_no_imdn_without_the_same_security(content_type: str) -> None:
    assert read_im("message/cpim", cpim(content=TEXT.replace("text/plain", f"{content_type}; a=b"))) is None


def test_what_is_repeated_is_bounded() -> None:
    spent = sum(map(len, ("34jk324j", "2006-04-04T12:16:49-05:00", "Alice <im:alice@example.com>"))) + 24 + 18
    route = "<sip:" + "r" * (2048 - spent - 6) + ">"
    for more, is_read in (("", True), ("r", False)):
        body = cpim(f"{HEAD}imdn.IMDN-Record-Route: {route.replace('sip:', f'sip:{more}')}\n")
        assert (read_im("message/cpim", body) is not None) is is_read


# -- What is an IMDN ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "content", "is_one"),
    [
        ("message/cpim", TEXT, False),
        ("message/cpim", "Content-Type: message/imdn+xml\nContent-Disposition: notification\n\n<imdn/>", True),
        ("message/cpim", "Content-Type: Message/IMDN+xml;charset=utf-8\n\n<imdn/>", True),
        (
            "message/cpim",
            "Content-Type: multipart/mixed;boundary=x\nContent-Disposition: Notification;a=b\n\n--x",
            True,
        ),
        ("message/cpim", "Content-Type: text/plain\nContent-Disposition: render\n\nx", False),
        ("message/cpim", "Content-Type: text/plain\nContent-Disposition: ;\n\nx", False),
        ("message/cpim", "Content-Type: text\n\nx", False),
        ("message/cpim", "", False),
        ("message/imdn+xml;charset=UTF-8", "", True),
        ("text/plain", TEXT, False),
        ("", TEXT, False),
    ],
)
def test_which_is_an_imdn(content_type: str, content: str, is_one: bool) -> None:
    assert is_imdn(content_type, cpim(HEAD, content)) is is_one
    if is_one:
        assert read_im(content_type, cpim(HEAD, content)) is None


@pytest.mark.parametrize("disposition", Disposition)
def test_ours_is_one_and_asks_for_none(disposition: Disposition) -> None:
    body = built(read_im("message/cpim", cpim()), disposition)
    assert is_imdn("message/cpim", body)
    assert b"Disposition-Notification" not in body


# -- What is written ---------------------------------------------------------------------------------------------------


def test_imdn_is_a_cpim_message_to_the_sender() -> None:
    body = built(read_im("message/cpim", cpim()))
    head, content_head, content = body.split(b"\r\n\r\n", 2)
    assert head.decode().split("\r\n") == [
        "From: Bob <im:bob@example.com>",
        "To: Alice <im:alice@example.com>",
        "DateTime: 2026-09-21T14:14:20Z",
        "NS: imdn <urn:ietf:params:imdn>",
        "imdn.Message-ID: d834",
    ]
    assert content_head.decode().split("\r\n") == [
        "Content-Type: message/imdn+xml",
        "Content-Disposition: notification",
        f"Content-Length: {len(content)}",
    ]
    assert parse_cpim(body).values("Message-ID", "urn:ietf:params:imdn") == ["d834"]
    assert document(body) == {
        "imdn": "",
        "message-id": "34jk324j",
        "datetime": "2006-04-04T12:16:49-05:00",
        "recipient-uri": "im:bob@example.com",
        "original-recipient-uri": "im:bob@example.com",
        "processing-notification": "",
        "status": "",
        "stored": "",
    }


def test_what_the_message_does_not_say_is_said_by_sip() -> None:
    for head in (without("To").replace("From: Alice <im:alice@example.com>\n", ""), HEAD.replace("<im", "im")):
        body = built(read_im("message/cpim", cpim(head.replace("DateTime: 2006-04-04T12:16:49-05:00\n", ""))))
        assert parse_cpim(body).values("From") == ["<sip:b@example.com>"]
        assert parse_cpim(body).values("To") == ["<sip:a@example.com>"]
        told = document(body)
        assert told["recipient-uri"] == told["original-recipient-uri"] == "sip:b@example.com"
        assert told["datetime"] == "2026-09-21T14:13:20Z"


@pytest.mark.parametrize(
    ("message_id", "told"),
    [
        ("a<b>&c;", "a<b>&c;"),
        ("</message-id>", "</message-id>"),
        ("]]>", "]]>"),
        (r"a\u0042c\\", "aBc\\"),
        ("é\N{GRINNING FACE}", "é\N{GRINNING FACE}"),
        (r"a\uffff\ufffeb", "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"),
        (r"\ud83d", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_message_id_stays_what_it_is_in_xml(message_id: str, told: str) -> None:
    body = built(read_im("message/cpim", cpim(HEAD.replace("34jk324j", message_id))))
    assert document(body)["message-id"] == told


def test_addresses_are_text_in_xml() -> None:
    head = HEAD.replace("im:bob@example.com", "im:bob@example.com?a=1&b=2") + "imdn.Original-To: L <im:l?c&d>\n"
    told = document(built(read_im("message/cpim", cpim(head.replace("2006-04", "<&2006-04")))))
    assert told["recipient-uri"] == "im:bob@example.com?a=1&b=2"
    assert told["original-recipient-uri"] == "im:l?c&d"
    assert told["datetime"] == "<&2006-04-04T12:16:49-05:00"
