"""Octets that go out: requests of ours, responses, and what a proxy passes on."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.compose import build_request, build_response, forward, relay_response
from msilo_core.errors import (
    LocalError,
    ParseError,
)
from msilo_core.fields import parse_via
from msilo_core.message import Request, parse_message, tokenise
from tests.core.samples import MESSAGE, OK, TORTUOUS, changed, messages, without
from tests.core.wire import request, response


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

    assert [str(via).replace(" ", "") for via in answered.vias] == [
        "SIP/2.0/UDP192.0.2.2;branch=390skdjuw;received=192.0.2.9",
        "SIP/2.0/TCPspindle.example.com;branch=z9hG4bK9ikj8",
        "SIP/2.0/UDP192.168.255.111;branch=z9hG4bK30239",
    ]
    assert answered.to.tag == "1918181833n"
    assert answered.body == b"b"


def test_the_first_via_may_share_its_line() -> None:
    data = changed(("branch=z9hG4bK776sgdkse", 'x=",";branch=b , SIP/2.0/UDP h;branch=c'))

    answered = response(build_response(request(data), 200, "OK", via_suffix=";received=192.0.2.9"))
    assert list(map(str, answered.vias)) == [
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


def test_nobody_can_be_answered_without_a_via() -> None:
    message = tokenise(without("Via"))
    assert isinstance(message, Request)

    with pytest.raises(ParseError):
        build_response(message, 400, "Bad Request")


@pytest.mark.parametrize("via", ["SIP/2.0/UDP 192.0.2.15;;,;,,", "HTTP/1.1"])
def test_a_malformed_via_is_copied_and_cannot_be_completed(via: str) -> None:
    message = tokenise(changed(("SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse", via)))
    assert isinstance(message, Request)

    assert f"\r\nVia: {via}\r\n".encode() in build_response(message, 400, "Bad Request")
    with pytest.raises(ParseError):
        build_response(message, 400, "Bad Request", via_suffix=";received=192.0.2.1")


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
        lambda: forward(message, request_uri=text, via="v", counts={"Max-Forwards": 1}),
        lambda: forward(message, request_uri="sip:a", via=text, counts={"Max-Forwards": 1}),
        lambda: forward(message, request_uri="sip:a", via="v", counts={"Max-Forwards": 1}, via_suffix=text),
        lambda: forward(message, request_uri="sip:a", via="v", counts={"Max-Forwards": 1}, route=text),
    ]
    for build in builds:
        with pytest.raises(LocalError):
            build()


VIA = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours"


def test_a_request_is_passed_on_with_nothing_else_changed() -> None:
    data = forward(request(MESSAGE), request_uri="sip:user2@192.0.2.4:5070", via=VIA, counts={"Max-Forwards": 69})

    assert data == changed(
        ("sip:user2@domain.com", "sip:user2@192.0.2.4:5070"), ("Via:", f"Via: {VIA}\r\nVia:"), ("s: 70", "s: 69")
    )
    assert request(data).body == request(MESSAGE).body


def test_a_tortuous_request_is_passed_on_with_nothing_else_changed() -> None:
    data = forward(
        request(TORTUOUS),
        request_uri="sip:vivekg@192.0.2.4",
        via=VIA,
        counts={"Max-Forwards": 67},
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
    assert list(map(str, passed.routes)) == ["<sip:p1.example.com;lr>"]


def test_the_via_that_was_topmost_is_completed() -> None:
    received = request(changed(("branch", "rport;branch"), ("Max-", "v: SIP/2.0/UDP first;branch=b;rport\r\nMax-")))

    data = forward(received, request_uri="sip:a@b", via=VIA, counts={"Max-Forwards": 1}, via_suffix=";rport=9")
    assert list(map(str, request(data).vias)) == [
        VIA,
        "SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse;rport=9",
        "SIP/2.0/UDP first;branch=b;rport",
    ]


def test_what_a_stream_needs_is_added_to_a_request_without_it() -> None:
    data = forward(
        request(without("Content-Length", without("Max-Forwards"))),
        request_uri="sip:a@b",
        via=VIA,
        counts={"Max-Forwards": 70},
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
    passed = request(forward(message, request_uri="sip:bob@192.0.2.4", via=VIA, counts={"Max-Forwards": 9}))

    assert (passed.vias, passed.max_forwards, passed.body) == ((parse_via(VIA), *message.vias), 9, message.body)
    assert passed.raw_lines[1:-1] == message.raw_lines
    back = response(relay_response(response(build_response(passed, 200, "OK"))))
    assert back.vias == message.vias
