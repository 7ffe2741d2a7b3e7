"""RFC 5393: loops, and how wide a request may fork."""

import pytest

from msilo_core import AuthConfig, Config
from tests.core.world import ALICE, BOB, SERVER, World, answer, header, message, register, status_of
from tests.rfc.test_rfc3261_section16 import CAROL, DAVE, ELSEWHERE, PROXY, registered, to


def test_request_that_comes_back_unchanged_is_a_loop() -> None:
    """Section 4.2.2: "the proxy MUST reject the request with a 482 (Loop Detected) response"."""
    world = World(ELSEWHERE)
    (sent,) = world.datagram(message().replace(b"bob@example.com", b"bob@example.org"))
    # The proxy takes off the Route that led to it.
    back = sent.replace(b"Route: <sip:127.0.0.9:5070;lr>\r\n", b"")
    back = back.replace(b"Via: ", b"Via: SIP/2.0/UDP 127.0.0.9:5070;branch=z9hG4bKproxy\r\nVia: ", 1)
    (refused,) = world.datagram(back, PROXY)
    assert status_of(refused) == 482


def test_request_that_comes_back_for_somebody_else_is_a_spiral() -> None:
    """Section 4.2.2: "If the values differ, the request is spiraling and processing continues"."""
    world = registered((BOB, ""))
    (relayed,) = world.datagram(message())
    spiral = relayed.replace(b"MESSAGE sip:bob@127.0.0.1:5072", b"MESSAGE sip:carol@example.com")
    (accepted,) = world.datagram(spiral.replace(b"Via: ", b"Via: SIP/2.0/UDP h;branch=z9hG4bKp\r\nVia: ", 1), BOB)
    assert status_of(accepted) == 202
    assert world.waiting("sip:carol@example.com") == [b"hello"]


def test_the_second_part_says_how_a_request_was_routed() -> None:
    """Section 4.2.1.

    "This second part MUST vary with any field used by the location service logic in determining where to retarget or
    forward this request. ... This second part MUST NOT vary with the request method."
    """

    def second_part(data: bytes) -> str:
        world = World(ELSEWHERE)
        (sent,) = world.datagram(data.replace(b"bob@example.com", b"bob@example.org"))
        return header(sent, "Via").partition(";branch=")[2].partition(";")[0].partition(".")[2]

    plain = second_part(message())
    assert len(plain) == 16
    assert second_part(message().replace(b"z9hG4bKa1", b"z9hG4bKother")) == plain
    routed = message(headers="Route: <sip:p.example.org;lr>\r\n")
    others = [message(number=2), message(to="carol").replace(b"carol@example.com", b"carol@example.org"), routed]
    assert len({plain, *map(second_part, others)}) == 4


@pytest.mark.parametrize(
    "via",
    [
        "SIP/2.0/UDP other.example.com;branch=z9hG4bKx",
        "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK0123456789abcdef1.0123456789abcdef",
        'SIP/2.0/UDP 127.0.0.1:5060;x="a;branch=b";y;branch=z9hG4bKx;z=[::1]',
        "SIP/2.0/UDP 127.0.0.1:5060",
        "this is no Via at all, but 127.0.0.1:5060 stands in it",
    ],
)
def test_vias_of_others_do_not_disturb(via: str) -> None:
    """Section 4.2.4: "Implementers need to take care to avoid making assumptions about the format of another ..."."""
    world = registered((BOB, ""))
    world.datagram(message(), ALICE)
    request = message(number=2).replace(b"Max-Forwards", f"Via: {via}\r\nMax-Forwards".encode())
    assert world.datagram(request) == []
    world.engine.abandon(world.now)


@pytest.mark.parametrize(
    ("headers", "share"),
    [
        ("", "60"), ("Max-Breadth: 7\r\n", "7"), ("Max-Breadth: 61\r\n", "60"), ("Max-Breadth: 1\r\n", "1"),
        ("Max-Breadth: 9999999999\r\n", "60"),
    ],
)  # fmt: skip
def test_one_branch_has_all_the_breadth(headers: str, share: str) -> None:
    """Section 5.3.3.

    "If a SIP proxy receives a request with no Max-Breadth header field value, it MUST add one, with a value that is
    RECOMMENDED to be 60. ... If this maximum is exceeded in a received request, the proxy MUST overwrite it".
    """
    world = registered((BOB, ""))
    (relayed,) = world.datagram(message(headers=headers))
    assert header(relayed, "Max-Breadth") == share
    assert relayed.count(b"Max-Breadth") == 1


@pytest.mark.parametrize(("breadth", "share"), [(60, "20"), (7, "2"), (3, "1")])
def test_branches_share_the_breadth(breadth: int, share: str) -> None:
    """Section 5.3.3: "MUST NOT allow the Outgoing Max-Breadth to exceed the Incoming Max-Breadth"."""
    world = registered((BOB, ""), (CAROL, ""), (DAVE, ""))
    sent = world.datagram(message(headers=f"Max-Breadth: {breadth}\r\n"))
    assert [header(data, "Max-Breadth") for data in sent] == [share] * 3


def test_what_the_breadth_does_not_suffice_for_is_tried_one_after_the_other() -> None:
    """Section 5.1: "a Max-Breadth of 1 restricts a request to pure serial forking"."""
    world = registered((BOB, ""), (CAROL, ""), (DAVE, ""))
    tried: list[tuple[str, int]] = []
    sent = world.datagram(message(headers="Max-Breadth: 1\r\n"))
    for _ in range(3):
        (data,) = sent
        assert header(data, "Max-Breadth") == "1"
        (at,) = to([data], world)
        tried.append(at)
        assert [other for other in world.pass_time(1_900) if other != data] == []
        sent = world.datagram(answer(data, "480 Away"), at)
    assert sorted(tried) == [BOB, CAROL, DAVE]
    assert status_of(sent[0]) == 202


def test_what_was_answered_frees_its_breadth() -> None:
    """Section 5.3.3.1, with a head start that is over meanwhile."""
    world = registered((BOB, ""), (CAROL, ""), (DAVE, ";q=0.5"))
    one, other = world.datagram(message(headers="Max-Breadth: 2\r\n"))
    assert set(world.pass_time(2_500)) == {one, other}
    world.datagram(answer(one, "480 Away"), to([one], world)[0])
    third = [data for data in world.pass_time(1_500) if data not in (one, other)]
    assert len(third) == 1
    assert third[0].startswith(b"MESSAGE sip:bob@127.0.0.1:5074 ")


def test_our_own_address_is_known_by_the_socket() -> None:
    world = World(Config(domains=frozenset({"example.com"})))
    here = message(headers=f"Route: <sip:{SERVER[0]};lr>\r\n")
    assert status_of(world.datagram(here)[0]) == 202


@pytest.mark.parametrize("config", [Config(), Config(auth=AuthConfig())])
@pytest.mark.parametrize("via", ['SIP/2.0/UDP 127.0.0.1:5060;x="', "SIP/2.0/UDP <, SIP/2.0/UDP 127.0.0.1:5060", "?"])
def test_via_that_cannot_be_read_is_other_elements_business(config: Config, via: str) -> None:
    world = World(config)
    world.datagram(register(), BOB)
    world.datagram(message())
    stranger = ("192.0.2.9", 5099)
    (told,) = world.datagram(message(number=2, headers=f"Via: {via}\r\n"), stranger)
    assert status_of(told) == (403 if config.auth is None else 407)
