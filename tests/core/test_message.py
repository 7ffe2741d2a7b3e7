"""Requests and responses: what they say, what makes them valid, and the octets that go out."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import (
    BodyTooLong,
    HeadTooLong,
    LimitError,
    LineTooLong,
    LocalError,
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
from msilo_core.message import (
    Request,
    Response,
    build_request,
    build_response,
    forward,
    parse_message,
    relay_response,
    tokenise,
)
from msilo_core.uri import parse_uri
from tests.core.wire import crlf, request, response

MESSAGE = crlf("""
    MESSAGE sip:user2@domain.com SIP/2.0
    Via: SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse
    Max-Forwards: 70
    From: "Alice" <sip:user1@domain.com>;tag=49583
    To: sip:user2@domain.com
    Call-ID: asd88asd77a@1.2.3.4
    CSeq: 1 MESSAGE
    Content-Type: text/plain
    Content-Length: 18

    Watson, come here.""")

TORTUOUS = crlf("""
    MESSAGE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
    TO :
     sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
    from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>
      ;
      tag = 98asjd8
    MaX-fOrWaRdS: 0068
    Call-ID: wsinv.ndaksdj@192.0.2.1
    Content-Length   : 4
    cseq: 0009
      MESSAGE
    Via  : SIP  /   2.0
     /UDP
        192.0.2.2;branch=390skdjuw
    s :
    NewFangledHeader:   newfangled value
     continued newfangled value
    UnknownHeaderWithUnusualValue: ;;,,;;,;
    Content-Type: text/plain
    Route:
     <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
    v:  SIP  / 2.0  / TCP     spindle.example.com   ;
      branch  =   z9hG4bK9ikj8  ,
     SIP  /    2.0   / UDP  192.168.255.111   ; branch=
     z9hG4bK30239
    m:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =
          newvalue ;
      secondparam ; q = 0.33

    v=0.""")

OK = crlf("""
    SIP/2.0 200 OK
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport=5060
    Via: SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse;received=1.2.3.4
    From: sip:user1@domain.com;tag=49583
    To: sip:user2@domain.com;tag=ab8asdasd9
    Call-ID: asd88asd77a@1.2.3.4
    CSeq: 1 MESSAGE
    Content-Length: 0

    """)


def changed(*pairs: tuple[str, str], data: bytes = MESSAGE) -> bytes:
    """Return a message with each first text replaced by the second."""
    for old, new in pairs:
        assert old.encode() in data
        data = data.replace(old.encode(), new.encode("utf-8", "surrogateescape"), 1)
    return data


def without(name: str, data: bytes = MESSAGE) -> bytes:
    """Return a message without the lines of one header."""
    lines = data.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(name.encode() + b":"))


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
    assert message.get_all("subject") == message.routes == []
    assert message.contacts == ()
    assert message.path == ""
    assert message.expires_s is None
    assert message.serialise() == MESSAGE


def test_what_is_folded_and_oddly_spelt_says_the_same() -> None:
    message = request(TORTUOUS)

    assert message.via.branch == "390skdjuw"
    assert [" ".join(via.split()) for via in message.vias] == [
        "SIP / 2.0 /UDP 192.0.2.2;branch=390skdjuw",
        "SIP / 2.0 / TCP spindle.example.com ; branch = z9hG4bK9ikj8",
        "SIP / 2.0 / UDP 192.168.255.111 ; branch= z9hG4bK30239",
    ]
    assert message.from_.display_name == 'J Rosenberg \\"'
    assert message.from_.tag == "98asjd8"
    assert message.to.tag == "1918181833n"
    assert message.cseq == CSeq(9, "MESSAGE")
    assert message.max_forwards == 68
    assert message.get("subject") == ""
    assert message.routes == ["<sip:services.example.com;lr;unknownwith=value;unknown-no-value>"]
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

    assert message.path == "<sip:p1.example.com;lr>,<sip:p2.example.com;lr>,<sip:p3.example.com;lr>"
    assert message.routes == ["<sip:a;lr>", "<sip:b,c@d;lr>", "<sip:e;lr>"]
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


# -- Octets that go out ------------------------------------------------------------------------------------------------


def test_a_request_of_ours() -> None:
    data = build_request(
        "MESSAGE",
        "sip:bob@192.0.2.4",
        [
            ("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx"), ("Max-Forwards", "70"), ("From", "<sip:a@b>;tag=1"),
            ("To", "<sip:bob@example.com>"), ("Call-ID", "c"), ("CSeq", "1 MESSAGE"), ("X", "\udcff"),
        ],
        b"\0\r\n",
    )  # fmt: skip

    assert data == (
        b"MESSAGE sip:bob@192.0.2.4 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx\r\nMax-Forwards: 70\r\n"
        b"From: <sip:a@b>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\nX: \xff\r\n"
        b"Content-Length: 3\r\n\r\n\0\r\n"
    )
    assert request(data).body == b"\0\r\n"


def test_a_response_of_ours() -> None:
    data = build_response(
        request(changed(("branch=", "rport;branch="))),
        202,
        "Accepted",
        to_tag="ours",
        via_suffix=";received=1.2.3.4;rport=5071",
        headers=[("Server", "msilo")],
    )

    assert data == (
        b"SIP/2.0 202 Accepted\r\n"
        b"Via: SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse;received=1.2.3.4;rport=5071\r\n"
        b'From: "Alice" <sip:user1@domain.com>;tag=49583\r\nTo: sip:user2@domain.com;tag=ours\r\n'
        b"Call-ID: asd88asd77a@1.2.3.4\r\nCSeq: 1 MESSAGE\r\nServer: msilo\r\nContent-Length: 0\r\n\r\n"
    )
    assert response(data).status == 202


def test_a_response_copies_every_via_in_order_and_completes_the_first() -> None:
    answered = response(
        build_response(request(TORTUOUS), 200, "OK", to_tag="no", via_suffix=";received=192.0.2.9", body=b"b")
    )

    assert [via.replace(" ", "") for via in answered.vias] == [
        "SIP/2.0/UDP192.0.2.2;branch=390skdjuw;received=192.0.2.9",
        "SIP/2.0/TCPspindle.example.com;branch=z9hG4bK9ikj8",
        "SIP/2.0/UDP192.168.255.111;branch=z9hG4bK30239",
    ]
    assert answered.to.tag == "1918181833n"
    assert answered.body == b"b"


def test_the_first_via_may_share_its_line() -> None:
    data = changed(("branch=z9hG4bK776sgdkse", 'x=",";branch=b , SIP/2.0/UDP h;branch=c'))

    answered = response(build_response(request(data), 200, "OK", via_suffix=";received=192.0.2.9"))
    assert answered.vias == [
        'SIP/2.0/TCP user1pc.domain.com;x=",";branch=b;received=192.0.2.9',
        "SIP/2.0/UDP h;branch=c",
    ]
    assert answered.to.tag == ""


@pytest.mark.parametrize(
    ("to", "has_tag"),
    [
        ("<sip:a@b>;tag=x", True),
        ("<sip:a@b>", False),
        ('"x;tag=y" <sip:a@b;tag=z>', False),
        ("sip:a@b ; TAG = x", True),
        # Those below are malformed: the request is answered with 400 all the same.
        ('"Mr. J. User <sip:j.user@example.com>', False),
        ('"Mr. J. User <sip:j.user@example.com> ;tag=x', True),
        ('"Mr. J. User <sip:j.user@example.com;tag=x>', False),
        ("", False),
    ],
)
def test_a_tag_is_added_to_a_to_without_one(to: str, has_tag: bool) -> None:
    message = tokenise(changed(("To: sip:user2@domain.com", f"To: {to}")))
    assert isinstance(message, Request)

    line = f"To: {to}" if has_tag else f"To: {to};tag=ours"
    assert f"\r\n{line}\r\n".encode() in build_response(message, 400, "Bad Request", to_tag="ours")
    assert f"\r\nTo: {to}\r\n".encode() in build_response(message, 100, "Trying")


@pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq"])
def test_a_request_is_answered_with_what_it_has(name: str) -> None:
    message = tokenise(without(name))
    assert isinstance(message, Request)

    data = build_response(message, 400, "Bad Request", to_tag="ours")
    whole = build_response(request(MESSAGE), 400, "Bad Request", to_tag="ours")
    assert data == without(name, whole)


@pytest.mark.parametrize("via", ["", "SIP/2.0/UDP 192.0.2.15;;,;,,", "HTTP/1.1"])
def test_nobody_can_be_answered_without_a_via(via: str) -> None:
    data = changed(("SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse", via)) if via else without("Via")
    message = tokenise(data)
    assert isinstance(message, Request)

    with pytest.raises(ParseError):
        build_response(message, 400, "Bad Request")


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\n", "\ra", "a\r\n b", "\ud800"])
def test_no_text_of_ours_can_bring_a_line(text: str) -> None:
    message = request(MESSAGE)
    builds: list[Callable[[], bytes]] = [
        lambda: build_request("MESSAGE", f"sip:{text}", []),
        lambda: build_request("MESSAGE", "sip:a", [("Subject", text)]),
        lambda: build_request("MESSAGE", "sip:a", [(text, "x")]),
        lambda: build_request(text, "sip:a", []),
        lambda: build_response(message, 200, text),
        lambda: build_response(message, 200, "OK", to_tag=text),
        lambda: build_response(message, 200, "OK", via_suffix=text),
        lambda: build_response(message, 200, "OK", headers=[("Subject", text)]),
        lambda: forward(message, request_uri=text, via="v", max_forwards=1),
        lambda: forward(message, request_uri="sip:a", via=text, max_forwards=1),
        lambda: forward(message, request_uri="sip:a", via="v", max_forwards=1, via_suffix=text),
        lambda: forward(message, request_uri="sip:a", via="v", max_forwards=1, route=text),
    ]
    for build in builds:
        with pytest.raises(LocalError):
            build()


VIA = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours"


def test_a_request_is_passed_on_with_nothing_else_changed() -> None:
    data = forward(request(MESSAGE), request_uri="sip:user2@192.0.2.4:5070", via=VIA, max_forwards=69)

    assert data == changed(
        ("sip:user2@domain.com", "sip:user2@192.0.2.4:5070"), ("Via:", f"Via: {VIA}\r\nVia:"), ("s: 70", "s: 69")
    )
    assert request(data).body == request(MESSAGE).body


def test_a_tortuous_request_is_passed_on_with_nothing_else_changed() -> None:
    data = forward(
        request(TORTUOUS),
        request_uri="sip:vivekg@192.0.2.4",
        via=VIA,
        max_forwards=67,
        drop={"route", "subject"},
        route="<sip:p1.example.com;lr>",
    )

    assert data == changed(
        ("sip:vivekg@chair-dnrc.example.com;unknownparam", "sip:vivekg@192.0.2.4"),
        ("TO :", f"Via: {VIA}\r\nRoute: <sip:p1.example.com;lr>\r\nTO :"),
        ("MaX-fOrWaRdS: 0068", "Max-Forwards: 67"),
        ("s :\r\n", ""),
        ("Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n", ""),
        data=TORTUOUS,
    )
    passed = request(data)
    assert passed.via.branch == "z9hG4bKours"
    assert passed.routes == ["<sip:p1.example.com;lr>"]


def test_the_via_that_was_topmost_is_completed() -> None:
    received = request(changed(("branch", "rport;branch"), ("Max-", "v: SIP/2.0/UDP first;branch=b;rport\r\nMax-")))

    data = forward(received, request_uri="sip:a@b", via=VIA, max_forwards=1, via_suffix=";rport=9")
    assert request(data).vias == [
        VIA,
        "SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse;rport=9",
        "SIP/2.0/UDP first;branch=b;rport",
    ]


def test_what_a_stream_needs_is_added_to_a_request_without_it() -> None:
    data = forward(
        request(without("Content-Length", without("Max-Forwards"))), request_uri="sip:a@b", via=VIA, max_forwards=70
    )

    assert data.endswith(b"\r\nMax-Forwards: 70\r\nContent-Length: 18\r\n\r\nWatson, come here.")
    assert request(data).max_forwards == 70


def test_a_response_is_passed_on_without_the_first_via_and_with_nothing_else_changed() -> None:
    line = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport=5060"
    assert relay_response(response(OK)) == changed((f"{line}\r\n", ""), data=OK)

    # The same where the values share a line, which may be folded.
    shared = changed((f"{line}\r\nVia: ", f'X:  y\r\nV  : {line[5:]};x=","\r\n , '), data=OK)
    assert relay_response(response(shared)) == changed((f"{line}\r\n", "X:  y\r\n"), data=OK)


def test_a_response_with_our_via_alone_is_for_us() -> None:
    with pytest.raises(ParseError):
        relay_response(response(changed(("Via: SIP/2.0/TCP", "X: SIP/2.0/TCP"), data=OK)))


# -- Any message -------------------------------------------------------------------------------------------------------

_tokens = st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,12}", fullmatch=True)
_texts = st.text(alphabet=st.characters(exclude_characters="\r\n\0", exclude_categories=["Cc", "Cs"]), max_size=20)
_blanks = st.sampled_from(["", " ", "  ", "\t", "\r\n ", " \r\n\t "])
_lines = st.builds(
    "{}{}:{}{}{}".format,
    _tokens.filter(lambda name: len(name) > 1),
    st.sampled_from(["", " ", "\t"]),
    _blanks,
    _texts,
    _blanks,
).map(lambda line: f"X-{line}")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return the octets of a valid message, spelt in any way."""

    def line(names: list[str], value: str) -> str:
        colon = draw(st.sampled_from([": ", ":", " : ", ":\r\n ", "\t:\t"]))
        return f"{draw(st.sampled_from(names))}{colon}{value}{draw(_blanks)}"

    method, body = draw(_tokens), draw(st.binary(max_size=20))
    start = draw(
        st.sampled_from(
            [f"{method} sip:bob@example.com SIP/2.0", f"SIP/2.0 {draw(st.integers(100, 699))} {draw(_texts)}"]
        )
    )
    tag = draw(_tokens)
    needed = [
        line(["Via", "v", "VIA"], f"SIP/2.0/UDP h{draw(_blanks)};branch={draw(_tokens)}"),
        line(["From", "f", "fRom"], f'"\\"{draw(_tokens)}" {draw(_blanks)}<sip:a@b>;tag={tag}'),
        line(["To", "t", "TO"], "sip:bob@example.com"),
        line(["Call-ID", "i"], draw(_tokens)),
        line(["CSeq", "cseq"], f"{draw(st.integers(0, 2**31 - 1))} {draw(_blanks)} {method}"),
        line(["Content-Length", "l"], str(len(body))),
        *draw(st.lists(_lines, max_size=4)),
    ]
    lines = draw(st.permutations(needed))
    return "\r\n".join([start, *lines, "", ""]).encode("utf-8", "surrogateescape") + body


@given(messages())
def test_a_message_is_written_as_it_was_read(data: bytes) -> None:
    message = parse_message(data)

    assert message.serialise() == data
    assert parse_message(message.serialise()) == message
    assert parse_message(data + b"more") == message


@given(messages(), st.text(alphabet="09az", max_size=5))
def test_any_request_is_answered_by_a_valid_response(data: bytes, to_tag: str) -> None:
    message = parse_message(data)
    if not isinstance(message, Request):
        return
    answered = response(build_response(message, 200, "OK", to_tag=to_tag, via_suffix=";received=192.0.2.1"))

    assert answered.via.branch == message.via.branch
    assert answered.via.received == "192.0.2.1"
    assert (answered.from_.tag, answered.to.tag) == (message.from_.tag, to_tag)
    assert (answered.call_id, answered.cseq) == (message.call_id, message.cseq)


@given(messages())
def test_any_request_is_passed_on_and_its_response_back(data: bytes) -> None:
    message = parse_message(data)
    if not isinstance(message, Request):
        return
    passed = request(forward(message, request_uri="sip:bob@192.0.2.4", via=VIA, max_forwards=9))

    assert (passed.vias, passed.max_forwards, passed.body) == ([VIA, *message.vias], 9, message.body)
    assert passed.raw_lines[1:-1] == message.raw_lines
    back = response(relay_response(response(build_response(passed, 200, "OK"))))
    assert back.vias == message.vias


@given(messages(), st.integers(min_value=0), st.binary(max_size=4))
def test_a_message_with_a_fault_is_parsed_or_refused(data: bytes, at: int, fault: bytes) -> None:
    at %= len(data)
    broken = data[:at] + fault + data[at + 1 :]

    try:
        message = parse_message(broken)
    except PeerError:
        return
    assert broken.removeprefix(b"\r\n").startswith(message.serialise())
