"""How many MESSAGEs of one inbox are outstanding to a phone: one, or more by a stream where the operator says so."""

import pytest

from msilo_core import Config, DeliveryConfig, SiloConfig, SiloRoute
from msilo_core.actions import Dump
from tests.core.world import BOB, World, answer, body_of, message, register, status_of, tcp

FLOW = tcp(BOB)
LEASE_MS = 15_000


def away(count: int, window: int = 3, **options: object) -> World:
    """Return a server with so many messages for bob, and so many at most on their way to him."""
    config = Config(delivery=DeliveryConfig(window=window), silo=SiloConfig(**options))  # type: ignore[arg-type]
    world = World(config, route=SiloRoute() if "outbound_proxy" in options else None)
    for number in range(count):
        world.datagram(message(b"%d" % number, number=number))
    return world


def back(world: World, cseq: int = 1) -> list[bytes]:
    """Let bob register by a stream; return the messages that he gets."""
    _, *sent = world.stream(register(transport="TCP", contact=f"<sip:bob@{BOB[0]};transport=tcp>", cseq=cseq), FLOW)
    return sent


def bodies(sent: list[bytes]) -> list[bytes]:
    return [body_of(data) for data in sent if data.startswith(b"MESSAGE")]


def test_one_at_a_time_if_nothing_is_said() -> None:
    assert DeliveryConfig().window == 1
    world = away(3, window=1)
    (first,) = back(world)
    assert body_of(first) == b"0"
    assert bodies(world.stream(answer(first), FLOW)) == [b"1"]


def test_as_many_as_the_window_has_in_order() -> None:
    world = away(40)
    on_their_way = back(world)
    shown = bodies(on_their_way)
    assert shown == [b"0", b"1", b"2"]
    while on_their_way:
        further = world.stream(answer(on_their_way.pop(0)), FLOW)
        shown += bodies(further)
        on_their_way += further
        assert len(on_their_way) <= 3
    assert shown == [b"%d" % number for number in range(40)]
    assert world.waiting() == []
    assert world.engine.is_idle


def test_answers_may_come_in_any_order() -> None:
    world = away(4)
    first, second, third = back(world)
    (fourth,) = world.stream(answer(third), FLOW)
    assert body_of(fourth) == b"3"
    for request in (second, fourth, first):
        assert world.stream(answer(request), FLOW) == []
    assert world.waiting() == []


def test_by_datagrams_it_is_one() -> None:
    world = away(3)
    _, *sent = world.datagram(register(), BOB)
    assert bodies(sent) == [b"0"]


def test_with_another_phone_beside_it_is_one() -> None:
    world = away(0)
    back(world)
    world.datagram(register(user="bob", contact="<sip:bob@127.0.0.1:5073>", cseq=2), ("127.0.0.1", 5073))
    for number in range(3):
        world.datagram(message(b"%d" % number, number=number))
    assert {body_of(send.data) for send in world.sent if send.data.startswith(b"MESSAGE")} == {b"0"}


def test_by_the_outbound_proxy_it_is_as_many() -> None:
    world = away(3, outbound_proxy=f"sip:{BOB[0]}:{BOB[1]};transport=tcp")
    assert bodies(back(world)) == [b"0", b"1", b"2"]


def test_message_that_is_not_taken_holds_up_what_was_not_on_its_way() -> None:
    world = away(6)
    first, second, third = back(world)
    assert world.stream(answer(first, "480 No"), FLOW) == []
    assert world.stream(answer(third), FLOW) == []
    assert world.stream(answer(second), FLOW) == []
    assert world.waiting() == [b"0", b"3", b"4", b"5"]
    assert bodies(back(world, cseq=2)) == [b"0", b"3", b"4"]


def test_each_of_those_on_their_way_may_fail() -> None:
    world = away(3)
    for request in back(world):
        assert world.stream(answer(request, "480 No"), FLOW) == []
    assert world.waiting() == [b"0", b"1", b"2"]
    again = world.pass_time(900_000)
    assert bodies(again)[0] == b"0"


def test_lease_that_ends_ends_the_wait_for_all_of_them() -> None:
    world = away(3)
    sent = back(world)
    world.failing = True
    world.mono_ms += LEASE_MS + 1
    world.carry_out(world.engine.handle_timeout(world.now))
    world.failing = False
    # The phone has them after all.
    for request in sent:
        assert world.stream(answer(request), FLOW) == []
    assert world.waiting() == []


def test_phone_that_is_elsewhere_meanwhile_gets_no_more_by_the_old_way() -> None:
    world = away(6)
    first, second, third = back(world)
    elsewhere = tcp(("127.0.0.1", 5099), 2)
    contact = f"<sip:bob@{BOB[0]};transport=tcp>"
    (registered,) = world.stream(register(transport="TCP", contact=contact, cseq=2), elsewhere)
    assert status_of(registered) == 200
    assert world.stream(answer(first), FLOW) == []
    assert world.stream(answer(second), FLOW) == []
    assert bodies(world.stream(answer(third), FLOW)) == [b"3", b"4", b"5"]
    assert world.sent[-1].flow == elsewhere


def test_one_that_expires_behind_them_is_not_sent() -> None:
    world = away(0)
    for number in range(4):
        world.datagram(message(b"%d" % number, number=number, headers="Expires: 5\r\n" if number == 3 else ""))
    first, second, third = back(world)
    world.pass_time(6_000)
    for request in (first, second, third):
        assert world.stream(answer(request), FLOW) == []
    assert world.waiting() in ([], [b"3"])


@pytest.mark.parametrize("is_answered", [False, True])
def test_end_gives_up_what_is_on_its_way(is_answered: bool) -> None:
    world = away(5)
    sent = back(world)
    world.carry_out(world.engine.close(world.now))
    world.carry_out(world.engine.abandon(world.now))
    assert world.waiting() == [b"0", b"1", b"2", b"3", b"4"]
    if is_answered:
        for request in sent:
            world.stream(answer(request), FLOW)
        assert world.waiting() == [b"3", b"4"]


def test_nothing_further_is_asked_of_the_store_while_they_are_on_their_way() -> None:
    world = away(17)
    sent = back(world)
    world.hold = {Dump}
    while len(sent) > 1:
        sent += world.stream(answer(sent.pop(0)), FLOW)
        assert not world.held
    world.stream(answer(sent.pop()), FLOW)
    assert len(world.held) == 1
    (last,) = world.let_go()
    assert body_of(last) == b"16"
