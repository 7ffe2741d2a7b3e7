"""Requests and responses: what they say, and what makes them valid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import (
    BodyTooLong,
    HeadTooLong,
    LimitError,
    LineTooLong,
    MessageTooLong,
    ParseError,
    PeerError,
    TooManyHeaders,
    Unsupported,
    UriTooLong,
    ValueTooLong,
)
from msilo_core.fields import STAR, CSeq
from msilo_core.limits import Limits
from msilo_core.message import Request, Response, parse_message, tokenise
from msilo_core.uri import parse_uri
from tests.core.samples import MESSAGE, OK, TORTUOUS, changed, messages, without
from tests.core.wire import crlf, request, response

# -- What a message says -----------------------------------------------------------------------------------------------


def test_the_message_of_rfc_3428() -> None:
    message = request(MESSAGE)

    assert message.method == "MESSAGE"
    assert message.request_uri == "sip:user2@domain.com"
    assert message.uri == parse_uri("sip:user2@domain.com")
    assert message.version == "SIP/2.0"
    assert message.via.branch == "z9hG4bK776sgdkse"
    assert message.via.transport == "TCP"
    assert message.from_.display_name == "Alice"
    assert message.from_.tag == "49583"
    assert message.to.uri_text == "sip:user2@domain.com"
    assert message.to.tag == ""
    assert message.call_id == "asd88asd77a@1.2.3.4"
    assert message.cseq == CSeq(1, "MESSAGE")
    assert message.max_forwards == 70
    assert message.content_length == 18
    assert message.content_type == "text/plain"
    assert message.body == b"Watson, come here."
    assert message.get("from") == '"Alice" <sip:user1@domain.com>;tag=49583'
    assert message.get("subject") is None
    assert message.get_all("subject") == []
    assert message.routes == message.path == ()
    assert message.contacts == ()
    assert message.expires_s is None
    assert message.serialise() == MESSAGE


def test_what_is_folded_and_oddly_spelt_says_the_same() -> None:
    message = request(TORTUOUS)

    assert message.via.branch == "390skdjuw"
    assert [(via.transport, via.host, via.branch) for via in message.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert message.from_.display_name == 'J Rosenberg \\"'
    assert message.from_.tag == "98asjd8"
    assert message.to.tag == "1918181833n"
    assert message.cseq == CSeq(9, "MESSAGE")
    assert message.max_forwards == 68
    assert message.get("subject") == ""
    assert [str(hop) for hop in message.routes] == ["<sip:services.example.com;lr;unknownwith=value;unknown-no-value>"]
    assert message.contacts is not STAR
    assert [contact.q for contact in message.contacts] == [330]
    assert message.body == b"v=0."
    assert message.serialise() == TORTUOUS
    assert message.raw_lines[0] == ("to", "TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n")
    assert [key for key, _ in message.raw_lines] == [
        "to", "from", "max-forwards", "call-id", "content-length", "cseq", "via", "subject", "newfangledheader",
        "unknownheaderwithunusualvalue", "content-type", "route", "via", "contact",
    ]  # fmt: skip


def test_a_response() -> None:
    message = response(OK)

    assert (message.version, message.status, message.reason) == ("SIP/2.0", 200, "OK")
    assert message.via.branch == "z9hG4bKours"
    assert len(message.vias) == 2
    assert message.to.tag == "ab8asdasd9"


def test_the_values_of_a_registration() -> None:
    message = request(
        crlf("""
            REGISTER sip:example.com SIP/2.0
            Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKnashds7
            Path: <sip:p1.example.com;lr>
            Path: <sip:p2.example.com;lr>,<sip:p3.example.com;lr>
            Route: <sip:a;lr>, <sip:b,c@d;lr>
            Route: <sip:e;lr>
            From: Bob <sip:bob@example.com>;tag=456248
            To: Bob <sip:bob@example.com>
            Call-ID: 843817637684230@998sdasdh09
            CSeq: 1826 REGISTER
            Contact: *
            Expires: 7200
            Content-Length: 0

            """)
    )

    assert [hop.uri.host for hop in message.path] == ["p1.example.com", "p2.example.com", "p3.example.com"]
    assert [hop.uri_text for hop in message.routes] == ["sip:a;lr", "sip:b,c@d;lr", "sip:e;lr"]
    assert message.contacts is STAR
    assert message.expires_s == 7200


def test_messages_are_equal_if_their_octets_are() -> None:
    message, same = parse_message(MESSAGE), parse_message(b"\r\n" + MESSAGE)

    assert [message == same, message != same] == [True, False]
    for other in (parse_message(MESSAGE[:-1] + b"!"), parse_message(changed(("70", "71"))), MESSAGE):
        assert [message == other, message != other] == [False, True]


def test_a_phrase_may_be_missing_with_or_without_the_blank() -> None:
    assert response(changed(("200 OK", "200 "), data=OK)).reason == ""
    assert response(changed(("200 OK", "200"), data=OK)).reason == ""
    assert response(changed(("200 OK", "200 Всё ok "), data=OK)).reason == "Всё ok "


def test_octets_that_are_no_utf_8_come_out_as_they_came() -> None:
    data = changed(("Max-Forwards: 70", 'X: \udcff"\udc80\udcc3\udca9\r\nMax-Forwards: 70'), ('"Alice"', '"\udce9"'))

    assert b'"\xe9"' in data
    assert request(data).from_.display_name == "\udce9"
    assert request(data).serialise() == data


# -- What makes it valid -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_what_is_mandatory(name: str) -> None:
    for data in (MESSAGE, OK):
        with pytest.raises(ParseError, match=name.lower()):
            parse_message(without(name, data))

    message = tokenise(without(name))
    with pytest.raises(ParseError):
        getattr(message, {"From": "from_", "Call-ID": "call_id"}.get(name, name.lower()))


@pytest.mark.parametrize("name", ["Max-Forwards", "Content-Length", "Content-Type"])
def test_what_is_not(name: str) -> None:
    assert request(without(name)).body == b"Watson, come here."


@pytest.mark.parametrize(
    "line",
    [
        "From: sip:user1@domain.com;tag=49583", "f: sip:x@y", "To: sip:x@y", "t: sip:x@y", "CALL-ID: x", "i: x",
        "CSeq: 1 MESSAGE", "Max-Forwards: 70", "Content-Length: 18", "l: 18", "Content-Type: text/plain",
        "c: text/plain",
        "Expires: 1\r\nExpires: 1", "Date: x\r\nDate: x",
    ],
)  # fmt: skip
def test_what_must_stand_there_once(line: str) -> None:
    with pytest.raises(ParseError):
        parse_message(changed(("Max-Forwards", f"{line}\r\nMax-Forwards")))


def test_what_may_stand_there_twice() -> None:
    via = "Via: SIP/2.0/UDP a;branch=b\r\nv: SIP/2.0/UDP c;branch=d\r\n"
    message = request(changed(("Via:", f"X-A: 1\r\nX-A: 2\r\nContact: <sip:a@b>\r\nm: <sip:c@d>\r\n{via}Via:")))

    assert message.get("x-a") == "1"
    assert message.get_all("x-a") == ["1", "2"]
    assert message.via.branch == "b"
    assert len(message.vias) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("MESSAGE sip", "OPTIONS sip"), ("1 MESSAGE", "1 OPTIONS"), ("1 MESSAGE", "1 message"),
        ("1 MESSAGE", "2147483648 MESSAGE"),
        ("70", "256"), ("70", "-1"), ("18", "-18"), ("18", "five"), ("18", "99999999999"),
        ("tag=49583", "tag="), ("sip:user1@", "sip:us er1@"), ("To: ", 'To: "'), ("Call-ID: ", "Call-ID: a "),
        ("TCP user1pc", "TCP -user1pc"), ("Via: ", "Via: ;"), ("Via: ", "Via: , "), ("Via: ", 'Via: "'),
        ("sip:user2@domain.com SIP", "sip:user2@domain..com SIP"),
        ("sip:user2@domain.com SIP", "<sip:user2@domain.com> SIP"),
        ("sip:user2@domain.com SIP", "sip:user2@domain.com; lr SIP"),
        ("sip:user2@domain.com SIP", " sip:user2@domain.com  SIP"),
        ("sip:user2@domain.com SIP", "sip:user2@domain.com?Route=%3Csip:example.com%3E SIP"),
        ("sip:user2@domain.com SIP", "tel: SIP"), ("sip:user2@domain.com SIP", " SIP"),
        ("SIP/2.0\r\nVia", "SIP/2.0 \r\nVia"), ("SIP/2.0\r\nVia", "SIP/2\r\nVia"),
        ("SIP/2.0\r\nVia", "HTTP/1.1\r\nVia"),
        ("SIP/2.0\r\nVia", "SIP/٢.0\r\nVia"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_tokenised_and_refused(old: str, new: str) -> None:
    data = changed((old, new))

    with pytest.raises(ParseError) as caught:
        parse_message(data)
    assert caught.value.status_hint == 400
    message = tokenise(data)
    assert isinstance(message, Request)
    with pytest.raises(ParseError):
        message.validate()


@pytest.mark.parametrize(
    "start",
    [
        "",
        " ",
        "MESSAGE",
        "MESSAGE sip:a",
        " MESSAGE sip:a SIP/2.0",
        "ME(SSAGE sip:a SIP/2.0",
        "Żółw sip:a SIP/2.0",
        "\x16\x03 a b",
    ],
)
def test_what_is_no_start_line_is_not_even_tokenised(start: str) -> None:
    with pytest.raises(ParseError):
        tokenise(changed(("MESSAGE sip:user2@domain.com SIP/2.0", start)))


@pytest.mark.parametrize(
    ("start", "hint"),
    [
        ("SIP/2.0 99 x", 400), ("SIP/2.0 000 x", 400), ("SIP/2.0 700 x", 400), ("SIP/2.0 4294967301 x", 400),
        ("SIP/2.0  200 OK", 400), ("SIP/2.0", 400), ("SIP/2.0 ٢00 OK", 400), ("SIP/2 200 OK",
        400), ("SIP/7.0 200 OK", 505),
    ],
)  # fmt: skip
def test_malformed_responses(start: str, hint: int) -> None:
    data = changed(("SIP/2.0 200 OK", start), data=OK)

    assert isinstance(tokenise(data), Response)
    with pytest.raises(PeerError) as caught:
        parse_message(data)
    assert caught.value.status_hint == hint


def test_the_version_is_a_string_in_any_case() -> None:
    assert request(changed(("SIP/2.0", "sIp/2.0"))).version == "sIp/2.0"
    assert response(changed(("SIP/2.0", "sIp/2.0"), data=OK)).status == 200


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("SIP/2.0\r\n", "SIP/7.0\r\n", 505),
        ("SIP/2.0\r\n", "SIP/2.00\r\n", 505),
        ("sip:user2@domain.com SIP", "nobodyKnowsThisScheme:totallyopaquecontent SIP", 416),
        ("sip:user2@domain.com SIP", "tel:+1-201-555-0123 SIP", 416),
    ],
)
def test_what_is_well_formed_and_not_for_us(old: str, new: str, hint: int) -> None:
    with pytest.raises(Unsupported) as caught:
        parse_message(changed((old, new)))
    assert caught.value.status_hint == hint


def test_an_address_of_another_scheme_is_valid() -> None:
    message = request(
        changed(("sip:user1@domain.com", "tel:+12015550123"), ("To: sip:user2@domain.com", "To: isbn:298"))
    )

    assert message.from_.uri_text == "tel:+12015550123"
    assert message.to.uri_text == "isbn:298"


def test_a_value_is_there_with_and_without_validation() -> None:
    for validated in (True, False):
        message = tokenise(MESSAGE)
        assert isinstance(message, Request)
        if validated:
            message.validate()

        # What was parsed once is kept.
        assert message.via is message.via
        assert message.from_ is message.from_
        assert message.to is message.to
        assert message.cseq is message.cseq
        assert message.uri is message.uri
        assert message.call_id == "asd88asd77a@1.2.3.4"


# -- Body and limits ---------------------------------------------------------------------------------------------------


def test_what_follows_the_body_in_a_datagram_is_cut_off() -> None:
    assert parse_message(MESSAGE + b"INVITE sip:joe@example.com SIP/2.0\r\n") == parse_message(MESSAGE)
    assert parse_message(without("Content-Length") + b" Now.").body == b"Watson, come here. Now."
    with pytest.raises(ParseError):
        parse_message(MESSAGE[:-1])


def test_each_limit_is_met_at_it_and_passed_one_past_it() -> None:
    head_bytes = MESSAGE.index(b"\r\n\r\n")
    cases: list[tuple[str, int, type[LimitError], int]] = [
        ("message_bytes_max", len(MESSAGE), MessageTooLong, 513),
        ("head_bytes_max", head_bytes, HeadTooLong, 513),
        ("line_bytes_max", len(b"Via: SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse"), LineTooLong, 400),
        ("headers_max", 8, TooManyHeaders, 400),
        ("body_bytes_max", 18, BodyTooLong, 413),
        ("uri_bytes_max", len("sip:user2@domain.com"), UriTooLong, 414),
        ("call_id_bytes_max", len("asd88asd77a@1.2.3.4"), ValueTooLong, 400),
        ("tag_bytes_max", len("49583"), ValueTooLong, 400),
    ]
    for name, size, error, hint in cases:
        assert parse_message(MESSAGE, Limits(**{name: size + 1})) == parse_message(MESSAGE)
        assert request(MESSAGE, Limits(**{name: size})) == parse_message(MESSAGE)
        with pytest.raises(error) as caught:
            parse_message(MESSAGE, Limits(**{name: size - 1}))
        assert (caught.value.size, caught.value.limit, caught.value.status_hint) == (size, size - 1, hint)


def test_limits_count_octets() -> None:
    data = changed(
        ("Max-Forwards", "Subject: ééééé\r\nMax-Forwards"), ("Via: SIP/2.0/TCP user1pc.domain.com", "v: SIP/2.0/TCP h")
    )
    longest = len(b'From: "Alice" <sip:user1@domain.com>;tag=49583')
    data = changed(("Subject: ééééé", "Subject: " + "é" * 20), data=data)

    assert len(("Subject: " + "é" * 20).encode()) == longest + 3
    assert parse_message(data, Limits(line_bytes_max=longest + 3))
    with pytest.raises(LineTooLong):
        parse_message(data, Limits(line_bytes_max=longest + 2))


@pytest.mark.parametrize("start", ["SIP/2.0 200 {}", "{} sip:bob@example.com SIP/2.0"])
def test_a_start_line_is_bounded_as_all_lines_are(start: str) -> None:
    limits = Limits(line_bytes_max=80)
    line = start.format("x" * (82 - len(start)))
    assert len(line) == 80
    with pytest.raises(ParseError, match="via"):
        parse_message(f"{line}\r\n\r\n".encode(), limits)
    with pytest.raises(LineTooLong):
        parse_message(f"{start.format('x' * (83 - len(start)))}\r\n\r\n".encode(), limits)


def test_a_folded_line_counts_as_one() -> None:
    data = changed(("Max-Forwards", "Subject: a\r\n b\r\n c\r\nMax-Forwards"))

    assert parse_message(data, Limits(headers_max=9))
    with pytest.raises(TooManyHeaders):
        parse_message(data, Limits(headers_max=8))
    data = changed(("Max-Forwards", "Subject: " + "a\r\n " * 20 + "\r\nMax-Forwards"))
    assert parse_message(data, Limits(line_bytes_max=89))
    with pytest.raises(LineTooLong):
        parse_message(data, Limits(line_bytes_max=88))


def test_the_uri_of_a_sender_is_bounded_without_blaming_the_request_uri() -> None:
    data = changed(("sip:user1@", "sip:user100@"))

    assert parse_message(data, Limits(uri_bytes_max=22))
    with pytest.raises(ValueTooLong):
        parse_message(data, Limits(uri_bytes_max=21))


def test_a_request_uri_over_all_limits_is_what_is_too_long() -> None:
    with pytest.raises(UriTooLong):
        parse_message(changed(("sip:user2@domain.com SIP", f"sip:{'u' * 9_000}@domain.com SIP")))


# -- Any message -------------------------------------------------------------------------------------------------------


@given(messages())
def test_a_message_is_written_as_it_was_read(data: bytes) -> None:
    message = parse_message(data)

    assert message.serialise() == data
    assert parse_message(message.serialise()) == message
    assert parse_message(data + b"more") == message


@given(messages(), st.integers(min_value=0), st.binary(max_size=4))
def test_a_message_with_a_fault_is_parsed_or_refused(data: bytes, at: int, fault: bytes) -> None:
    at %= len(data)
    broken = data[:at] + fault + data[at + 1 :]

    try:
        message = parse_message(broken)
    except PeerError:
        return
    assert broken.removeprefix(b"\r\n").startswith(message.serialise())
