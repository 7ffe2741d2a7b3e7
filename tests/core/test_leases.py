"""Leases in the engine: renewed while a page is being sent, and nothing sent any more once one may be another's."""

from collections import deque
from typing import Any

import pytest

from msilo_core import Aor, Config, DeliveryConfig, Flow, Limits, Moment, SiloConfig, SiloRoute, Worker
from msilo_core.actions import (
    Completion,
    Dump,
    Dumped,
    LookedUp,
    LookUp,
    Outcome,
    Renew,
    Renewed,
    Retry,
    Send,
    Settle,
    Settled,
    StorageFailed,
    Unbind,
)
from msilo_core.errors import LocalError
from msilo_core.silo import PAGE_GROWTH, SETTLE_WITHIN_MS
from tests.core.world import (
    BOB,
    LONG_AGO,
    SERVER,
    World,
    answer,
    body_of,
    finished,
    header,
    message,
    register,
    status_of,
    tcp,
)

LEASE_MS = 15_000


def sending(count: int = 2, config: Config | None = None, began: Moment | None = None) -> tuple[World, bytes]:
    """Return a server that sends bob the first of so many messages."""
    world = World(config, began=began)
    for number in range(count):
        world.datagram(message(b"%d" % number, number=number))
    _, first = world.datagram(register(), BOB)
    assert body_of(first) == b"0"
    return world, first


def beside(world: World, node: str = "other") -> World:
    """Return another server on the same store, at the same time."""
    other = World(Config(node=node))
    other.store, other.mono_ms = world.store, world.mono_ms
    other.store.clock = lambda: max(world.now, other.now).unix_ms
    return other


def messages(sent: list[Send]) -> list[bytes]:
    return [send.data for send in sent if send.data.startswith(b"MESSAGE")]


# -- Renewal -----------------------------------------------------------------------------------------------------------


def test_nothing_is_renewed_where_phones_are_quick() -> None:
    world, first = sending()
    world.hold = {Renew}
    (second,) = world.datagram(answer(first), BOB)
    world.datagram(answer(second), BOB)
    world.pass_time(60_000)
    assert not world.held


def test_what_the_store_does_late_with_an_outcome_means_nothing_for_the_next_page() -> None:
    """It said that it had failed: the page was given back, as far as this server knows, and is leased anew."""
    world, first = sending(3)
    world.hold = {Settle}
    world.datagram(answer(first, "480 Later"), BOB)
    outcomes = [action for action in world.held if isinstance(action, Settle)]
    assert [settle.outcome for settle in outcomes] == [Outcome.FAILED, Outcome.RELEASED, Outcome.RELEASED]
    world.hold.clear()
    world.held.clear()
    # Of those that are given back the store says nothing.
    for settle in outcomes[1:]:
        world.carry_out(world.engine.complete(StorageFailed(settle.token, "no answer"), world.now))
    world.datagram(register(cseq=2), BOB)
    (again,) = world.carry_out(world.engine.complete(world.perform(outcomes[0]), world.now))
    assert body_of(again) == b"0"
    world.datagram(answer(again), BOB)
    for settle in outcomes[1:]:
        world.perform(settle)
    other = beside(world)
    other.datagram(register(cseq=3), BOB)
    assert [body_of(data) for data in messages([*world.sent, *other.sent])].count(b"1") == 1


def test_lease_is_renewed_each_third_of_it_as_long_as_the_phone_thinks() -> None:
    world, first = sending()
    world.hold = {Renew}
    world.pass_time(LEASE_MS // 3)
    (renewal,) = world.held
    assert (renewal.message_ids, renewal.lease_ms) == ((1, 2), LEASE_MS)
    world.let_go()
    other = beside(world)
    world.pass_time(20_000)
    other.mono_ms = world.mono_ms
    other.datagram(register(cseq=2), BOB)
    assert not messages(other.timed(1_000))
    (second,) = world.datagram(answer(first), BOB)
    assert body_of(second) == b"1"


def test_one_at_a_time_and_again_where_the_store_failed() -> None:
    world, _ = sending()
    world.hold = {Renew}
    world.pass_time(LEASE_MS // 3)
    (renewal,) = world.held
    world.held.clear()
    world.carry_out(world.engine.complete(StorageFailed(renewal.token, "down"), world.now))
    assert world.engine.statistics.storage_failures == 1
    world.pass_time(2_000)
    assert len(world.held) == 1
    world.let_go()
    assert messages(world.timed(2_000))


def test_page_is_renewed_though_the_renewal_of_the_last_one_is_not_answered() -> None:
    world = World(limits=Limits(page_messages_max=1))
    for number in range(2):
        world.datagram(message(b"%d" % number, number=number))
    _, first = world.datagram(register(), BOB)
    world.hold = {Renew}
    world.pass_time(LEASE_MS // 3)
    (second,) = world.datagram(answer(first), BOB)
    assert body_of(second) == b"1"
    world.pass_time(LEASE_MS // 3)
    world.let_go()
    world.pass_time(LEASE_MS)
    assert world.engine.statistics.lost_leases == 0


def test_late_answer_to_a_renewal_says_nothing_of_what_was_leased_since() -> None:
    world, first = sending()
    world.hold = {Renew}
    world.pass_time(LEASE_MS)
    world.datagram(answer(first, "480 Not Now"), BOB)
    world.pass_time(LEASE_MS // 3 + 1)
    world.let_go()
    world.pass_time(LEASE_MS // 3)
    assert world.engine.statistics.lost_leases == 1


# -- Their end ---------------------------------------------------------------------------------------------------------


def test_what_could_not_be_renewed_is_sent_no_more_and_leased_anew() -> None:
    world, first = sending()
    world.hold = {Renew}
    world.pass_time(LEASE_MS - 1)
    assert world.engine.statistics.lost_leases == 0
    # Its answer is awaited up to Timer F, but it is not sent again.
    assert messages(world.timed(10_000)) == []
    assert world.engine.statistics.lost_leases == 1
    world.held.clear()
    world.hold.clear()
    again, *repeats = messages(world.timed(20_000))
    assert (body_of(again), header(again, "Call-ID")) == (b"0", header(first, "Call-ID"))
    assert set(repeats) == {again}
    # What the phone has taken before is no new message to it.
    (second,) = world.datagram(answer(again, "482 Merged Request"), BOB)
    assert body_of(second) == b"1"
    world.pass_time(SETTLE_WITHIN_MS)
    assert world.waiting() == [b"1"]


def test_what_was_delivered_is_recorded_together_and_soon() -> None:
    world, sent = sending(4)
    for number in (1, 2):
        (sent,) = world.datagram(answer(sent), BOB)
        assert body_of(sent) == b"%d" % number
    assert world.waiting() == [b"0", b"1", b"2", b"3"]
    world.pass_time(SETTLE_WITHIN_MS - 1)
    assert world.waiting() == [b"0", b"1", b"2", b"3"]
    world.pass_time(1)
    assert world.waiting() == [b"2", b"3"]
    (sent,) = world.datagram(answer(sent), BOB)
    world.datagram(answer(sent), BOB)
    # Nothing of the page is being sent any more.
    assert world.waiting() == []


def test_what_was_delivered_is_recorded_before_what_failed_behind_it() -> None:
    world, first = sending()
    (second,) = world.datagram(answer(first), BOB)
    world.hold = {Settle}
    world.datagram(answer(second, "480 Not Now"), BOB)
    assert [(settle.message_id, settle.outcome) for settle in world.held if isinstance(settle, Settle)] == [
        (1, Outcome.DELIVERED),
        (2, Outcome.FAILED),
    ]
    world.let_go()
    # When it would have been recorded nothing is under way for bob any more.
    world.pass_time(SETTLE_WITHIN_MS)
    assert world.waiting() == [b"1"]


def test_end_of_the_grace_leaves_nothing_unrecorded_that_was_delivered() -> None:
    world, first = sending(3)
    world.datagram(answer(first), BOB)
    world.carry_out(world.engine.close(world.now))
    world.carry_out(world.engine.abandon(world.now))
    assert world.waiting() == [b"1", b"2"]


@pytest.mark.parametrize(("deliveries_max", "growth"), [(4, PAGE_GROWTH), (3, 1)])
def test_pages_of_a_long_inbox_grow_where_few_are_delivered(deliveries_max: int, growth: int) -> None:
    world = World(limits=Limits(page_messages_max=2, deliveries_max=deliveries_max))
    for number in range(20):
        world.datagram(message(b"%d" % number, number=number))
    asked: list[int] = []
    carry_out = world.perform

    def perform(action: Any) -> Completion:
        if isinstance(action, Dump):
            asked.append(action.messages_max)
        return carry_out(action)

    world.perform = perform  # type: ignore[method-assign]
    _, sent = world.datagram(register(), BOB)
    while sent:
        (sent,) = world.datagram(answer(sent), BOB) or (b"",)
    assert world.waiting() == []
    assert (asked[0], {*asked[1:-1]}) == (2, {2 * growth})


def test_process_that_slept_beyond_the_end_sends_nothing_more() -> None:
    world, _ = sending()
    world.hold = {Dump}
    world.mono_ms += LEASE_MS
    # Timer E is due as well.
    assert not [sent for sent in world.carry_out(world.engine.handle_timeout(world.now)) if status_of(sent) == 0]
    assert world.engine.statistics.lost_leases == 1


def test_process_that_slept_beyond_the_end_tries_no_other_contact() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.datagram(register(contact="<sip:bob@127.0.0.1:5072>, <sip:bob@127.0.0.1:5073>;q=0.5"), BOB)
    world.hold = {Dump}
    world.mono_ms += LEASE_MS
    assert not [sent for sent in world.carry_out(world.engine.handle_timeout(world.now)) if status_of(sent) == 0]


def test_answer_that_comes_after_the_end_counts() -> None:
    world, first = sending()
    world.hold = {Renew}
    world.pass_time(LEASE_MS + 1)
    (second,) = world.datagram(answer(first), BOB)
    assert body_of(second) == b"1"
    assert world.waiting() == [b"1"]


def test_answer_that_comes_when_another_server_has_it_is_not_recorded_against_that() -> None:
    world, first = sending()
    world.hold = {Renew, Dump}
    world.pass_time(LEASE_MS + 1)
    other = beside(world)
    again, *_ = messages(other.timed(6_000))
    assert body_of(again) == b"0"
    # The phone had it: nobody sends it any more, and the other server goes on behind it.
    world.datagram(answer(first), BOB)
    assert world.waiting() == [b"1"]
    (second,) = other.datagram(answer(again), BOB)
    assert body_of(second) == b"1"
    other.pass_time(SETTLE_WITHIN_MS)
    assert other.engine.statistics.lost_leases == 1


def test_page_that_another_server_took_is_given_up() -> None:
    world, _ = sending()
    world.hold = {Renew}
    world.pass_time(LEASE_MS // 3)
    (renewal,) = world.held
    world.held.clear()
    # As if an operator, or another server whose clock ran away, had taken the second.
    world.carry_out(world.engine.complete(Renewed(renewal.token, (1,)), world.now))
    assert world.engine.statistics.lost_leases == 1
    assert messages(world.timed(5_000)) == []


def test_renewal_of_what_is_settled_by_now_changes_nothing() -> None:
    world, first = sending()
    world.hold = {Renew}
    world.pass_time(LEASE_MS // 3)
    (second,) = world.datagram(answer(first), BOB)
    world.datagram(answer(second), BOB)
    world.let_go()
    assert world.engine.statistics.lost_leases == 0
    assert world.engine.is_idle


def test_failed_renewal_of_what_is_settled_by_now_is_not_tried_again() -> None:
    world, first = sending(1)
    world.hold = {Renew}
    world.pass_time(LEASE_MS // 3)
    world.datagram(answer(first), BOB)
    (renewal,) = world.held
    world.held.clear()
    world.carry_out(world.engine.complete(StorageFailed(renewal.token, "down"), world.now))
    world.pass_time(60_000)
    assert not world.held


def test_page_that_comes_too_late_is_leased_again() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.hold = {Dump}
    world.datagram(register(), BOB)
    (late,) = world.held
    world.held.clear()
    completion = world.perform(late)
    world.pass_time(LEASE_MS)
    world.hold.clear()
    (sent,) = world.carry_out(world.engine.complete(completion, world.now))
    assert body_of(sent) == b"one"
    assert world.engine.statistics.lost_leases == 1


@pytest.mark.parametrize("kind", [Renew, Unbind])
def test_completion_of_another_kind_is_a_bug_of_the_runner(kind: type) -> None:
    if kind is Renew:
        world, _ = sending()
        world.hold = {kind}
        world.pass_time(LEASE_MS // 3)
    else:
        world = World()
        world.datagram(register(), BOB)
        (live,) = world.datagram(message())
        world.hold = {kind}
        world.datagram(answer(live, "430 Flow Failed"), BOB)
    (action,) = world.held
    with pytest.raises(LocalError, match="Settled does not answer"):
        world.engine.complete(Settled(action.token), world.now)


# -- Taken over --------------------------------------------------------------------------------------------------------


def test_what_a_dead_server_was_sending_is_found_by_another_without_a_register() -> None:
    world, first = sending(3)
    # Here it dies.
    other = beside(world)
    assert messages(other.timed(LEASE_MS - 1)) == []
    again, *_ = messages(other.timed(10_000))
    assert (body_of(again), header(again, "Call-ID")) == (b"0", header(first, "Call-ID"))
    seen: list[bytes] = []
    while again:
        seen.append(body_of(again))
        again = (other.datagram(answer(again), BOB) or [b""])[0]
    assert seen == [b"0", b"1", b"2"]


@pytest.mark.parametrize("is_killed", [True, False])
def test_what_is_behind_a_page_is_found_by_another_after_that_was_delivered(is_killed: bool) -> None:
    world = World(limits=Limits(page_messages_max=2))
    for number in range(4):
        world.datagram(message(b"%d" % number, number=number))
    _, first = world.datagram(register(), BOB)
    (second,) = world.datagram(answer(first), BOB)
    if is_killed:
        world.hold = {Dump}
    else:
        world.carry_out(world.engine.close(world.now))
    world.datagram(answer(second), BOB)
    assert world.waiting() == [b"2", b"3"]
    other = beside(world)
    third, *_ = messages(other.timed(LEASE_MS + 10_000))
    assert body_of(third) == b"2"


def test_next_page_does_not_wait_for_the_time_at_which_others_look() -> None:
    world = World(limits=Limits(page_messages_max=1))
    for number in range(3):
        world.datagram(message(b"%d" % number, number=number))
    _, first = world.datagram(register(), BOB)
    world.datagram(answer(first, "480 Not Now"), BOB)
    (again,) = messages(world.timed(20_000))[:1]
    (second,) = world.datagram(answer(again), BOB)
    (third,) = world.datagram(answer(second), BOB)
    assert [body_of(sent) for sent in (again, second, third)] == [b"0", b"1", b"2"]


def test_what_a_server_gives_back_as_it_ends_is_taken_at_once() -> None:
    world, first = sending(3)
    world.carry_out(world.engine.close(world.now))
    world.datagram(answer(first), BOB)
    assert world.engine.is_idle
    other = beside(world)
    again, *_ = messages(other.timed(5_000))
    assert body_of(again) == b"1"


def test_what_no_phone_answered_as_it_ended_is_too() -> None:
    world, _ = sending(2, began=LONG_AGO)
    world.hold = {Settle, Renew}
    world.carry_out(world.engine.close(world.now))
    world.carry_out(world.engine.abandon(world.now))
    assert messages(world.timed(5_000)) == [], "it is given up, and sent again"
    assert {type(action) for action in world.held} == {Settle}, "a lease that is given up is not renewed"
    world.let_go()
    other = beside(world)
    again, *_ = messages(other.timed(5_000))
    assert body_of(again) == b"0"
    (row, _) = finished(world.store.list())
    assert (row.attempts, row.reached) == (1, 1)


def test_inbox_that_another_server_delivers_is_asked_for_again_soon() -> None:
    world, first = sending(1)
    other = beside(world)
    other.hold = {Dump}
    other.datagram(register(cseq=2), BOB)
    other.let_go()
    world.datagram(answer(first), BOB)
    other.datagram(message(b"new", number=9))
    # Long before the lease would have ended.
    sent, *_ = messages(other.timed(2_100))
    assert body_of(sent) == b"new"


# -- Bindings that lead nowhere ----------------------------------------------------------------------------------------

BY_TCP = "<sip:bob@192.0.2.77:5060;transport=tcp>"


def bindings(world: World) -> tuple[str, ...]:
    (found,) = finished(world.store.look_up([LookUp(1, Aor("bob", "example.com"), world.now.unix_s)]))
    assert isinstance(found, LookedUp)
    return tuple(binding.contact for binding in found.bindings)


@pytest.mark.parametrize("live", [True, False])
def test_430_drops_the_binding(live: bool) -> None:
    world = World()
    if live:
        world.datagram(register(), BOB)
        (sent,) = world.datagram(message())
    else:
        world.datagram(message())
        _, sent = world.datagram(register(), BOB)
    world.datagram(answer(sent, "430 Flow Failed"), BOB)
    assert bindings(world) == ()
    assert world.waiting() == [b"hello"]
    assert messages(world.timed(60_000)) == []


def test_430_of_one_of_two_leaves_the_other() -> None:
    world = World()
    world.datagram(register(contact="<sip:bob@127.0.0.1:5072>, <sip:bob@127.0.0.1:5073>"), BOB)
    one, _ = world.datagram(message())
    world.datagram(answer(one, "430 Flow Failed"), BOB)
    assert len(bindings(world)) == 1


def test_connection_that_is_gone_drops_the_binding_when_it_is_needed() -> None:
    world = World()
    stream = tcp(BOB)
    world.carry_out(world.engine.flow_opened(stream, world.now))
    world.stream(register(contact=BY_TCP, transport="TCP"), stream)
    assert len(bindings(world)) == 1
    world.carry_out(world.engine.flow_closed(stream, "reset", world.now))
    world.datagram(message())
    assert bindings(world) == ()
    assert world.waiting() == [b"hello"]


def test_store_that_cannot_drop_it_is_not_asked_twice() -> None:
    world = World()
    world.datagram(register(), BOB)
    (live,) = world.datagram(message())
    world.hold = {Unbind}
    world.datagram(answer(live, "430 Flow Failed"), BOB)
    (action,) = world.held
    world.held.clear()
    world.carry_out(world.engine.complete(StorageFailed(action.token, "down"), world.now))
    assert not world.held
    assert world.engine.statistics.storage_failures == 1


def test_store_that_is_slow_to_drop_it_is_told_once() -> None:
    world = World()
    stream = tcp(BOB)
    world.stream(register(contact=BY_TCP, transport="TCP"), stream)
    world.carry_out(world.engine.flow_closed(stream, "reset", world.now))
    world.hold = {Unbind}
    for number in range(3):
        assert [status_of(data) for data in world.datagram(message(number=number))] == [202]
    (action,) = world.held
    world.held.clear()
    world.carry_out(world.engine.complete(StorageFailed(action.token, "down"), world.now))
    world.datagram(message(number=3))
    assert len(world.held) == 1


def test_connection_to_another_server_is_left_to_that() -> None:
    world = World()
    stream = tcp(BOB)
    world.carry_out(world.engine.flow_opened(stream, world.now))
    world.stream(register(contact=BY_TCP, transport="TCP"), stream)
    other = beside(world)
    assert [status_of(data) for data in other.datagram(message())] == [202]
    assert len(bindings(world)) == 1
    # The server that has the connection finds it at its next look.
    (sent,) = messages(world.timed(5_000))
    assert (body_of(sent), world.sent[-1].flow) == (b"hello", stream)


# -- Tried again -------------------------------------------------------------------------------------------------------


def test_what_failed_is_tried_again_later_and_later() -> None:
    world, first = sending(1, began=LONG_AGO)
    at_ms: list[int] = []
    sent: list[bytes] = [first]
    while len(at_ms) < 6:
        world.datagram(answer(sent[-1], "486 Busy Here"), BOB)
        before_ms = world.mono_ms
        while not (again := messages(world.timed(100))):
            assert world.mono_ms < before_ms + 300_000
        sent += again
        at_ms.append(world.mono_ms - before_ms)
    # Each pause twice the last, a quarter more or less, and up to the next look.
    for number, pause_ms in enumerate(at_ms):
        assert 0.74 * 5_000 * 2**number <= pause_ms <= 1.26 * 5_000 * 2**number + 6_100
    assert {header(data, "Call-ID") for data in sent} == {header(first, "Call-ID")}
    (row,) = finished(world.store.list())
    assert (row.attempts, row.reached, row.reason) == (6, 6, "Busy Here")


def test_nothing_is_tried_while_nobody_is_registered() -> None:
    world, first = sending(1)
    world.datagram(answer(first, "480 Away"), BOB)
    world.datagram(register(contact="*", expires="Expires: 0\r\n", cseq=2), BOB)
    assert messages(world.timed(600_000)) == []
    _, again = world.datagram(register(cseq=3), BOB)
    assert body_of(again) == b"0"


def test_register_does_not_wait_for_the_time_and_a_new_message_does() -> None:
    world, first = sending(1)
    world.datagram(answer(first, "503 Busy\r\nRetry-After: 600"), BOB)
    assert [status_of(data) for data in world.datagram(message(b"new", number=9))] == [202]
    assert messages(world.timed(590_000)) == []
    _, again = world.datagram(register(cseq=2), BOB)
    assert body_of(again) == b"0"
    (second,) = world.datagram(answer(again), BOB)
    assert body_of(second) == b"new"


def test_retry_after_is_waited_for() -> None:
    world, first = sending(1)
    world.datagram(answer(first, "503 Busy\r\nRetry-After: 600"), BOB)
    assert messages(world.timed(599_000)) == []
    assert body_of(messages(world.timed(10_000))[0]) == b"0"


def test_live_message_that_failed_is_tried_again_too() -> None:
    world = World()
    world.datagram(register(), BOB)
    (live,) = world.datagram(message())
    (accepted,) = world.datagram(answer(live, "486 Busy Here"), BOB)
    assert status_of(accepted) == 202
    assert messages(world.timed(3_000)) == []
    again, *_ = messages(world.timed(10_000))
    assert body_of(again) == b"hello"


def test_all_of_an_inbox_is_tried_at_once_and_not_a_page_each_time() -> None:
    world = World(limits=Limits(page_messages_max=2))
    world.datagram(register(), BOB)
    (live,) = world.datagram(message(b"0", number=0))
    world.datagram(answer(live, "486 Busy Here"), BOB)
    for number in range(1, 6):
        assert [status_of(data) for data in world.datagram(message(b"%d" % number, number=number))] == [202]
    again, *_ = messages(world.timed(10_000))
    seen: list[bytes] = []
    while again:
        seen.append(body_of(again))
        again = (world.datagram(answer(again), BOB) or [b""])[0]
    assert seen == [b"%d" % number for number in range(6)]


def test_phone_that_always_errs_does_not_hold_up_the_inbox_for_ever() -> None:
    world, sent = sending(2, Config(delivery=DeliveryConfig(retry_min_s=1, retry_max_s=1)))
    for _ in range(15):
        world.datagram(answer(sent, "500 Crash"), BOB)
        (sent,) = messages(world.timed(7_000))[:1]
        assert body_of(sent) == b"0"
    (behind,) = world.datagram(answer(sent, "500 Crash"), BOB)
    assert body_of(behind) == b"1"
    assert world.dead() == [b"0"]


def test_server_that_starts_finds_what_is_due() -> None:
    world, first = sending(1)
    world.datagram(answer(first, "486 Busy Here"), BOB)
    later = beside(world)
    assert body_of(messages(later.timed(20_000))[0]) == b"0"


def test_store_that_cannot_say_what_is_due_is_asked_again() -> None:
    world, first = sending(1)
    world.hold = {Retry}
    world.datagram(answer(first, "486 Busy Here"), BOB)
    world.pass_time(30_000)
    (held,) = world.held
    world.held = deque()
    world.carry_out(world.engine.complete(StorageFailed(held.token, "down"), world.now))
    world.hold.clear()
    assert body_of(messages(world.timed(5_000))[0]) == b"0"


def test_dump_that_failed_for_a_register_is_asked_for_as_urgently_again() -> None:
    world, first = sending(1)
    world.datagram(answer(first, "503 Busy\r\nRetry-After: 600"), BOB)
    world.hold = {Dump}
    world.datagram(register(cseq=2), BOB)
    (held,) = world.held
    assert held.is_early
    world.held.clear()
    world.carry_out(world.engine.complete(StorageFailed(held.token, "down"), world.now))
    world.pass_time(2_000)
    (held,) = world.held
    assert held.is_early
    (sent,) = world.let_go()
    assert body_of(sent) == b"0"


def test_so_many_owners_at_one_look() -> None:
    world = World(limits=Limits(retries_max=1))
    for number, user in enumerate(("bob", "carol")):
        world.datagram(register(user, f"<sip:{user}@127.0.0.1:5072>"), BOB)
        (live,) = world.datagram(message(to=user, number=number))
        world.datagram(answer(live, "486 Busy Here"), BOB)
    first, *_ = messages(world.timed(11_000))
    world.datagram(answer(first), BOB)
    second, *_ = messages(world.timed(6_000))
    assert header(first, "To") != header(second, "To")


def test_outbound_proxy_is_tried_again_for_whom_only_it_knows() -> None:
    proxy = ("127.0.0.9", 5070)
    world = World(Config(silo=SiloConfig(outbound_proxy="sip:127.0.0.9:5070")), route=SiloRoute())
    world.datagram(message())
    (sent,) = world.carry_out(world.engine.dump("sip:bob@example.com", None, world.now))
    world.datagram(answer(sent, "480 Away"), proxy)
    again, *_ = messages(world.timed(11_000))
    assert (body_of(again), world.sent[-1].flow) == (b"hello", Flow("udp", SERVER, proxy))


@pytest.mark.parametrize("worker", [Worker(), Worker(1, 2)], ids=["alone", "worker"])
def test_what_waits_for_the_outbound_proxy_is_tried_again_after_a_restart(worker: Worker) -> None:
    proxy = ("127.0.0.9", 5070)
    silo = SiloConfig(outbound_proxy="sip:127.0.0.9:5070")
    world = World(Config(silo=silo), route=SiloRoute())
    world.datagram(message())
    (sent,) = world.carry_out(world.engine.dump("sip:bob@example.com", None, world.now))
    world.datagram(answer(sent, "480 Away"), proxy)
    other = World(Config(silo=silo, node="n.2", worker=worker), route=SiloRoute())
    other.store, other.mono_ms = world.store, world.mono_ms
    other.store.clock = lambda: other.now.unix_ms
    # Nobody knows where it would leave from before something has come.
    assert messages(other.timed(60_000)) == []
    other.datagram(message(b"new", to="carol", number=1), proxy)
    again, *_ = messages(other.timed(31_000))
    assert body_of(again) == b"hello"


def test_reading_of_a_dump_that_is_too_early() -> None:
    world, first = sending(1)
    world.datagram(answer(first, "503 Busy\r\nRetry-After: 600"), BOB)
    world.hold = {Dump}
    world.datagram(message(b"new", number=9))
    (held,) = world.held
    assert not held.is_early
    completion = world.perform(held)
    assert completion == Dumped(held.token, (), is_early=True)
    world.let_go()
    # Nothing overtakes what is to be tried later, live messages least of all.
    assert [status_of(data) for data in world.datagram(message(b"live", number=10))] == [202]
    assert world.waiting() == [b"0", b"new", b"live"]


def test_attempt_that_reached_nobody_is_no_proof_that_a_phone_has_it() -> None:
    world = World(began=LONG_AGO)
    world.datagram(message())
    world.datagram(register(contact="<sip:bob@127.0.0.1:5072;transport=tcp>", transport="UDP"), BOB)
    world.hold = {Settle}
    world.carry_out(world.engine.send_failed(world.sent[-1].token, world.now))
    (settle,) = world.held
    assert (settle.outcome, settle.status) == (Outcome.UNREACHED, 503)
    world.let_go()
    (row,) = finished(world.store.list())
    assert (row.attempts, row.reached) == (1, 0)
    again, *_ = messages(world.timed(12_000))
    world.datagram(answer(again, "482 Loop Detected"), BOB)
    assert world.dead() == [b"hello"]


# -- Fair between owners -----------------------------------------------------------------------------------------------


def test_owners_who_wait_have_a_page_each_in_turn() -> None:
    world = World(limits=Limits(deliveries_max=1, page_messages_max=3))
    for number in range(7):
        world.datagram(message(b"b%d" % number, number=number))
        world.datagram(message(b"c%d" % number, number=10 + number, to="carol"))
    _, sent = world.datagram(register(), BOB)
    assert len(world.datagram(register("carol", "<sip:carol@127.0.0.1:5073>"), BOB)) == 1
    seen: list[bytes] = []
    while sent:
        seen.append(body_of(sent))
        sent = (world.datagram(answer(sent), BOB) or [b""])[0]
    pages = ["b0 b1 b2", "c0 c1 c2", "b3 b4 b5", "c3 c4 c5", "b6", "c6"]
    assert seen == " ".join(pages).encode().split()
    assert world.engine.is_idle


# -- What others look for ----------------------------------------------------------------------------------------------


def test_head_that_expires_while_it_is_to_be_tried_again_leaves_that_to_the_next() -> None:
    world = World()
    world.datagram(message(b"0", number=0, headers="Expires: 4\r\n"))
    world.datagram(message(b"1", number=1))
    _, first = world.datagram(register(), BOB)
    world.datagram(answer(first, "480 No"), BOB)
    (second, *_) = messages(world.timed(1_000_000))
    assert body_of(second) == b"1"


def test_last_of_a_page_that_expires_leaves_it_to_those_before_it() -> None:
    world = World()
    world.datagram(message(b"0", number=0))
    world.datagram(message(b"1", number=1, headers="Expires: 10\r\n"))
    world.datagram(register(), BOB)
    other = beside(world)
    (again, *_) = messages(other.timed(1_000_000))
    assert body_of(again) == b"0"


def test_what_an_operator_deletes_leaves_it_to_the_next() -> None:
    world, first = sending()
    world.datagram(answer(first, "480 No"), BOB)
    world.pass_time(1)
    assert finished(world.store.purge([1], waiting=True)).done == (1,)
    (second, *_) = messages(world.timed(10_000))
    assert body_of(second) == b"1"
