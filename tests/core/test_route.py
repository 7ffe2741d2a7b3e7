"""Routes: what a policy may ask for, and what it is told."""

import pytest

from msilo_core import Call, Config, LocalError, ServerRoute, SiloRoute
from msilo_core.actions import Binding, LookUp, Store
from msilo_core.limits import Limits
from tests.core.world import ALICE, BOB, World, answer, message, register, status_of


def test_silo_stores_and_dumps_and_asks_nobody_where_anybody_is() -> None:
    world = World(route=SiloRoute())
    world.hold = {LookUp}
    assert status_of(world.datagram(message())[0]) == 202
    ok, delivered = world.datagram(register(), BOB)
    assert (status_of(ok), delivered.startswith(b"MESSAGE ")) == (200, True)
    # Also for somebody who is there: the proxy knows better.
    assert status_of(world.datagram(message(b"two", number=2))[0]) == 202
    assert not world.held


@pytest.mark.parametrize("request_", [message(), register()])
def test_silo_serves_its_domains(request_: bytes) -> None:
    world = World(Config(domains=frozenset({"example.net"})), route=SiloRoute())
    assert status_of(world.datagram(request_, BOB)[0]) == 404


def test_silo_sends_other_domains_through_the_proxy() -> None:
    config = Config(domains=frozenset({"example.net"}), foreign="sip:127.0.0.9:5070")
    world = World(config, route=SiloRoute())
    (sent,) = world.datagram(message())
    (passed,) = world.datagram(answer(sent, "404 Not Found"), ("127.0.0.9", 5070))
    assert status_of(passed) == 404


def test_silo_says_what_cannot_be_stored() -> None:
    world = World(route=SiloRoute())
    assert status_of(world.datagram(message(headers="Expires: 0\r\n"))[0]) == 480
    nobody = message(number=2).replace(b"sip:bob@example.com", b"sip:example.com")
    assert status_of(world.datagram(nobody)[0]) == 404


class Alias(ServerRoute):
    """Stores for whomever the test names."""

    def __init__(self, owner: str | None) -> None:
        self.owner = owner
        self.told: list[tuple[bool, int]] = []

    def request_route(self, call: Call) -> None:
        is_stored = call.m_store_addrs(self.owner, "sip:from@example.com", "sip:to@example.com")
        self.told.append((is_stored, call.status))
        if not is_stored:
            call.reply(call.status, call.reason)


def test_another_owner_sender_and_recipient() -> None:
    world = World(route=Alias("sip:alias@example.com"))
    assert status_of(world.datagram(message())[0]) == 202
    assert world.waiting("sip:alias@example.com") == [b"hello"]


@pytest.mark.parametrize(("owner", "status"), [("sip:example.com", 400), ("tel:1", 400), ("", 400)])
def test_owner_that_is_none(owner: str, status: int) -> None:
    route = Alias(owner)
    world = World(route=route)
    assert status_of(world.datagram(message())[0]) == status
    assert route.told == [(False, status)]


def test_nobody_to_store_for() -> None:
    route = Alias(None)
    world = World(route=route)
    nobody = message().replace(b"sip:bob@example.com", b"sip:example.com")
    assert status_of(world.datagram(nobody)[0]) == 404
    assert route.told == [(False, 404)]


def test_nothing_is_stored_while_too_much_is_under_way() -> None:
    world = World(limits=Limits(storage_actions_max=1))
    world.hold = {Store}
    world.datagram(message())
    (refused,) = world.datagram(message(number=2))
    assert status_of(refused) == 503
    world.let_go()
    assert len(world.waiting()) == 1


class Wrong(ServerRoute):
    """Asks for what does not go with the request."""

    def __init__(self, wish: str) -> None:
        self.wish = wish
        self.raised: list[BaseException] = []

    def request_route(self, call: Call) -> None:
        try:
            getattr(call, self.wish)()
        except LocalError as error:
            self.raised.append(error)
            raise


@pytest.mark.parametrize(("wish", "request_"), [("relay", register()), ("save", message()), ("m_store", register())])
def test_wish_that_does_not_go_with_the_request_is_a_bug_of_the_route(wish: str, request_: bytes) -> None:
    route = Wrong(wish)
    world = World(route=route)
    assert status_of(world.datagram(request_, BOB)[0]) == 500
    assert len(route.raised) == 1
    assert world.engine.statistics.route_errors == 1


def test_route_that_decides_nothing() -> None:
    class Idle(ServerRoute):
        def request_route(self, call: Call) -> None:
            assert not call.is_decided

    (refused,) = World(route=Idle()).datagram(message(), ALICE)
    assert refused.startswith(b"SIP/2.0 500 The Route Decided Nothing\r\n")


def test_binding_that_ran_out_while_it_was_looked_up_does_not_count() -> None:
    class Curious(ServerRoute):
        def request_route(self, call: Call) -> None:
            if call.method == "MESSAGE":
                seen.append((call.is_registered, call.bindings))
            super().request_route(call)

    seen: list[tuple[bool, tuple[Binding, ...]]] = []
    world = World(route=Curious())
    world.datagram(register(expires="Expires: 60\r\n"), BOB)
    world.pass_time(55_000)
    world.hold = {LookUp}
    world.datagram(message())
    looked_up = world.perform(world.held.pop())
    world.pass_time(5_000)
    (accepted,) = world.carry_out(world.engine.complete(looked_up, world.now))
    assert status_of(accepted) == 202
    assert seen == [(False, ())]
