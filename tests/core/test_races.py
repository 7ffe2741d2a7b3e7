"""Things that happen at the same time: completions in unlucky orders, phones that leave, servers that meet."""

from collections.abc import Callable

import pytest

from msilo_core import Config, Expired, Flow, Limits, ServerRoute, SiloConfig, SiloRoute
from msilo_core.actions import Action, Dump, Expire, LookUp, Outcome, Settle, StorageFailed, Store
from msilo_core.route import Call
from tests.core.world import (
    BOB,
    EPOCH_MS,
    LONG_AGO,
    SERVER,
    World,
    answer,
    body_of,
    finished,
    message,
    register,
    status_of,
    tcp,
)

CAROL = ("127.0.0.1", 5073)
CAROLS = "<sip:bob@127.0.0.1:5073>"


def beside(world: World, *, route: bool = False) -> World:
    """Return another server on the same store."""
    other = World(Config(node="other"), route=SiloRoute() if route else None)
    other.store = world.store
    return other


def two_groups(world: World, headers: str = "") -> bytes:
    """Register bob's phone and, for later, carol's; return a MESSAGE that the first of them is asked to take."""
    world.datagram(register(), BOB)
    world.datagram(register(contact=f"{CAROLS};q=0.5", cseq=2), CAROL)
    (first,) = world.datagram(message(headers=headers))
    return first


def stored_for_two_groups(world: World, headers: str = "") -> bytes:
    """As :func:`two_groups`, with a MESSAGE that was stored before."""
    world.datagram(message(headers=headers))
    _, first = world.datagram(register(contact=f"<sip:bob@127.0.0.1:5072>, {CAROLS};q=0.5", cseq=2), BOB)
    return first


# -- Storage that is slow ----------------------------------------------------------------------------------------------


def test_late_store_stays_when_its_repeat_was_acknowledged() -> None:
    world = World(route=SiloRoute())
    world.hold = {Store}
    world.datagram(message())
    (refused,) = world.pass_time(8_000)
    assert status_of(refused) == 503
    world.datagram(message().replace(b"z9hG4bKa1", b"z9hG4bKfailover"))
    stored = finished(world.store.append(list(world.held)))
    world.held.clear()
    actions: list[Action] = []
    for completion in stored:
        actions += world.engine.complete(completion, world.now)
    assert [status_of(data) for data in world.carry_out(actions)] == [202]
    assert world.waiting() == [b"hello"]


def test_what_a_phone_takes_live_before_the_store_has_answered_is_not_sent_from_there() -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    world.hold = {Store}
    world.pass_time(6_000)
    # It is there, and nobody knows its number yet.
    stored = finished(world.store.append(list(world.held)))
    world.held.clear()
    world.hold.clear()
    assert [status_of(data) for data in world.datagram(register(cseq=2), BOB)] == [200]
    assert world.datagram(answer(relayed), BOB) == []
    assert [status_of(data) for data in world.carry_out(world.engine.complete(stored[0], world.now))] == [202]
    assert world.waiting() == []


def test_sender_of_what_a_phone_took_live_is_not_told_that_the_inbox_had_no_room_for_it() -> None:
    world = World(Config(silo=SiloConfig(max_bytes=1)))
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message())
    world.hold = {Store}
    world.pass_time(6_000)
    assert world.datagram(answer(relayed), BOB) == []
    (told,) = world.let_go()
    assert status_of(told) == 200


@pytest.mark.parametrize("taken_after_ms", [1_000, 20_000])
def test_late_store_of_what_a_phone_took_live_does_not_stay(taken_after_ms: int) -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    world.hold = {Store}
    world.pass_time(6_000)
    (store,) = world.held
    world.hold.clear()
    world.held.clear()
    steps = sorted([(taken_after_ms, "taken"), (10_000, "stored")])
    for at_ms, what in steps:
        world.pass_time(6_000 + at_ms - world.mono_ms)
        if what == "taken":
            world.datagram(answer(relayed), BOB)
        else:
            world.carry_out(world.engine.complete(world.perform(store), world.now))
    assert world.waiting() == []


@pytest.mark.parametrize("held", [Dump, Settle])
def test_store_that_hangs_is_asked_once(held: type) -> None:
    world = World()
    world.datagram(message(b"kept"))
    world.hold = {held}
    sent = world.datagram(register(), BOB)
    if held is Settle:
        world.datagram(answer(sent[-1]), BOB)
    world.pass_time(3_600_000)
    assert [type(action) for action in world.held if not isinstance(action, Expire)] == [held]


def test_outcome_that_comes_late_does_not_give_up_a_later_lease() -> None:
    world = World()
    world.datagram(message(b"one"))
    (_, one) = world.datagram(register(), BOB)
    world.hold = {Settle}
    world.datagram(answer(one, "480 Away"), BOB)
    world.pass_time(10_000)
    assert len(world.datagram(register(cseq=2), BOB)) == 1
    (again,) = world.let_go()
    world.datagram(answer(again), BOB)
    assert world.waiting() == []


def test_rounds_of_the_cleaner_follow_each_other_while_there_is_something_to_delete() -> None:
    world = World()
    world.hold = {Expire}
    world.pass_time(600_000)
    (expire,) = world.held
    (again,) = world.engine.complete(Expired(expire.token, 10_000), world.now)
    assert isinstance(again, Expire)
    assert world.engine.complete(Expired(again.token, 0), world.now) == []


def test_the_next_round_of_the_cleaner_waits_for_the_store() -> None:
    world = World()
    world.hold = {Expire}
    world.pass_time(3_600_000)
    (expire,) = world.held
    world.held.clear()
    assert world.engine.complete(StorageFailed(expire.token, "it hung"), world.now) == []
    world.pass_time(599_999)
    assert not world.held
    world.pass_time(1)
    assert len(world.held) == 1


def test_the_cleaner_ends_with_a_graceful_end() -> None:
    world = World()
    world.hold = {Expire}
    world.pass_time(600_000)
    (expire,) = world.held
    world.engine.close(world.now)
    assert world.engine.complete(Expired(expire.token, 10_000), world.now) == []
    assert world.engine.next_timeout() is None


# -- Bindings that change ----------------------------------------------------------------------------------------------


def test_dump_does_not_bring_back_a_contact_that_left() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.hold = {LookUp}
    world.carry_out(world.engine.dump("sip:bob@example.com", None, world.now))
    world.datagram(message(b"one"))
    first, second = world.held
    world.held.clear()
    old = world.perform(first)
    world.hold = {LookUp, Store}
    world.datagram(register(contact="*", expires="Expires: 0\r\n", cseq=2), BOB)
    world.carry_out(world.engine.complete(old, world.now))
    assert world.carry_out(world.engine.complete(world.perform(second), world.now)) == []


def test_dump_to_one_contact_does_not_change_what_live_messages_reach() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(register(contact=CAROLS, cseq=2), CAROL)
    one, _ = world.datagram(message(b"one"))
    world.datagram(answer(one), BOB)
    world.carry_out(world.engine.dump("sip:bob@example.com", "sip:bob@127.0.0.1:5073", world.now))
    (two,) = world.datagram(message(b"two", number=2))
    assert two.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 ")


def test_register_at_another_server_is_seen_while_the_inbox_lives() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(register(contact=CAROLS, cseq=2), CAROL)
    one, _ = world.datagram(message(b"one"))
    world.datagram(register(cseq=3), BOB)
    # The other phone is silent, which keeps the inbox.
    world.datagram(answer(one), BOB)
    beside(world).datagram(register(contact="<sip:bob@127.0.0.1:5074>", cseq=4), ("127.0.0.1", 5074))
    reached = {data.split()[1] for data in world.datagram(message(b"two", number=2))}
    assert reached == {b"sip:bob@127.0.0.1:5072", b"sip:bob@127.0.0.1:5074"}


def test_message_does_not_overtake_the_line_when_the_phone_leaves() -> None:
    world = World()
    world.datagram(register(), BOB)
    (one,) = world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    world.datagram(register(contact="*", expires="Expires: 0\r\n", cseq=2), BOB)
    world.datagram(message(b"three", number=3))
    world.datagram(answer(one), BOB)
    world.pass_time(6_000)
    assert world.waiting() == [b"two", b"three"]


def test_sender_in_the_line_is_told_in_time_while_the_inbox_waits_for_its_turn() -> None:
    world = World(limits=Limits(deliveries_max=1))
    world.datagram(message(b"carols", to="carol", number=50))
    world.datagram(register(), BOB)
    (one,) = world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    world.datagram(register("carol", "<sip:carol@127.0.0.1:5073>"), CAROL)  # silent: it keeps the only turn
    beside(world, route=True).datagram(message(b"elsewhere", number=9))
    world.datagram(register(cseq=2), BOB)
    world.datagram(answer(one), BOB)
    world.pass_time(6_000)
    assert world.waiting() == [b"elsewhere", b"two"]


def test_same_contact_twice_in_one_register() -> None:
    world = World()
    (ok,) = world.datagram(register(contact="<sip:bob@127.0.0.1:5072>, <sip:bob@127.0.0.1:5072>;q=0.5"), BOB)
    assert status_of(ok) == 200
    assert ok.count(b"\r\nContact:") == 1


def test_message_that_a_phone_took_live_is_not_sent_from_a_page_that_was_on_its_way() -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"one"))
    world.pass_time(6_000)
    world.datagram(message(b"two", number=2))
    world.hold = {Dump}
    world.datagram(register(contact=CAROLS, cseq=2), CAROL)
    dumped = world.perform(world.held.popleft())
    world.datagram(answer(relayed), BOB)
    sent = world.carry_out(world.engine.complete(dumped, world.now))
    assert {body_of(data) for data in sent} == {b"two"}


# -- Who gets it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "480 Away", None])
def test_message_that_a_phone_took_live_while_another_is_sent_it_has_one_outcome(status: str | None) -> None:
    world = World()
    world.datagram(register(), BOB)
    (live,) = world.datagram(message())
    world.datagram(message(b"two", number=2))
    world.pass_time(6_000)
    assert world.waiting() == [b"hello", b"two"]
    # Another phone comes, and is sent what was stored; then the first one says that it took it.
    sent = world.datagram(register(contact=CAROLS, cseq=2), CAROL)
    (stored,) = [data for data in sent if data.startswith(b"MESSAGE")]
    world.datagram(answer(live), BOB)
    assert world.waiting() == [b"two"]
    world.hold = {Settle}
    if status is None:
        world.carry_out(world.engine.close(world.now))
        world.carry_out(world.engine.abandon(world.now))
        (second,) = [b""]
    else:
        (second,) = world.datagram(answer(stored, status), CAROL)[:1]
    assert [action.message_id for action in world.held if action.outcome is not Outcome.RELEASED] == []
    assert body_of(second) == (b"two" if status else b"")
    world.let_go()
    assert world.engine.statistics.lost_leases == 0


def test_message_that_a_phone_took_live_is_not_sent_to_the_contacts_of_a_lower_q() -> None:
    world = World()
    world.datagram(register(), BOB)
    (live,) = world.datagram(message())
    world.pass_time(6_000)
    contacts = f"{CAROLS};q=0.5, <sip:bob@127.0.0.1:5079>;q=0.1"
    (_, stored) = world.datagram(register(contact=contacts, cseq=2), CAROL)
    world.datagram(answer(live), BOB)
    # Who is asked already goes on being asked.
    assert set(world.pass_time(10_000)) == {stored}


@pytest.mark.parametrize("is_recorded", [True, False])
def test_message_that_a_phone_took_live_while_a_failure_is_recorded_is_not_sent_again(is_recorded: bool) -> None:
    world = World()
    world.datagram(register(), BOB)
    (live,) = world.datagram(message())
    world.pass_time(6_000)
    (_, stored) = world.datagram(register(contact=CAROLS, cseq=2), CAROL)
    world.hold = {Settle}
    world.datagram(answer(stored, "480 Away"), CAROL)
    world.datagram(answer(live), BOB)
    # One outcome after the other: the store may do what it is told at the same time in any order.
    (failed,) = world.held
    assert failed.outcome is Outcome.FAILED
    world.held.clear()
    world.datagram(register(contact=CAROLS, cseq=3), CAROL)
    completion = world.perform(failed) if is_recorded else StorageFailed(failed.token, "down")
    assert world.carry_out(world.engine.complete(completion, world.now)) == []
    (withdrawn,) = world.held
    assert withdrawn.outcome is Outcome.WITHDRAWN
    assert world.let_go() == []
    assert world.waiting() == []
    assert world.pass_time(10_000) == []
    assert world.engine.statistics.lost_leases == 0


def test_mail_is_not_sent_to_whoever_has_the_address_of_a_closed_stream() -> None:
    world = World(Config(trusted=("0.0.0.0/0",)))
    gone = tcp(("203.0.113.5", 40_000), 7)
    world.stream(register(contact="<sip:bob@192.168.1.2:5060;transport=tcp>", transport="TCP"), gone)
    world.carry_out(world.engine.flow_closed(gone, "reset", world.now))
    assert [status_of(data) for data in world.datagram(message(b"for bob"))] == [202]


def test_stream_of_another_run_with_the_same_number_is_not_taken_for_the_phones() -> None:
    before, after = World(Config(node="before")), World(Config(node="after"))
    before.stream(register(contact="<sip:bob@192.168.1.2:5060;transport=tcp>", transport="TCP"), tcp(BOB, 1))
    after.store = before.store
    after.stream(b"\r\n\r\n", tcp(BOB, 1))
    after.datagram(message(b"for bob"))
    assert not [send for send in after.sent if send.flow == tcp(BOB, 1) and send.data.startswith(b"MESSAGE")]


def test_request_begun_while_a_stream_closes_is_not_failed_by_it() -> None:
    world = World()
    flow = tcp(BOB, 2)
    world.stream(register(transport="TCP"), flow)
    world.datagram(register(contact=CAROLS, cseq=2), CAROL)
    one, other = world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    world.datagram(answer(one if b":5073 SIP" in one else other, "603 No"), CAROL)
    sent = world.carry_out(world.engine.flow_closed(flow, "reset", world.now))
    assert len([data for data in sent if data.startswith(b"MESSAGE")]) == 2
    (asked_for,) = [send for send in world.sent if send.flow == Flow("tcp", SERVER, BOB, 0)]
    assert body_of(asked_for.data) == b"two"
    # It still waits for an answer there: the other phone's is not the last.
    (to_carol,) = [data for data in sent if b":5073 SIP" in data]
    assert world.datagram(answer(to_carol, "480 Away"), CAROL) == []
    (accepted,) = world.carry_out(world.engine.send_failed(asked_for.token, world.now))
    assert status_of(accepted) == 202


# -- What a status means -----------------------------------------------------------------------------------------------


def test_expiry_of_a_relayed_message_counts_from_its_arrival() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(message(b"short", headers="Expires: 8\r\n"))
    world.pass_time(6_000)
    (row,) = finished(world.store.list(owner="sip:bob@example.com"))
    assert (row.inc_time_s, row.exp_time_s) == (EPOCH_MS // 1000, EPOCH_MS // 1000 + 8)


def test_message_that_expired_while_it_was_relayed_is_not_stored() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(message(b"short", headers="Expires: 3\r\n"))
    refused = [status_of(data) for data in world.pass_time(6_000) if status_of(data)]
    assert refused == [480]
    assert world.waiting() == []


@pytest.mark.parametrize("status", ["501 Not Implemented", "505 Version", "513 Too Large"])
def test_5xx_about_the_message_is_passed_on(status: str) -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    (passed,) = world.datagram(answer(relayed, status), BOB)
    assert passed.startswith(b"SIP/2.0 " + status.encode())


def test_message_that_a_phone_may_have_when_the_server_ends_is_known_to_be_a_repeat() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.datagram(register(), BOB)
    world.carry_out(world.engine.close(world.now))
    world.carry_out(world.engine.abandon(world.now))
    after = beside(world)
    (_, again) = after.datagram(register(cseq=2), BOB)
    after.datagram(answer(again, "482 Merged Request"), BOB)
    assert after.dead() == []


def test_end_that_waits_no_longer_stores_what_is_being_relayed() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    world.carry_out(world.engine.close(world.now))
    accepted = world.carry_out(world.engine.abandon(world.now))
    assert [status_of(data) for data in accepted] == [202, 202]
    assert world.waiting() == [b"one", b"two"]


def test_refusal_by_some_contacts_while_another_is_busy_is_not_for_good() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(register(contact=CAROLS, cseq=2), CAROL)
    other = beside(world, route=True)
    other.datagram(message(b"one"))
    other.datagram(message(b"picture", number=2))
    _, one, other_one = world.datagram(register(cseq=3), BOB)
    (picture,) = world.datagram(answer(other_one), CAROL)
    world.datagram(answer(picture, "415 Unsupported Media Type"), CAROL)
    world.datagram(answer(one), BOB)
    assert world.dead() == []


@pytest.mark.parametrize("begin", [two_groups, stored_for_two_groups])
def test_contact_that_left_is_not_tried_after_the_others(begin: Callable[[World], bytes]) -> None:
    world = World()
    first = begin(world)
    world.datagram(register(contact=f"{CAROLS};expires=0", cseq=3), CAROL)
    assert set(world.pass_time(5_000)) == {first}
    told = world.datagram(answer(first, "480 Away"), BOB)
    assert [data for data in told if b":5073 SIP" in data] == []
    assert world.waiting() == [b"hello"]


@pytest.mark.parametrize("begin", [two_groups, stored_for_two_groups])
def test_contact_that_runs_out_is_not_tried_after_the_others(begin: Callable[[World], bytes]) -> None:
    world = World(Config(expires_min_s=1))
    first = begin(world)
    world.datagram(register(contact=f"{CAROLS};q=0.5;expires=2", cseq=3), CAROL)
    assert set(world.pass_time(5_000)) == {first}


@pytest.mark.parametrize("begin", [two_groups, stored_for_two_groups])
def test_contact_that_comes_by_another_stream_is_reached_there(begin: Callable[[World], bytes]) -> None:
    world = World()
    first = begin(world)
    stream = tcp(CAROL, 5)
    world.stream(register(contact=f"{CAROLS};q=0.5", cseq=3, transport="TCP", sender=CAROL), stream)
    assert world.datagram(answer(first, "480 Away"), BOB) != []
    assert world.sent[-1].flow == stream


@pytest.mark.parametrize("begin", [two_groups, stored_for_two_groups])
def test_message_that_runs_out_meanwhile_goes_to_nobody_else(begin: Callable[[World, str], bytes]) -> None:
    world = World()
    first = begin(world, "Expires: 1\r\n")
    assert set(world.pass_time(2_500)) == {first}
    sent = world.datagram(answer(first, "480 Away"), BOB)
    assert [data for data in sent if data.startswith(b"MESSAGE")] == []


def test_message_that_runs_out_in_the_line_goes_to_nobody() -> None:
    world = World()
    world.datagram(register(), BOB)
    (first,) = world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2, headers="Expires: 2\r\n"))
    world.datagram(message(b"three", number=3))
    world.pass_time(3_000)
    passed, too_late, third = world.datagram(answer(first), BOB)
    assert (status_of(passed), status_of(too_late), body_of(third)) == (200, 480, b"three")


def test_phone_that_registers_while_it_owes_an_answer_at_its_old_address_is_tried_at_the_new() -> None:
    world = World()
    world.datagram(message())
    (_, first) = world.datagram(register(), BOB)
    world.datagram(register(contact=f"<sip:bob@127.0.0.1:5072>;expires=0, {CAROLS}", cseq=2), CAROL)
    sent = world.pass_time(32_000)
    assert b"MESSAGE sip:bob@127.0.0.1:5073 " in sent[-1]
    assert body_of(first) == body_of(sent[-1])
    # But not again and again.
    assert world.datagram(answer(sent[-1], "480 Away"), CAROL) == []


def test_message_is_leased_for_as_long_as_the_contacts_may_take_one_after_the_other() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    contacts = ", ".join(f"<sip:bob@127.0.0.1:{6000 + n}>;q=0.{9 - n}" for n in range(8))
    (_, first) = world.datagram(register(contact=contacts), BOB)
    world.pass_time(31_000)
    # The last of the eight was asked 14 s after the first, and may answer 32 s after that.
    seen: list[bytes] = []
    for _ in range(14):
        world.pass_time(1_000)
        other = beside(world, route=True)
        other.mono_ms = world.mono_ms
        seen += [body_of(data) for data in other.datagram(register(cseq=100 + other.mono_ms), BOB) if body_of(data)]
    assert seen == []
    assert body_of(first) == b"one"


@pytest.mark.parametrize("route", [SiloRoute(), ServerRoute()])
def test_stored_message_that_a_proxy_sends_back_is_not_taken_for_delivered(route: ServerRoute) -> None:
    proxy = ("127.0.0.1", 5080)
    world = World(Config(domains=frozenset({"example.com"})), route=route)
    world.datagram(message())
    (_, delivery) = world.datagram(register(contact="<sip:bob@192.0.2.5>", sender=proxy), proxy)
    # The phone is not there, and this is where the proxy sends what it cannot deliver.
    came = delivery.replace(b"sip:bob@192.0.2.5 SIP", b"sip:bob@example.com SIP")
    via = b"Via: SIP/2.0/UDP 127.0.0.1:5080;branch=z9hG4bKp\r\n"
    start, _, rest = came.partition(b"\r\n")
    (told,) = world.datagram(start + b"\r\n" + via + rest, proxy)
    assert status_of(told) == 480
    world.datagram(answer(delivery, "480 stored elsewhere"), proxy)
    assert world.waiting() == [b"hello"]


@pytest.mark.parametrize(("after_ms", "is_kept"), [(0, False), (31_999, False), (32_000, True)])
def test_482_is_a_repeat_of_what_a_server_before_this_one_may_have_sent_on(after_ms: int, is_kept: bool) -> None:
    """It died before it could pass the answer on, and the sender sent again until its Timer F."""
    world = World()
    world.mono_ms = after_ms
    world.datagram(message(b"again"))
    _, sent = world.datagram(register(), BOB)
    world.datagram(answer(sent, "482 Request Merged"), BOB)
    assert world.waiting() == []
    assert world.dead() == ([b"again"] if is_kept else [])


def test_482_is_no_repeat_of_what_never_left() -> None:
    world = World(began=LONG_AGO)
    world.datagram(register(), BOB)
    world.datagram(message(b"one"))
    assert [status_of(data) for data in world.carry_out(world.engine.send_failed(world.sent[-1].token, world.now))] == [
        202
    ]
    (_, second) = world.datagram(register(cseq=2), BOB)
    world.carry_out(world.engine.send_failed(world.sent[-1].token, world.now))
    (_, third) = world.datagram(register(cseq=3), BOB)
    world.datagram(answer(third, "482 Loop Detected"), BOB)
    assert body_of(second) == body_of(third) == b"one"
    assert world.dead() == [b"one"]


@pytest.mark.parametrize("order", [("486 Busy Here", "603 Decline"), ("603 Decline", "486 Busy Here")])
def test_6xx_is_for_good_whoever_else_says_what_before_or_after(order: tuple[str, str]) -> None:
    world = World()
    world.datagram(message())
    both = f"<sip:bob@127.0.0.1:5072>, {CAROLS}"
    (_, one, other) = world.datagram(register(contact=both), BOB)
    world.datagram(answer(one, order[0]), BOB)
    world.datagram(answer(other, order[1]), BOB)
    assert world.dead() == [b"hello"]


@pytest.mark.parametrize("other_says", ["480 Away", "404 Not Found", "603 Decline"])
@pytest.mark.parametrize("is_first", [True, False])
def test_phone_that_says_that_it_has_it_has_it_whatever_another_says(other_says: str, is_first: bool) -> None:
    world = World()
    world.datagram(message())
    both = f"<sip:bob@127.0.0.1:5072>, {CAROLS}"
    (_, _, other) = world.datagram(register(contact=both), BOB)
    # What bob's phone answers is lost.
    world.datagram(answer(other, "480 Away"), CAROL)
    world.pass_time(33_000)
    (_, again, other_again) = world.datagram(register(contact=both, cseq=2), BOB)
    answers = [(answer(again, "482 Request Merged"), BOB), (answer(other_again, other_says), CAROL)]
    for data, remote in answers if is_first else reversed(answers):
        world.datagram(data, remote)
    assert world.waiting() == world.dead() == []
    assert world.engine.statistics.dumped_messages == 1


def test_message_that_a_phone_says_that_it_has_goes_to_none_of_a_lower_q() -> None:
    world = World()
    stored_for_two_groups(world)
    # Neither answers in time.
    world.pass_time(38_000)
    (again,) = world.datagram(register(cseq=3), BOB)[1:]
    assert world.datagram(answer(again, "482 Request Merged"), BOB) == []
    assert world.waiting() == []


def test_failures_made_here_are_weighed_together() -> None:
    world = World()
    beside(world, route=True).datagram(message(b"x" * 64_800, headers=f"X: {'y' * 200}\r\n"))
    world.stream(register(transport="TCP"), tcp(BOB, 2))
    too_long = f"<sip:bob@127.0.0.1:5073;{'z' * 900}>;q=0.5"
    sent = world.datagram(register(contact=too_long, cseq=2), CAROL)
    by_stream = [send for send in world.sent if send.flow == tcp(BOB, 2) and send.data.startswith(b"MESSAGE")]
    assert len(by_stream) == 1
    assert [status_of(data) for data in sent if status_of(data)] == [200]
    # No datagram holds it, but the stream does; what counts is that one may work later.
    world.carry_out(world.engine.flow_closed(tcp(BOB, 2), "reset", world.now))
    assert world.dead() == []


def test_octets_of_our_own_requests_are_bounded() -> None:
    world = World(limits=Limits(client_transactions_bytes_max=50_000))
    world.datagram(register(), BOB)
    world.datagram(register("carol", "<sip:carol@127.0.0.1:5073>"), CAROL)
    (relayed,) = world.datagram(message(b"x" * 60_000))
    (told,) = world.datagram(message(b"small", to="carol", number=2))
    assert status_of(told) == 202
    assert status_of(world.datagram(answer(relayed), BOB)[0]) == 200
    # What is answered counts no more.
    world.datagram(register("carol", "<sip:carol@127.0.0.1:5073>", cseq=2), CAROL)
    assert body_of(world.sent[-1].data) == b"small"


def test_answered_requests_do_not_stop_a_delivery() -> None:
    world = World(limits=Limits(client_transactions_max=1))
    world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    (_, one) = world.datagram(register(), BOB)
    (two,) = world.datagram(answer(one), BOB)
    assert body_of(two) == b"two"


def test_delivery_waits_while_too_many_requests_are_under_way() -> None:
    world = World(limits=Limits(client_transactions_max=1))
    world.datagram(message(b"kept"))
    world.datagram(register("carol", "<sip:carol@127.0.0.1:5073>"), CAROL)
    (relayed,) = world.datagram(message(b"live", to="carol", number=2))
    assert len(world.datagram(register(), BOB)) == 1
    world.datagram(answer(relayed), CAROL)
    (delivered,) = world.pass_time(2_000)
    assert body_of(delivered) == b"kept"
    assert world.engine.statistics.failed_messages == 0


def test_fork_does_not_go_beyond_the_limit() -> None:
    world = World(limits=Limits(client_transactions_max=1))
    world.datagram(register(), BOB)
    world.datagram(register(contact=CAROLS, cseq=2), CAROL)
    (relayed,) = world.datagram(message(b"live"))
    passed_on = world.datagram(answer(relayed), CAROL)
    assert [status_of(data) for data in passed_on] == [200]


def test_register_at_its_registrar_needs_no_more_hops() -> None:
    world = World()
    (ok,) = world.datagram(register().replace(b"Max-Forwards: 70", b"Max-Forwards: 0"), BOB)
    assert status_of(ok) == 200


def test_repeat_that_is_answered_without_a_transaction_has_the_same_tag() -> None:
    world = World()
    remote = ("198.51.100.7", 5060)
    assert world.datagram(message(), remote) == world.datagram(message(), remote)
    assert world.datagram(message(number=2), remote) != world.datagram(message(), remote)


# -- Routes with a bug -------------------------------------------------------------------------------------------------


class Faulty(ServerRoute):
    """A route that raises, or decides nothing."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def request_route(self, call: Call) -> None:
        if self.fault == "request":
            raise ZeroDivisionError
        if self.fault != "nothing":
            super().request_route(call)

    def failure_route(self, call: Call) -> None:
        if self.fault == "failure":
            raise ZeroDivisionError
        if self.fault != "nothing on failure":
            super().failure_route(call)


@pytest.mark.parametrize("fault", ["failure", "nothing on failure"])
def test_bug_in_the_failure_route_costs_one_request(fault: str) -> None:
    route = Faulty(fault)
    world = World(route=route)
    world.datagram(register(), BOB)
    (one,) = world.datagram(message(b"one"))
    (failed,) = world.datagram(answer(one, "480 Away"), BOB)
    assert status_of(failed) == (500 if fault == "failure" else 480)
    assert world.engine.statistics.route_errors == (fault == "failure")
    (two,) = world.datagram(message(b"two", number=2))
    assert body_of(two) == b"two"
    world.datagram(answer(two), BOB)
    assert world.engine.is_idle


@pytest.mark.parametrize("fault", ["request", "nothing"])
def test_bug_in_the_request_route_costs_one_request(fault: str) -> None:
    route = Faulty(fault)
    world = World(route=route)
    (failed,) = world.datagram(message(b"one"))
    assert status_of(failed) == 500
    assert world.engine.is_idle
    route.fault = ""
    assert status_of(world.datagram(message(b"two", number=2))[0]) == 202


def test_phone_that_registers_at_another_server_before_the_message_is_stored() -> None:
    world = World()
    other = beside(world)
    world.hold = {Store}
    world.datagram(message())
    assert len(other.datagram(register(), BOB)) == 1
    world.let_go()
    (sent, *_) = [data for data in other.pass_time(6_000) if not status_of(data)]
    assert body_of(sent) == b"hello"
    other.datagram(answer(sent), BOB)
    assert world.waiting() == []
