"""MSILO.md section 4: who is delivered to, in which order, and what a delivered MESSAGE looks like."""

from typing import Any

import pytest

from msilo_core import Config, SiloConfig, SiloRoute
from tests.core.world import BOB, World, answer, body_of, header, message, register, status_of, tcp, udp

PROXY = ("127.0.0.9", 5070)
BY_PROXY = SiloConfig(outbound_proxy="sip:127.0.0.9:5070")


def world(silo: SiloConfig | None = None, **kwargs: Any) -> World:
    """Return a server with these parameters and one message that waits for bob."""
    server = World(Config(silo=silo if silo is not None else SiloConfig()), **kwargs)
    assert status_of(server.datagram(message())[0]) == 202
    return server


# -- 1: the phone must take MESSAGE ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contact", "headers", "is_delivered"),
    [
        ("<sip:bob@127.0.0.1:5072>", "", True),
        ("<sip:bob@127.0.0.1:5072>", "Allow: INVITE, ACK\r\n", False),
        ("<sip:bob@127.0.0.1:5072>", "Allow: INVITE\r\nAllow: message\r\n", True),
        ('<sip:bob@127.0.0.1:5072>;methods="INVITE,MESSAGE"', "Allow: INVITE\r\n", True),
        ('<sip:bob@127.0.0.1:5072>;methods="INVITE"', "Allow: MESSAGE\r\n", False),
        ("<sip:bob@127.0.0.1:5072>;expires=0", "", False),
        ("*", "", False),
        # One contact that takes it suffices.
        ('<sip:bob@127.0.0.1:5073>;methods="INVITE", <sip:bob@127.0.0.1:5072>', "", True),
    ],
)
@pytest.mark.parametrize("silo", [SiloConfig(), BY_PROXY], ids=["contacts", "proxy"])
def test_phone_that_takes_message(silo: SiloConfig, contact: str, headers: str, is_delivered: bool) -> None:
    server = world(silo)
    expires = "Expires: 0\r\n" if contact == "*" else "Expires: 3600\r\n"
    sent = server.datagram(register(contact=contact, headers=headers, expires=expires), BOB)
    assert [body_of(data) for data in sent[1:]] == ([b"hello"] if is_delivered else [])


# -- 2 to 5: what is delivered -----------------------------------------------------------------------------------------


def test_what_it_looks_like() -> None:
    server = world(SiloConfig(add_date=1, extra_hdrs="X-Who: $fu\r\nX-Phone: $ct", time_zone="Europe/Rome"))
    (_, first) = server.datagram(register(), BOB)
    assert first.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 SIP/2.0\r\n")
    assert header(first, "From") == '"Alice" <sip:alice@example.com>;tag=f1'
    assert header(first, "To") == "<sip:bob@example.com>"
    assert header(first, "Call-ID") == "call1@alice.example.com"
    assert header(first, "Date") == "Mon, 21 Sep 2026 14:13:20 GMT"
    assert header(first, "X-Who") == "sip:bob@example.com"
    assert header(first, "X-Phone") == "<sip:bob@127.0.0.1:5072>"
    assert header(first, "Contact") == ""
    assert body_of(first) == b"[Offline message - Mon Sep 21 16:13:20 2026] hello"


def test_contact_of_the_original_is_an_option() -> None:
    """RFC 3428 section 4: "User Agents MUST NOT insert Contact header fields into MESSAGE requests"."""
    server = world(SiloConfig(add_contact=1))
    (_, first) = server.datagram(register(), BOB)
    assert header(first, "Contact") == "<sip:alice@example.com>;msilo=yes"


@pytest.mark.parametrize(("name", "add_contact"), [("Contact", 0), ("Contact", 1), ("m", 1)])
def test_contact_of_the_sender_is_kept_where_none_is_added(name: str, add_contact: int) -> None:
    server = World(Config(silo=SiloConfig(add_contact=add_contact)))
    own = f"X-Before: 1\r\n{name}: <sip:alice@127.0.0.1:5071>,\r\n <sip:alice@127.0.0.2>\r\nX-After: m: 2\r\n"
    server.datagram(message(headers=own))
    (_, first) = server.datagram(register(), BOB)
    added = b"Contact: <sip:alice@example.com>;msilo=yes\r\nX-Before: 1\r\nX-After: m: 2\r\n"
    assert (added if add_contact else own.encode()) in first
    assert first.lower().count(b"contact: ") + first.count(b"\r\nm: ") == 1


@pytest.mark.parametrize("content_type", ["text/plain;charset=utf-8", "text/html", "message/cpim"])
def test_date_is_put_before_plain_text_alone(content_type: str) -> None:
    server = World(Config(silo=SiloConfig(add_date=1)))
    server.datagram(message().replace(b"text/plain", content_type.encode()))
    (_, first) = server.datagram(register(), BOB)
    assert body_of(first) == b"hello"


def test_header_lines_are_made_of_the_register_that_brought_it_on() -> None:
    server = world(SiloConfig(extra_hdrs="X-Cause: $rm $cs\r\n"))
    server.datagram(message(b"two", number=2))
    (_, first) = server.datagram(register(cseq=5), BOB)
    (second,) = server.datagram(answer(first), BOB)
    assert header(first, "X-Cause") == header(second, "X-Cause") == "REGISTER 5"
    server.datagram(answer(second, "480 Away"), BOB)
    (_, again) = server.datagram(register(cseq=6), BOB)
    assert header(again, "X-Cause") == "REGISTER 6"


def test_header_line_of_a_phone_stays_one() -> None:
    server = world(SiloConfig(extra_hdrs="X-Body: $rb\r\n"))
    request = register().replace(b"Content-Length: 0\r\n\r\n", b"Content-Length: 9\r\n\r\nx\r\nTo: <s")
    (_, first) = server.datagram(request, BOB)
    assert header(first, "X-Body") == "x  To: <s"


@pytest.mark.parametrize("mode", [0, 1])
def test_call_id_is_always_that_of_the_request(mode: int) -> None:
    server = world(SiloConfig(use_mode=mode))
    (_, first) = server.datagram(register(), BOB)
    assert header(first, "Call-ID") == "call1@alice.example.com"


# -- outbound_proxy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [None, SiloRoute()], ids=["server", "silo"])
def test_all_goes_through_the_proxy_to_the_owner(route: SiloRoute | None) -> None:
    server = world(BY_PROXY, route=route)
    server.datagram(message(b"two", number=2))
    contacts = "<sip:bob@127.0.0.1:5072>, <sip:bob@127.0.0.1:5073>"
    _, first = server.datagram(register(contact=contacts), BOB)
    assert first.startswith(b"MESSAGE sip:bob@example.com SIP/2.0\r\n")
    assert header(first, "Route") == "<sip:127.0.0.9:5070;lr>"
    assert server.sent[-1].flow == udp(PROXY)
    # One at a time, as to a phone.
    (second,) = server.datagram(answer(first), PROXY)
    assert body_of(second) == b"two"
    # Whoever the proxy tried: what it says for good counts.
    server.datagram(answer(second, "415 Unsupported Media Type"), PROXY)
    assert (server.waiting(), server.dead()) == ([], [b"two"])


def test_what_the_proxy_could_not_deliver_waits() -> None:
    server = world(BY_PROXY, route=SiloRoute())
    _, first = server.datagram(register(), BOB)
    assert server.datagram(answer(first, "480 Away"), PROXY) == []
    _, again = server.datagram(register(cseq=2), BOB)
    assert body_of(again) == b"hello"
    server.datagram(answer(again, "480 Away"), PROXY)
    later, *_ = server.pass_time(20_000)
    assert body_of(later) == b"hello"


def test_proxy_of_the_other_family_is_reached_from_an_address_of_its_own() -> None:
    server = World(Config(silo=SiloConfig(outbound_proxy="sip:[2001:db8::9];transport=tcp")), route=SiloRoute())
    server.datagram(message())
    options = message().replace(b"MESSAGE", b"OPTIONS")
    six = tcp(("2001:db8::4", 5090), 3)
    six = type(six)("tcp", ("2001:db8::1", 5060), six.remote, 3)
    server.stream(options, six)
    server.datagram(register(), BOB)
    flow = server.sent[-1].flow
    assert (flow.transport, flow.local, flow.remote) == ("tcp", ("2001:db8::1", 5060), ("2001:db8::9", 5060))


def test_notification_goes_through_the_proxy_too() -> None:
    silo = SiloConfig(
        outbound_proxy="sip:127.0.0.9:5070", from_address="sip:r@example.com", offline_message="x",
        content_type_hdr="Content-Type: text/plain",
    )  # fmt: skip
    server = World(Config(silo=silo))
    _, told = server.datagram(message())
    assert told.startswith(b"MESSAGE sip:alice@example.com SIP/2.0\r\n")
    assert header(told, "Route") == "<sip:127.0.0.9:5070;lr>"
    assert server.sent[-1].flow == udp(PROXY)
