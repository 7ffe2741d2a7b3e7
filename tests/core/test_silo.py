"""The silo's rarer turns: a store that fails while mail is under way, the end, commands of the application."""

import pytest

from msilo_core import LocalError, Settled
from msilo_core.actions import Dump, Dumped, Expire, LookUp, Outcome, Settle, StorageFailed, Store, Stored
from tests.core.world import BOB, World, answer, body_of, finished, message, register, status_of

BOBS = "sip:bob@example.com"


def failed(world: World) -> list[bytes]:
    """Let the first action that is held fail; return what the engine then sends."""
    action = world.held.popleft()
    return world.carry_out(world.engine.complete(StorageFailed(action.token, "down"), world.now))


def test_command_to_deliver_whose_look_up_fails() -> None:
    world = World()
    world.datagram(message())
    world.hold = {LookUp}
    world.carry_out(world.engine.dump(BOBS, None, world.now))
    assert failed(world) == []
    assert world.engine.is_idle


@pytest.mark.parametrize("asks", [True, False])
def test_command_to_deliver_what_is_just_being_refused_is_not_forgotten(asks: bool) -> None:
    world = World()
    world.datagram(message())
    _, first = world.datagram(register(), BOB)
    if asks:
        assert world.carry_out(world.engine.dump(BOBS, None, world.now)) == []
    sent = world.datagram(answer(first, "480 Not Now"), BOB)
    assert list(map(body_of, sent)) == ([b"hello"] if asks else [])


def test_lease_that_cannot_be_given_back_ends_by_itself() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    (_, first) = world.datagram(register(), BOB)
    world.hold = {Settle}
    assert world.datagram(answer(first, "480 Away"), BOB) == []
    outcomes = [action.outcome for action in world.held]
    assert outcomes == [Outcome.FAILED, Outcome.RELEASED]
    tried_again = world.held.popleft()
    assert failed(world) == []
    world.hold.clear()
    world.carry_out(world.engine.complete(world.perform(tried_again), world.now))
    # What could not be given back is leased until its time is over.
    world.pass_time(41_000)
    (_, again) = world.datagram(register(cseq=2), BOB)
    assert body_of(again) == b"one"


def test_outcome_that_cannot_be_recorded_is_recorded_later() -> None:
    world = World()
    world.datagram(message(b"one"))
    (_, first) = world.datagram(register(), BOB)
    world.hold = {Settle}
    world.datagram(answer(first), BOB)
    assert failed(world) == []
    assert not world.engine.is_idle
    world.hold.clear()
    world.pass_time(2_000)
    assert world.waiting() == []
    assert world.engine.is_idle


def test_page_that_cannot_be_leased_is_asked_for_later() -> None:
    world = World()
    world.datagram(message())
    world.hold = {Dump}
    world.datagram(register(), BOB)
    assert failed(world) == []
    world.hold.clear()
    (delivered,) = world.pass_time(2_000)
    assert body_of(delivered) == b"hello"


@pytest.mark.parametrize("kind", [Settle, Dump, Expire])
def test_completion_of_another_kind_is_the_runners_bug(kind: type) -> None:
    world = World()
    world.datagram(message())
    if kind is Settle:
        (_, delivered) = world.datagram(register(), BOB)
        world.hold = {Settle}
        world.datagram(answer(delivered), BOB)
    elif kind is Dump:
        world.hold = {Dump}
        world.datagram(register(), BOB)
    else:
        world.hold = {Expire}
        world.pass_time(600_000)
    (held,) = world.held
    wrong = Stored(held.token, 1) if kind is not Expire else Settled(held.token)
    if kind is Expire:
        # Nobody waits for it: it counts as one that failed.
        assert world.engine.complete(wrong, world.now) == []
        assert world.engine.statistics.storage_failures == 1
    else:
        with pytest.raises(LocalError, match="does not answer"):
            world.engine.complete(wrong, world.now)


@pytest.mark.parametrize("held", [LookUp, Settle])
def test_completion_of_another_kind_for_a_request(held: type) -> None:
    world = World()
    world.hold = {LookUp}
    world.datagram(message())
    (action,) = world.held
    wrong = Dumped(action.token, ()) if held is LookUp else Settled(action.token)
    with pytest.raises(LocalError, match="does not answer what MESSAGE asked for"):
        world.engine.complete(wrong, world.now)


@pytest.mark.parametrize("held", [LookUp, Store])
@pytest.mark.parametrize("fails", [True, False])
def test_store_that_answers_after_the_sender_was_told(held: type, fails: bool) -> None:
    world = World()
    world.hold = {held}
    world.datagram(message())
    (refused,) = world.pass_time(8_000)
    assert status_of(refused) == 503
    assert (failed(world) if fails else world.let_go()) == []
    assert world.waiting() == ([] if fails or held is LookUp else [b"hello"])
    assert world.engine.is_idle


def test_lease_that_was_lost_is_counted() -> None:
    world = World()
    world.datagram(message())
    (_, delivered) = world.datagram(register(), BOB)
    (row,) = finished(world.store.list())
    finished(world.store.settle([Settle(1, row.owner, row.message_id, "msilo", Outcome.WITHDRAWN)]))
    world.datagram(answer(delivered), BOB)
    assert world.engine.statistics.lost_leases == 1


def test_end_passes_over_inboxes_where_nothing_is_on_its_way() -> None:
    world = World()
    world.hold = {LookUp}
    world.datagram(message(to="carol"))
    assert world.engine.close(world.now) == []
    assert world.engine.abandon(world.now) == []
    assert [status_of(data) for data in world.let_go()] == [202]


def test_end_forgets_the_head_start_of_what_was_being_sent() -> None:
    world = World()
    world.datagram(message())
    contacts = "<sip:bob@127.0.0.1:5072>, <sip:bob@127.0.0.1:5073>;q=0.5"
    world.datagram(register(contact=contacts), BOB)
    world.carry_out(world.engine.close(world.now))
    world.carry_out(world.engine.abandon(world.now))
    assert [data for data in world.pass_time(2_500) if b"5073 SIP/2.0" in data] == []
    assert world.waiting() == [b"hello"]
