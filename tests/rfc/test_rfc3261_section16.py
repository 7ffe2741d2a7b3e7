"""RFC 3261 section 16: a stateful proxy, for MESSAGE alone."""

import pytest

from msilo_core import Call, Config, Flow, LocalError, ServerRoute
from msilo_core.actions import Send
from tests.core.world import ALICE, BOB, SERVER, World, answer, header, message, register, status_of, tcp, udp

CAROL = ("127.0.0.1", 5073)
DAVE = ("127.0.0.1", 5074)
PROXY = ("127.0.0.9", 5070)
ELSEWHERE = Config(domains=frozenset({"example.com"}), foreign="sip:127.0.0.9:5070")


class NothingIsStored(ServerRoute):
    """A proxy and no more."""

    def failure_route(self, call: Call) -> None:
        """Tell the sender."""
        call.pass_on()


def registered(
    *contacts: tuple[tuple[str, int], str], config: Config | None = None, route: ServerRoute | None = None
) -> World:
    """Return a server that bob is registered at with contacts of these addresses and parameters."""
    world = World(config, route=route)
    for number, ((host, port), params) in enumerate(contacts, 1):
        data = register(contact=f"<sip:bob@{host}:{port}>{params}", cseq=number, sender=(host, port))
        assert status_of(world.datagram(data, (host, port))[0]) == 200
    return world


def to(sends: list[bytes], world: World) -> list[tuple[str, int]]:
    """Return where the last of what was sent went."""
    return [send.flow.remote for send in world.sent[-len(sends) :]] if sends else []


# -- 16.3, 16.4: Request-URI and Route ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "route",
    [
        "Route: <sip:127.0.0.1:5060;lr>\r\n",
        "Route: <sip:127.0.0.1;lr>, <sip:example.com;lr>\r\n",
        "Route: <sip:example.com;lr>\r\nRoute: <sip:127.0.0.1:5060;transport=tcp;lr>\r\n",
    ],
)
def test_route_that_led_here_is_taken_off(route: str) -> None:
    """Section 16.4: "If the first value in the Route header field indicates this proxy, the proxy MUST remove that"."""
    world = registered((BOB, ""))
    (relayed,) = world.datagram(message(headers=route))
    assert b"\r\nRoute:" not in relayed
    world = World(ELSEWHERE)
    (sent,) = world.datagram(message(to="bob", headers=route).replace(b"bob@example.com", b"bob@example.org"))
    assert header(sent, "Route") == "<sip:127.0.0.9:5070;lr>"


def test_route_beyond_us_does_not_lead_the_owners_mail_away() -> None:
    # P10: it goes to the owner's binding, never to an address that the sender wrote.
    world = registered((BOB, ""), config=ELSEWHERE)
    (relayed,) = world.datagram(message(headers="Route: <sip:203.0.113.1;lr>\r\n"))
    assert to([relayed], world) == [BOB]
    assert b"\r\nRoute:" not in relayed


def test_strict_router_before_us() -> None:
    """Section 16.4.

    "... the proxy MUST replace the Request-URI in the request with the last value from the Route header field, and
    remove that value from the Route header field."
    """
    world = World()
    strict = message(headers="Route: <sip:p.example.com;lr>, <sip:carol@example.com>\r\n")
    strict = strict.replace(b"MESSAGE sip:bob@example.com", b"MESSAGE sip:127.0.0.1:5060;lr")
    assert status_of(world.datagram(strict)[0]) == 202
    assert world.waiting("sip:carol@example.com") == [b"hello"]


@pytest.mark.parametrize("route", ["<sip:127.0.0.1", "<tel:1>", "sip:a b"])
def test_route_that_is_none_is_refused(route: str) -> None:
    (refused,) = World().datagram(message(headers=f"Route: {route}\r\n"))
    assert status_of(refused) == 400


def test_scheme_that_we_do_not_know() -> None:
    """Section 16.3 item 2."""
    tel = message().replace(b"MESSAGE sip:bob@example.com", b"MESSAGE tel:+1-201-555-0123")
    assert status_of(World().datagram(tel)[0]) == 416


def test_maddr_of_a_request_uri_changes_nothing() -> None:
    # Section 16.4 has it compared with our addresses. Whose inbox it is says the host.
    world = World(Config(domains=frozenset({"example.com"})))
    request = message().replace(b"MESSAGE sip:bob@example.com", b"MESSAGE sip:bob@example.com;maddr=192.0.2.99")
    assert status_of(world.datagram(request)[0]) == 202
    assert world.waiting() == [b"hello"]


# -- 16.5: domains -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("foreign", "status"), [("404", 404), ("403", 403)])
@pytest.mark.parametrize("what", ["MESSAGE", "REGISTER", "no user"])
def test_domain_that_is_not_served(foreign: str, status: int, what: str) -> None:
    world = World(Config(domains=frozenset({"example.net"}), foreign=foreign))
    request = register() if what == "REGISTER" else message()
    if what == "no user":
        request = request.replace(b"MESSAGE sip:bob@", b"MESSAGE sip:").replace(
            b"To: <sip:bob@example.com>", b"To: <sip:bob@example.net>"
        )
    (refused,) = world.datagram(request, BOB)
    assert status_of(refused) == status


def test_message_for_another_domain_goes_on_through_the_proxy_and_its_answer_comes_back() -> None:
    world = World(ELSEWHERE)
    foreign = message(headers="Subject: x\r\nRoute: <sip:p.example.org;lr>\r\n").replace(
        b"bob@example.com", b"bob@example.org"
    )
    (sent,) = world.datagram(foreign)
    assert world.sent[-1].flow == udp(PROXY)
    assert sent.startswith(b"MESSAGE sip:bob@example.org SIP/2.0\r\n")
    assert header(sent, "Route") == "<sip:127.0.0.9:5070;lr>, <sip:p.example.org;lr>"
    assert (header(sent, "Max-Forwards"), header(sent, "Max-Breadth"), header(sent, "Subject")) == ("69", "60", "x")
    (passed,) = world.datagram(answer(sent, "202 Accepted"), PROXY)
    assert passed.startswith(b"SIP/2.0 202 Accepted\r\n")
    assert world.sent[-1].flow == udp(ALICE)
    assert world.waiting("sip:bob@example.org") == []


@pytest.mark.parametrize(("status", "passed"), [("404 Not Found", 404), ("480 Away", 480), ("503 Busy", 500)])
def test_failure_of_the_proxy_is_passed_on_and_nothing_is_stored(status: str, passed: int) -> None:
    world = World(ELSEWHERE)
    (sent,) = world.datagram(message().replace(b"bob@example.com", b"bob@example.org"))
    (refused,) = world.datagram(answer(sent, status), PROXY)
    assert status_of(refused) == passed
    assert world.waiting("sip:bob@example.org") == []


def test_silent_proxy_is_silence_for_the_sender() -> None:
    # RFC 4320 section 4.2: no 408.
    world = World(ELSEWHERE)
    (sent,) = world.datagram(message().replace(b"bob@example.com", b"bob@example.org"))
    assert [data for data in world.pass_time(100_000) if data != sent] == []
    assert world.engine.is_idle


def test_proxy_that_cannot_be_reached() -> None:
    world = World(Config(domains=frozenset({"example.com"}), foreign="sip:192.0.2.9;transport=tcp;lr"))
    world.datagram(message().replace(b"bob@example.com", b"bob@example.org"))
    send = world.sent[-1]
    assert send.flow == Flow("tcp", SERVER, ("192.0.2.9", 5060), 0)
    (refused,) = world.carry_out(world.engine.send_failed(send.token, world.now))
    assert status_of(refused) == 503


def test_strict_proxy_is_not_made_one_by_us() -> None:
    # The setting may lack the `lr`; section 16.6 step 6 wants it there.
    world = World(ELSEWHERE)
    (sent,) = world.datagram(message().replace(b"bob@example.com", b"bob@example.org"))
    assert header(sent, "Route").endswith(";lr>")


@pytest.mark.parametrize(
    "foreign",
    [
        "", "500", "proxy", "tel:1", "sips:192.0.2.1", "sip:p.example.com", "sip:192.0.2.1;transport=sctp",
        "sip:192.0.2.1?x=y", "sip:192.0.2.1;lr?x=y",
    ],
)  # fmt: skip
def test_setting_that_cannot_be_understood(foreign: str) -> None:
    with pytest.raises(LocalError, match=r"foreign = .*: give 404, 403, or"):
        World(Config(foreign=foreign))


# -- 16.6: forwarding --------------------------------------------------------------------------------------------------


def test_what_is_passed_on_keeps_every_header() -> None:
    """Section 16.6 step 1: "Fields not detailed in the processing described below MUST NOT be removed"."""
    world = registered((BOB, ""))
    kept = "Record-Route: <sip:p.example.com;lr>\r\nX-Odd:  two  blanks\r\nDate: never\r\nTo-Whom: me\r\n"
    (relayed,) = world.datagram(message(headers=kept))
    assert kept.encode() in relayed
    assert b"\r\nRecord-Route: <sip:127.0.0.1" not in relayed


@pytest.mark.parametrize(
    "contact", ["sip:bob@127.0.0.1:5072;maddr=192.0.2.99", "sip:bob@phone.example.com", "sip:bob@192.0.2.1:5070"]
)
def test_next_hop_is_where_the_register_came_from(contact: str) -> None:
    # Section 16.6 step 7 has the URI resolved (RFC 3263). P10: mail goes to its owner's device, not to an address that
    # somebody wrote.
    world = World()
    world.datagram(register(contact=f"<{contact}>"), BOB)
    (relayed,) = world.datagram(message())
    assert relayed.startswith(f"MESSAGE {contact} SIP/2.0\r\n".encode())
    assert to([relayed], world) == [BOB]


@pytest.mark.parametrize(("param", "transport"), [("", "udp"), (";transport=UDP", "udp"), (";transport=tcp", "tcp")])
def test_transport_of_a_contact_is_taken(param: str, transport: str) -> None:
    world = World()
    world.datagram(register(contact=f"<sip:bob@127.0.0.1:5072{param}>"), BOB)
    world.datagram(message())
    assert world.sent[-1].flow == Flow("tcp" if transport == "tcp" else "udp", SERVER, BOB)


def test_path_of_strict_routers() -> None:
    """Section 16.6 step 6, for the Path that the owner registered with."""
    world = World()
    edge = ("127.0.0.1", 5080)
    path = "Path: <sip:127.0.0.1:5080;x?a=b>, <sip:p.example.com;lr>\r\nSupported: path\r\n"
    world.datagram(register(headers=path, sender=edge), edge)
    (relayed,) = world.datagram(message())
    assert relayed.startswith(b"MESSAGE sip:127.0.0.1:5080;x SIP/2.0\r\n")
    assert header(relayed, "Route") == "<sip:p.example.com;lr>, <sip:bob@127.0.0.1:5072>"
    assert world.sent[-1].flow == udp(edge)


# -- 16.6, 16.7: forking -----------------------------------------------------------------------------------------------


def test_equal_q_are_tried_together_and_a_lower_one_when_they_failed() -> None:
    """Section 16.6.

    "Targets are processed from highest qvalue to lowest. Targets with equal qvalues may be processed in parallel."
    """
    world = registered((BOB, ";q=0.9"), (CAROL, ";q=0.2"), (DAVE, ";q=0.9"))
    first = world.datagram(message())
    assert sorted(to(first, world)) == [BOB, DAVE]
    assert world.datagram(answer(first[0], "486 Busy"), BOB) == []
    (last,) = world.datagram(answer(first[1], "480 Away"), DAVE)
    assert to([last], world) == [CAROL]
    (passed,) = world.datagram(answer(last), CAROL)
    assert status_of(passed) == 200


def test_silent_phone_has_a_head_start_and_no_more() -> None:
    world = registered((BOB, ""), (CAROL, ";q=0.5"), (DAVE, ";q=0.1"))
    (first,) = world.datagram(message())
    assert set(world.pass_time(1_999)) == {first}
    (second,) = world.pass_time(1)
    assert to([second], world) == [CAROL]
    third = [data for data in world.pass_time(2_000) if data not in (first, second)]
    assert [header(data, "Via") for data in third] == [header(third[0], "Via")]
    # Whoever of them takes it answers for all, and the 200 of another changes nothing.
    (passed,) = world.datagram(answer(first), BOB)
    assert status_of(passed) == 200
    assert world.datagram(answer(second), CAROL) == []
    assert world.waiting() == []


def test_nobody_is_tried_after_a_2xx() -> None:
    world = registered((BOB, ""), (CAROL, ";q=0.5"))
    (first,) = world.datagram(message())
    assert status_of(world.datagram(answer(first), BOB)[0]) == 200
    assert world.pass_time(60_000) == []


def test_6xx_ends_the_search() -> None:
    """Section 16.7 step 5: "it MUST NOT create any new branches in this context"."""
    world = registered((BOB, ""), (CAROL, ""), (DAVE, ";q=0.1"))
    one, other = world.datagram(message())
    assert world.datagram(answer(one, "603 Decline"), BOB) == []
    (passed,) = world.datagram(answer(other, "415 Unsupported Media Type"), CAROL)
    assert status_of(passed) == 603


def test_2xx_wins_over_a_6xx_that_came_first() -> None:
    world = registered((BOB, ""), (CAROL, ""))
    one, other = world.datagram(message())
    world.datagram(answer(one, "603 Decline"), BOB)
    (passed,) = world.datagram(answer(other), CAROL)
    assert status_of(passed) == 200


@pytest.mark.parametrize(
    ("first", "second", "passed"),
    [
        ("403 Forbidden", "302 Moved Temporarily", 302),
        ("403 Forbidden", "415 Unsupported Media Type", 415),
        ("415 Unsupported Media Type", "403 Forbidden", 415),
        ("403 Forbidden", "404 Not Found", 403),
        ("501 Not Implemented", "404 Not Found", 404),
        ("503 Busy", "501 Not Implemented", 501),
        ("408 Request Timeout", "505 Version Not Supported", 505),
    ],
)
def test_best_response(first: str, second: str, passed: int) -> None:
    """Section 16.7 step 6.

    "If there are no 6xx class responses in the context, the proxy SHOULD choose from the lowest response class stored
    in the response context. The proxy MAY select any response within that chosen class. The proxy SHOULD give
    preference to responses that provide information affecting resubmission of this request, such as 401, 407, 415, 420,
    and 484 if the 4xx class is chosen."
    """
    world = registered((BOB, ""), (CAROL, ""), route=NothingIsStored())
    requests = dict(zip(to(sends := world.datagram(message()), world), sends, strict=True))
    assert world.datagram(answer(requests[BOB], first), BOB) == []
    (best,) = world.datagram(answer(requests[CAROL], second), CAROL)
    assert status_of(best) == passed


def test_challenges_are_gathered() -> None:
    """Section 16.7 step 7.

    "If the selected response is a 401 (Unauthorized) or 407 (Proxy Authentication Required), the proxy MUST collect any
    WWW-Authenticate and Proxy-Authenticate header field values from all other 401 (Unauthorized) and 407 (Proxy
    Authentication Required) responses received so far in this response context and add them to this response".
    """
    world = registered((BOB, ""), (CAROL, ""), (DAVE, ""))
    requests = dict(zip(to(sends := world.datagram(message()), world), sends, strict=True))

    def challenged(at: tuple[str, int], status: str, lines: str) -> bytes:
        plain = answer(requests[at], status)
        return plain.replace(b"Content-Length", lines.encode() + b"Content-Length")

    own = 'WWW-Authenticate: Digest realm="b", algorithm=SHA-256\r\nWWW-Authenticate: Digest realm="b"\r\n'
    others = 'Proxy-Authenticate: Digest realm="c",\r\n nonce="n"\r\nwww-authenticate: Digest realm="d"\r\n'
    assert world.datagram(challenged(BOB, "401 Unauthorized", own), BOB) == []
    assert world.datagram(challenged(CAROL, "404 Not Found", 'WWW-Authenticate: Digest realm="x"\r\n'), CAROL) == []
    (best,) = world.datagram(challenged(DAVE, "407 Proxy Authentication Required", others), DAVE)
    assert status_of(best) == 401
    assert best.endswith(own.encode() + b"Content-Length: 0\r\n" + others.encode() + b"\r\n")


def test_503_of_a_phone_is_not_ours() -> None:
    """Section 16.7 step 6: "the proxy SHOULD generate a 500 (Server Internal Error) response"."""
    world = World(route=NothingIsStored())
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message())
    (passed,) = world.datagram(answer(relayed, "503 Busy"), BOB)
    assert status_of(passed) == 500


@pytest.mark.parametrize(
    ("status", "answered"),
    [
        ("408 Request Timeout", 202), ("430 Flow Failed", 202), ("480 Away", 202), ("486 Busy Here", 202),
        ("487 Request Terminated", 202), ("500 Oops", 202), ("504 Server Time-out", 202),
        # The sender can do something about these, or nobody can.
        ("302 Moved", 302), ("401 Unauthorized", 401), ("407 Proxy Authentication Required", 407), ("403 No", 403),
        ("415 Unsupported Media Type", 415), ("482 Merged", 482), ("501 No", 501), ("603 Decline", 603),
    ],
)  # fmt: skip
def test_when_no_branch_delivers_the_failure_route_stores_what_may_be_delivered_later(
    status: str, answered: int
) -> None:
    world = registered((BOB, ""), (CAROL, ";q=0.5"))
    (first,) = world.datagram(message())
    (second,) = world.datagram(answer(first, status), BOB) if answered < 600 else (first,)
    (told,) = world.datagram(answer(second, status), CAROL if answered < 600 else BOB)
    assert status_of(told) == answered
    assert world.waiting() == ([b"hello"] if answered == 202 else [])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("405 Method Not Allowed", "480 Away"), ("480 Away", "405 Method Not Allowed"), ("302 Moved", "486 Busy Here"),
        ("407 Proxy Authentication Required", "408 Request Timeout"), ("415 Unsupported Media Type", "503 Busy"),
    ],
)  # fmt: skip
def test_message_that_one_contact_may_take_later_is_stored_whatever_the_others_say(first: str, second: str) -> None:
    world = registered((BOB, ""), (CAROL, ""))
    requests = dict(zip(to(sends := world.datagram(message()), world), sends, strict=True))
    assert world.datagram(answer(requests[BOB], first), BOB) == []
    (told,) = world.datagram(answer(requests[CAROL], second), CAROL)
    assert status_of(told) == 202
    assert world.waiting() == [b"hello"]


def test_message_that_one_contact_says_nothing_about_is_stored_whatever_the_others_say() -> None:
    world = registered((BOB, ""), (CAROL, ""))
    requests = dict(zip(to(sends := world.datagram(message()), world), sends, strict=True))
    assert world.datagram(answer(requests[BOB], "405 Method Not Allowed"), BOB) == []
    assert 202 in map(status_of, world.pass_time(6_000))
    assert world.waiting() == [b"hello"]


def test_message_that_one_contact_was_not_asked_about_is_stored_whatever_the_others_say() -> None:
    world = registered((BOB, ""), (CAROL, ""))
    requests = dict(zip(to(sends := world.datagram(message(b"one")), world), sends, strict=True))
    # bob's phone still owes an answer to this one, and gets no other before.
    assert status_of(world.datagram(answer(requests[CAROL]), CAROL)[0]) == 200
    (second,) = world.datagram(message(b"two", number=2))
    (told,) = world.datagram(answer(second, "405 Method Not Allowed"), CAROL)
    assert status_of(told) == 202
    assert world.waiting() == [b"two"]


def test_6xx_is_for_all_contacts() -> None:
    world = registered((BOB, ""), (CAROL, ""))
    requests = dict(zip(to(sends := world.datagram(message()), world), sends, strict=True))
    assert world.datagram(answer(requests[BOB], "480 Away"), BOB) == []
    (told,) = world.datagram(answer(requests[CAROL], "603 Decline"), CAROL)
    assert status_of(told) == 603
    assert world.waiting() == []


def test_what_is_for_the_hop_or_a_server_on_the_way_is_not_stored() -> None:
    world = World()
    hop = (
        "Route: <sip:127.0.0.1;lr>\r\nRecord-Route: <sip:p.example.com;lr>\r\nMax-Breadth: 7\r\nProxy-Require: path\r\n"
    )
    assert status_of(world.datagram(message(headers=f"{hop}Subject: s\r\n"))[0]) == 202
    (_, delivered) = world.datagram(register(), BOB)
    assert header(delivered, "Subject") == "s"
    assert not [line for line in hop.split("\r\n") if line and header(delivered, line.partition(":")[0])]


def test_stored_message_goes_by_q_as_well() -> None:
    world = registered((BOB, ""), (CAROL, ";q=0.5"))
    for cseq, (address, params) in enumerate(((BOB, ""), (CAROL, ";q=0.5")), 3):
        contact = f"<sip:bob@{address[0]}:{address[1]}>{params};expires=0"
        world.datagram(register(contact=contact, cseq=cseq, sender=address), address)
    assert status_of(world.datagram(message())[0]) == 202
    both = "<sip:bob@127.0.0.1:5072>, <sip:bob@127.0.0.1:5073>;q=0.5"
    (_, first) = world.datagram(register(contact=both, cseq=9), BOB)
    assert first.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 ")
    (second,) = [data for data in world.pass_time(2_000) if data != first]
    assert second.startswith(b"MESSAGE sip:bob@127.0.0.1:5073 ")
    assert b"Max-Breadth" not in second
    world.datagram(answer(second), BOB)
    assert world.waiting() == []


def test_answer_comes_from_the_socket_that_the_request_came_to() -> None:
    # Section 18.2.2: the flow of the answer has our address of the request.
    world = World()
    other = ("127.0.0.2", 5060)
    actions = world.engine.receive_datagram(
        message().replace(b"MESSAGE", b"OPTIONS"), Flow("udp", other, ALICE), world.now
    )
    (send,) = (action for action in actions if isinstance(action, Send))
    assert send.flow.local == other
    flow = tcp(ALICE, 9)
    world.stream(message(number=2, transport="TCP"), flow)
    assert world.sent[-1].flow == flow
