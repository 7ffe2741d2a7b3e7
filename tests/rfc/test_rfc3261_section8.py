"""RFC 3261 sections 8.2, 9.2 and 11.2: what a request must pass before anything is done about it."""

import pytest

from msilo_core import AuthConfig, Config, ServerRoute
from msilo_core.actions import Bind, LookUp, Store
from msilo_core.route import Call
from tests.core.world import ALICE, BOB, World, answer, header, message, register, status_of, udp

ALLOW = "MESSAGE, REGISTER, OPTIONS, CANCEL, ACK"


def as_method(method: str, data: bytes) -> bytes:
    """Return a MESSAGE with another method."""
    return data.replace(b"MESSAGE sip", f"{method} sip".encode()).replace(b"7 MESSAGE", f"7 {method}".encode())


def by_another_way(data: bytes) -> bytes:
    """Return the same request as another proxy forwards it."""
    return data.replace(b"branch=z9hG4bK", b"branch=z9hG4bKother")


# -- Methods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["INVITE", "BYE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REFER", "INFO", "PRACK", "UPDATE"]
)
def test_known_method_that_is_not_supported(method: str) -> None:
    """Section 8.2.1.

    "If the UAS recognizes but does not support the method of a request, it MUST generate a 405 (Method Not Allowed)
    response. ... The UAS MUST also add an Allow header field to the 405 (Method Not Allowed) response."
    """
    world = World()
    (refused,) = world.datagram(as_method(method, message()))
    assert (status_of(refused), header(refused, "Allow")) == (405, ALLOW)


@pytest.mark.parametrize("method", ["message", "FOO", "!interesting-Method0123456789_*+`.%indeed'~"])
def test_method_that_nobody_knows(method: str) -> None:
    """Section 21.5.2: 501 is "the appropriate response when a UAS does not recognize the request method"."""
    world = World()
    (refused,) = world.datagram(as_method(method, message()))
    assert (status_of(refused), header(refused, "Allow")) == (501, ALLOW)


def test_repeat_of_a_refused_request_is_refused_in_the_same_words() -> None:
    # Section 8.2.7: a stateless answer, so that the To tag must not differ.
    world = World()
    assert world.datagram(as_method("INVITE", message())) == world.datagram(as_method("INVITE", message()))


def test_method_is_looked_at_before_credentials() -> None:
    # Section 8.2 begins with authentication. A refusal that is the same for everybody need not wait for it.
    world = World(Config(trusted=(), auth=AuthConfig()))
    assert status_of(world.datagram(as_method("INVITE", message()))[0]) == 405
    assert status_of(world.datagram(message(headers="Proxy-Require: privacy\r\n"))[0]) == 420
    assert status_of(world.datagram(message())[0]) == 407


# -- Require -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "unsupported"),
    [
        ("Require: teleport\r\n", "teleport"),
        ("Require: path, teleport,100rel\r\nRequire: 100rel, Path\r\n", "teleport, 100rel"),
        ("Proxy-Require: privacy\r\nRequire: foo\r\n", "foo, privacy"),
    ],
)
@pytest.mark.parametrize("request_", [register(), as_method("OPTIONS", message())], ids=["REGISTER", "OPTIONS"])
def test_required_extension_that_is_not_understood(request_: bytes, headers: str, unsupported: str) -> None:
    """Section 8.2.2.3.

    "If a UAS does not understand an option-tag listed in a Require header field, it MUST respond by generating a
    response with status code 420 (Bad Extension). The UAS MUST add an Unsupported header field, and list in it those
    options it does not understand".
    """
    world = World()
    (refused,) = world.datagram(request_.replace(b"Content-Length", headers.encode() + b"Content-Length"), BOB)
    assert (status_of(refused), header(refused, "Unsupported")) == (420, unsupported)


def test_what_is_required_must_be_readable() -> None:
    for request_ in (register(headers="Require: a b\r\n"), message(headers="Proxy-Require: <x>\r\n")):
        assert status_of(World().datagram(request_, BOB)[0]) == 400
    (refused,) = World().datagram(message(headers='Require: "x"\r\n'))
    assert status_of(refused) == 400


def test_required_extension_that_is_understood() -> None:
    world = World()
    (ok,) = world.datagram(register(headers="Require: path\r\n"), BOB)
    assert status_of(ok) == 200


def test_proxy_must_understand_what_is_required_of_it() -> None:
    """Section 16.3 item 5; also for a MESSAGE, wherever it goes."""
    world = World()
    (refused,) = world.datagram(message(headers="Proxy-Require: privacy\r\n"))
    assert (status_of(refused), header(refused, "Unsupported")) == (420, "privacy")


def test_what_is_required_of_the_phone_is_for_the_phone_and_else_for_us() -> None:
    world = World()
    (refused,) = world.datagram(message(headers="Require: recipient-list-message\r\n"))
    assert (status_of(refused), header(refused, "Unsupported")) == (420, "recipient-list-message")
    assert world.waiting() == []
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(number=2, headers="Require: recipient-list-message\r\n"))
    assert header(relayed, "Require") == "recipient-list-message"
    (refused,) = world.datagram(answer(relayed, "480 Away"), BOB)
    assert (status_of(refused), header(refused, "Unsupported")) == (420, "recipient-list-message")


def test_cancel_is_not_refused_for_what_it_requires() -> None:
    """Section 8.2.2.3: Require and Proxy-Require "MUST be ignored if they are present" in a CANCEL."""
    world = World()
    cancel = as_method("CANCEL", message(headers="Require: teleport\r\nProxy-Require: teleport\r\n"))
    assert status_of(world.datagram(cancel)[0]) == 481


# -- Merged requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("held", "request_"), [(Store, message()), (Bind, register())], ids=["MESSAGE", "REGISTER"])
def test_request_that_comes_by_two_ways(held: type, request_: bytes) -> None:
    """Section 8.2.2.2.

    "If the From tag, Call-ID, and CSeq exactly match those associated with an ongoing transaction, but the request does
    not match that transaction ..., the UAS core SHOULD generate a 482 (Loop Detected) response".
    """
    world = World()
    world.hold = {held}
    world.datagram(request_, BOB)
    (merged,) = world.datagram(by_another_way(request_), BOB)
    assert status_of(merged) == 482
    (ok,) = world.let_go()
    assert status_of(ok) in (200, 202)


def test_request_that_comes_again_by_another_way_after_the_answer_is_the_same_message() -> None:
    # Its sender may have lost our 202 and turned to another proxy: a 482 would tell it that the message is lost.
    world = World()
    assert status_of(world.datagram(message())[0]) == 202
    assert status_of(world.datagram(by_another_way(message()))[0]) == 202
    assert world.waiting() == [b"hello"]


def test_request_that_nobody_waits_for_any_more_is_no_merge_of_its_repeat() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(message())
    # As when the machine slept: its sender's time-out comes before ours, and only then it is stored.
    world.mono_ms += 60_000
    world.carry_out(world.engine.handle_timeout(world.now))
    assert status_of(world.datagram(by_another_way(message()))[0]) == 202
    assert world.waiting() == [b"hello"]


def test_route_that_stores_a_message_twice_makes_no_merge_of_it() -> None:
    class Eager(ServerRoute):
        def request_route(self, call: Call) -> None:
            call.m_store()
            call.m_store()

    world = World(route=Eager())
    assert [status_of(data) for data in world.datagram(message())] == [202]
    assert world.waiting() == [b"hello"]


def test_recipients_are_no_merge_of_each_other() -> None:
    world = World()
    world.hold = {Store}
    world.datagram(message())
    assert world.datagram(by_another_way(message()).replace(b"sip:bob@", b"sip:carol@")) == []
    assert [status_of(data) for data in world.let_go()] == [202, 202]


def test_proxy_does_not_mind_merged_requests() -> None:
    """Section 16.3: a proxy "MUST NOT treat merged requests as an error condition"."""
    world = World()
    world.datagram(register(), BOB)
    (first,) = world.datagram(message())
    assert world.datagram(by_another_way(message())) == []
    passed, second = world.datagram(answer(first), BOB)
    assert status_of(passed) == 200
    assert second.startswith(b"MESSAGE ")


def test_request_in_a_dialog_is_not_looked_at_for_merges() -> None:
    """Section 8.2.2.2: "If the request has no tag in the To header field"."""
    world = World()
    world.hold = {Store}
    tagged = message().replace(b"To: <sip:bob@example.com>", b"To: <sip:bob@example.com>;tag=t")
    world.datagram(tagged)
    assert world.datagram(by_another_way(tagged)) == []
    assert [status_of(data) for data in world.let_go()] == [202, 202]
    assert world.waiting() == [b"hello"]


# -- Max-Forwards, ACK, CANCEL, OPTIONS --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (message(), 483),
        (register(), 200),
        (as_method("OPTIONS", message()), 200),
        (as_method("INVITE", message()), 405),
    ],
    ids=["MESSAGE", "REGISTER", "OPTIONS", "INVITE"],
)
def test_last_hop(request_: bytes, status: int) -> None:
    """Section 16.3 item 3.

    "If the request contains a Max-Forwards header field with a field value of zero (0), the element MUST NOT forward
    the request. If the request was for OPTIONS, the element MAY act as the final recipient".
    """
    world = World()
    (answered,) = world.datagram(request_.replace(b"Max-Forwards: 70", b"Max-Forwards: 0"), BOB)
    assert status_of(answered) == status


def test_ack_is_never_answered() -> None:
    world = World()
    assert world.datagram(as_method("ACK", message())) == []
    assert world.datagram(as_method("ACK", message()).replace(b"CSeq: 7", b"CSeq: x")) == []
    assert world.engine.statistics.dropped == {"ACK": 1, "malformed: ParseError": 1}


@pytest.mark.parametrize("branch", ["z9hG4bKa1", "of-rfc-2543"])
def test_cancel_has_no_effect_and_is_answered(branch: str) -> None:
    """Section 9.2.

    "If the UAS did not find a matching transaction for the CANCEL according to the procedure above, it SHOULD respond
    to the CANCEL with a 481 ... If the original request was not an INVITE, the CANCEL request has no effect on the
    processing of transactions ... the UAS answers the CANCEL request itself with a 200 (OK) response."
    """
    world = World()
    request = message().replace(b"z9hG4bKa1", branch.encode())
    cancel = as_method("CANCEL", request)
    assert status_of(world.datagram(cancel)[0]) == 481
    world.hold = {LookUp}
    world.datagram(request)
    (ok,) = world.datagram(cancel)
    assert (status_of(ok), header(ok, "CSeq")) == (200, "7 CANCEL")
    assert [status_of(data) for data in world.let_go()] == [202]
    assert world.waiting() == [b"hello"]


def test_options_tells_what_we_can_do() -> None:
    """Section 11.2: Allow, Accept, Accept-Encoding, Accept-Language and Supported "SHOULD be present" in the 200."""
    world = World()
    (ok,) = world.datagram(as_method("OPTIONS", message()))
    assert status_of(ok) == 200
    told = {name: header(ok, name) for name in ("Allow", "Accept", "Accept-Encoding", "Accept-Language", "Supported")}
    assert told == {
        "Allow": ALLOW, "Accept": "*/*", "Accept-Encoding": "*", "Accept-Language": "*", "Supported": "path"
    }  # fmt: skip


def test_options_for_a_user_is_answered_here() -> None:
    # A proxy would pass it on (section 16); we pass on nothing but MESSAGE.
    world = World()
    world.datagram(register(), BOB)
    (ok,) = world.datagram(as_method("OPTIONS", message()))
    assert status_of(ok) == 200
    assert world.sent[-1].flow == udp(ALICE)


def test_malformed_comes_before_all_else() -> None:
    world = World(Config(domains=frozenset({"example.net"})))
    (refused,) = world.datagram(
        as_method("INVITE", message(headers="Require: x\r\n")).replace(b"Call-ID:", b"Call-IX:")
    )
    assert status_of(refused) == 400


def test_unreadable_numbers_are_malformed() -> None:
    for headers in ("Max-Breadth: 0\r\n", "Max-Breadth: x\r\n", "Max-Breadth: 1\r\nMax-Breadth: 1\r\n"):
        (refused,) = World().datagram(message(headers=headers), ALICE)
        assert status_of(refused) == 400


# -- Section 8.1.3: what a final response means for a stored message ---------------------------------------------------


@pytest.mark.parametrize(
    ("status", "waits", "is_set_aside"),
    [
        ("200 OK", False, False), ("299 New", False, False),
        ("400 Bad Request", False, True), ("699 New", False, True),
        # Redirections are not followed (section 8.1.3.4) and challenges not answered: the phone is asked again later.
        ("302 Moved Temporarily", True, False), ("401 Unauthorized", True, False),
        # Section 8.1.3.2 has it taken for a 400, which would end it.
        ("499 New", True, False), ("599 New", True, False),
    ],
)  # fmt: skip
def test_what_a_final_response_makes_of_a_stored_message(status: str, waits: bool, is_set_aside: bool) -> None:
    world = World()
    world.datagram(message())
    (_, delivered) = world.datagram(register(), BOB)
    assert world.datagram(answer(delivered, status), BOB) == []
    assert world.waiting() == ([b"hello"] if waits else [])
    assert world.dead() == ([b"hello"] if is_set_aside else [])
