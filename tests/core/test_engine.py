"""The engine from the outside: literal octets in, what must be sent out."""

import gc

import pytest

from msilo_core import (
    Aor,
    Config,
    Flow,
    Limits,
    LocalError,
    Message,
    Moment,
    SiloConfig,
    SiloRoute,
    Stored,
    Unavailable,
)
from msilo_core.actions import Bind, Dropped, Dump, Expired, LookUp, Send, Settle, StorageFailed, Store
from tests.core.world import (
    ALICE,
    BOB,
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
    udp,
)

REMOTE = ("198.51.100.7", 5060)


# -- The main job ------------------------------------------------------------------------------------------------------


def test_message_for_absent_user_is_answered_only_after_the_commit() -> None:
    world = World()
    world.hold = {Store}
    assert world.datagram(message()) == []
    assert len(world.held) == 1
    (accepted,) = world.let_go()
    assert accepted.startswith(b"SIP/2.0 202 Accepted\r\n")
    assert header(accepted, "Call-ID") == "call1@alice.example.com"
    assert ";tag=" in header(accepted, "To")
    assert world.sent[-1].flow == udp(ALICE)


def test_stored_messages_are_delivered_in_order_one_at_a_time() -> None:
    world = World()
    for number in (1, 2, 3):
        assert status_of(world.datagram(message(b"text %d" % number, number=number))[0]) == 202
    ok, first = world.datagram(register(), BOB)
    assert status_of(ok) == 200
    assert world.sent[-1].flow == udp(BOB)
    assert first.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 SIP/2.0\r\n")
    assert body_of(first) == b"text 1"
    (second,) = world.datagram(answer(first), BOB)
    assert body_of(second) == b"text 2"
    (third,) = world.datagram(answer(second), BOB)
    assert body_of(third) == b"text 3"
    assert world.datagram(answer(third), BOB) == []
    assert world.waiting() == []
    assert world.engine.statistics.stored_messages == 3
    assert world.engine.statistics.dumped_messages == 3


def test_what_two_ends_say_to_each_other_arrives_as_it_was_sent() -> None:
    world = World()
    body = bytes(range(256))
    extra = "Subject: caf\u00e9\r\nX-Odd:  two  blanks\r\nPriority: urgent\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\n"
    world.datagram(message(body, headers=extra))
    (_, delivered) = world.datagram(register(), BOB)
    assert body_of(delivered) == body
    for line in extra.encode().split(b"\r\n"):
        assert line in delivered
    assert header(delivered, "From") == '"Alice" <sip:alice@example.com>;tag=f1'
    assert header(delivered, "To") == "<sip:bob@example.com>"
    assert header(delivered, "Call-ID") == "call1@alice.example.com"
    assert header(delivered, "CSeq") == "7 MESSAGE"
    assert header(delivered, "Content-Type") == "text/plain"
    assert delivered.count(b"\r\nDate:") == 1


def test_credentials_are_not_kept() -> None:
    world = World()
    world.datagram(message(headers='Authorization: Digest username="alice"\r\nProxy-Authorization: Digest x="y"\r\n'))
    (_, delivered) = world.datagram(register(), BOB)
    assert b"Digest" not in delivered


@pytest.mark.parametrize("add_date", [0, 1])
def test_add_date_prefixes_text_only_where_it_is_wanted(add_date: int) -> None:
    world = World(Config(silo=SiloConfig(add_date=add_date)))
    world.datagram(message(b"hi"))
    (_, delivered) = world.datagram(register(), BOB)
    expected = b"[Offline message - Mon Sep 21 14:13:20 2026] hi" if add_date else b"hi"
    assert body_of(delivered) == expected
    assert header(delivered, "Content-Length") == str(len(expected))


# -- Live messages -----------------------------------------------------------------------------------------------------


def test_live_message_is_relayed_and_the_phones_answer_passed_back() -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live", headers="Subject: s\r\nRoute: <sip:127.0.0.1;lr>\r\n"))
    assert relayed.startswith(
        b"MESSAGE sip:bob@127.0.0.1:5072 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK"
    )
    assert header(relayed, "Max-Forwards") == "69"
    assert header(relayed, "Subject") == "s"
    assert b"\r\nRoute:" not in relayed
    (passed,) = world.datagram(answer(relayed), BOB)
    assert passed.startswith(b"SIP/2.0 200 OK\r\n")
    assert passed.count(b"\r\nVia:") == 1
    assert header(passed, "Via").startswith("SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bKa1")
    assert header(passed, "To") == "<sip:bob@example.com>;tag=phone"
    assert world.sent[-1].flow == udp(ALICE)
    assert world.waiting() == []
    assert world.engine.statistics.relayed_messages == 1


@pytest.mark.parametrize("found", [b"", b"Via: SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bKother\r\n", b"Via: x\r\n"])
def test_phone_that_lost_the_senders_via_is_believed_all_the_same(found: bytes) -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    own, senders = [line for line in relayed.split(b"\r\n") if line.startswith(b"Via:")]
    lost = answer(relayed).replace(senders + b"\r\n", found)
    assert own in lost
    (passed,) = world.datagram(lost, BOB)
    assert passed.startswith(b"SIP/2.0 200 OK\r\n" + senders)


@pytest.mark.parametrize("status", ["408 Request Timeout", "430 Flow Failed", "480 Away", "500 Oops", "503 Busy"])
def test_live_message_that_fails_for_now_is_stored(status: str) -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    (accepted,) = world.datagram(answer(relayed, status), BOB)
    assert status_of(accepted) == 202
    assert world.waiting() == [b"live"]


@pytest.mark.parametrize("status", ["403 Forbidden", "415 Unsupported Media Type", "603 Decline"])
def test_live_message_that_the_phone_refuses_is_passed_back(status: str) -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    (passed,) = world.datagram(answer(relayed, status), BOB)
    assert passed.startswith(b"SIP/2.0 " + status.encode())
    assert world.waiting() == []


def test_silent_phone_is_given_up_in_time_for_the_sender() -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    sent = world.pass_time(5_999)
    assert set(sent) == {relayed}
    (accepted,) = [data for data in world.pass_time(1) if status_of(data)]
    assert status_of(accepted) == 202
    assert world.waiting() == [b"live"]


def test_phone_that_answers_after_the_message_was_stored_gets_it_once() -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    world.pass_time(6_000)
    assert world.waiting() == [b"live"]
    assert world.datagram(answer(relayed), BOB) == []
    assert world.waiting() == []
    assert world.datagram(register(cseq=2), BOB)[1:] == []


def test_late_answer_withdraws_the_row_also_while_it_is_being_stored() -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"live"))
    world.hold = {Store}
    world.pass_time(6_000)
    world.datagram(answer(relayed), BOB)
    assert [status_of(data) for data in world.let_go()] == [202]
    assert world.waiting() == []


def test_nothing_is_sent_to_a_phone_that_still_owes_an_answer() -> None:
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(b"one"))
    world.pass_time(6_000)
    assert status_of(world.datagram(message(b"two", number=2))[0]) == 202
    (ok,) = world.datagram(register(cseq=2), BOB)
    assert status_of(ok) == 200
    # Timer F of the first ends; then the first goes out again, with the same identity, and the second behind it.
    sent = [data for data in world.pass_time(30_000) if data.startswith(b"MESSAGE") and data != relayed]
    assert body_of(sent[0]) == b"one"
    assert header(sent[0], "Call-ID") == header(relayed, "Call-ID")
    assert header(sent[0], "CSeq") == header(relayed, "CSeq")
    assert header(sent[0], "From") == header(relayed, "From")
    assert header(sent[0], "Via") != header(relayed, "Via")
    (second,) = world.datagram(answer(sent[0]), BOB)
    assert body_of(second) == b"two"


def test_live_messages_wait_for_each_other() -> None:
    world = World()
    world.datagram(register(), BOB)
    (first,) = world.datagram(message(b"one"))
    assert world.datagram(message(b"two", number=2)) == []
    passed, second = world.datagram(answer(first), BOB)
    assert status_of(passed) == 200
    assert body_of(second) == b"two"


def test_when_the_head_of_the_line_is_stored_all_behind_it_are_in_order() -> None:
    world = World()
    world.datagram(register(), BOB)
    (first,) = world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    world.datagram(message(b"three", number=3))
    accepted = world.datagram(answer(first, "480 Away"), BOB)
    assert [status_of(data) for data in accepted] == [202, 202, 202]
    assert world.waiting() == [b"one", b"two", b"three"]


def test_line_is_bounded() -> None:
    world = World(limits=Limits(waiting_per_owner_max=2))
    world.datagram(register(), BOB)
    world.datagram(message(b"one"))
    assert world.datagram(message(b"two", number=2)) == []
    (refused,) = world.datagram(message(b"three", number=3))
    assert status_of(refused) == 503


def test_sender_in_the_line_is_told_in_time() -> None:
    world = World()
    world.datagram(register(), BOB)
    (first,) = world.datagram(message(b"one"))
    world.pass_time(3_000)
    world.datagram(message(b"two", number=2))
    world.pass_time(2_900)
    passed, second = world.datagram(answer(first), BOB)
    assert (status_of(passed), body_of(second)) == (200, b"two")
    world.datagram(message(b"three", number=3))
    assert world.waiting() == []
    accepted = [status_of(data) for data in world.pass_time(3_100) if status_of(data)]
    assert accepted == [202, 202]
    assert world.waiting() == [b"two", b"three"]


def test_line_is_stored_in_order_when_another_server_stored_something() -> None:
    world = World()
    world.datagram(register(), BOB)
    (first,) = world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    other = World(Config(node="other"), route=SiloRoute())
    other.store = world.store
    other.datagram(message(b"elsewhere", number=9))
    world.datagram(message(b"three", number=3))
    sent = world.datagram(answer(first), BOB)
    assert [status_of(data) for data in sent if status_of(data)] == [200, 202, 202]
    seen: list[bytes] = []
    (delivered,) = [data for data in sent if data.startswith(b"MESSAGE")]
    while delivered:
        seen.append(body_of(delivered))
        sent = world.datagram(answer(delivered), BOB)
        delivered = sent[0] if sent else b""
    assert seen == [b"elsewhere", b"two", b"three"]


def test_live_message_does_not_overtake_stored_ones() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    (_, first) = world.datagram(register(), BOB)
    (accepted,) = world.datagram(message(b"live", number=3))
    assert status_of(accepted) == 202
    (second,) = world.datagram(answer(first), BOB)
    (third,) = world.datagram(answer(second), BOB)
    assert [body_of(data) for data in (first, second, third)] == [b"one", b"two", b"live"]
    assert world.datagram(answer(third), BOB) == []
    assert world.waiting() == []
    (live,) = world.datagram(message(b"after", number=4))
    assert body_of(live) == b"after"


def test_register_between_look_up_and_store_is_not_missed() -> None:
    world = World()
    world.hold = {Store}
    world.datagram(message(b"early"))
    (ok,) = world.datagram(register(), BOB)
    assert status_of(ok) == 200
    accepted, delivered = world.let_go()
    assert status_of(accepted) == 202
    assert body_of(delivered) == b"early"


def test_register_between_arrival_and_look_up_is_not_missed() -> None:
    world = World()
    world.hold = {LookUp}
    world.datagram(message(b"early"))
    looked_up = world.perform(world.held.popleft())
    world.datagram(register(), BOB)
    world.hold.clear()
    (relayed,) = world.carry_out(world.engine.complete(looked_up, world.now))
    assert body_of(relayed) == b"early"


def test_first_of_several_contacts_that_takes_a_message_answers_for_all() -> None:
    carol = ("127.0.0.1", 5073)
    world = World()
    world.datagram(register(), BOB)
    world.datagram(register(contact="<sip:bob@127.0.0.1:5073>", cseq=2), carol)
    one, other = world.datagram(message(b"both"))
    assert {one.split()[1], other.split()[1]} == {b"sip:bob@127.0.0.1:5072", b"sip:bob@127.0.0.1:5073"}
    assert world.datagram(answer(one, "480 Away"), BOB) == []
    (passed,) = world.datagram(answer(other), carol)
    assert status_of(passed) == 200
    assert world.waiting() == []


def test_contact_that_does_not_take_message_gets_none() -> None:
    world = World()
    world.datagram(register(headers="Allow: INVITE, BYE\r\n"), BOB)
    assert status_of(world.datagram(message())[0]) == 202


def test_path_is_followed() -> None:
    world = World()
    edge = ("127.0.0.1", 5080)
    world.datagram(register(headers="Path: <sip:127.0.0.1:5080;lr>\r\nSupported: path\r\n"), edge)
    (relayed,) = world.datagram(message())
    assert header(relayed, "Route") == "<sip:127.0.0.1:5080;lr>"
    assert relayed.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 ")
    assert world.sent[-1].flow == udp(edge)


@pytest.mark.parametrize("path", ["<sip:127.0.0.1", "<tel:1>", "sip:127.0.0.1;lr", "<sip:127.0.0.1;lr>, <"])
def test_path_that_is_none_is_refused(path: str) -> None:
    world = World()
    (refused,) = world.datagram(register(headers=f"Path: {path}\r\n"), BOB)
    assert status_of(refused) in (400, 416)
    (ok,) = world.datagram(register(headers="Path: ,\r\n", cseq=2), BOB)
    assert status_of(ok) == 200


def test_headers_of_a_contact_do_not_become_part_of_a_request_uri() -> None:
    world = World()
    (ok,) = world.datagram(register(contact="<sip:bob?x@127.0.0.1:5072;y?Subject=z>"), BOB)
    assert b"Contact: <sip:bob?x@127.0.0.1:5072;y?Subject=z>;expires=3600" in ok
    (relayed,) = world.datagram(message(b"live"))
    assert relayed.startswith(b"MESSAGE sip:bob?x@127.0.0.1:5072;y SIP/2.0\r\n")


def test_contact_at_another_address_is_reached_where_the_register_came_from() -> None:
    world = World()
    world.datagram(register(contact="<sip:bob@192.0.2.1:5060>"), BOB)
    (relayed,) = world.datagram(message())
    assert relayed.startswith(b"MESSAGE sip:bob@192.0.2.1:5060 ")
    assert world.sent[-1].flow == udp(BOB)


# -- Delivery that fails -----------------------------------------------------------------------------------------------


def test_failed_delivery_stays_the_oldest_and_is_tried_at_the_next_register() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    (_, first) = world.datagram(register(), BOB)
    assert world.datagram(answer(first, "480 Away"), BOB) == []
    assert world.waiting() == [b"one", b"two"]
    assert world.engine.statistics.failed_messages == 1
    (_, again) = world.datagram(register(cseq=2), BOB)
    assert body_of(again) == b"one"
    assert header(again, "Call-ID") == header(first, "Call-ID")


def test_refused_message_is_set_aside_and_blocks_nothing() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    (_, first) = world.datagram(register(), BOB)
    (second,) = world.datagram(answer(first, "415 Unsupported Media Type"), BOB)
    assert body_of(second) == b"two"
    assert world.dead() == [b"one"]
    world.datagram(answer(second), BOB)
    assert world.waiting() == []


def test_merged_request_on_a_repeat_means_that_the_phone_has_it() -> None:
    world = World()
    world.datagram(message(b"one"))
    (_, first) = world.datagram(register(), BOB)
    world.datagram(answer(first, "408 Request Timeout"), BOB)
    (_, again) = world.datagram(register(cseq=2), BOB)
    world.datagram(answer(again, "482 Merged Request"), BOB)
    assert world.waiting() == []
    assert world.dead() == []


def test_message_that_no_datagram_can_hold_is_set_aside() -> None:
    world = World()
    flow = tcp(ALICE)
    world.stream(message(b"x" * 65_000, transport="TCP", headers=f"Subject: {'y' * 200}\r\n"), flow)
    world.datagram(message(b"small", number=2))
    (_, delivered) = world.datagram(register(contact=f"<sip:bob@127.0.0.1:5072;z={'z' * 300}>"), BOB)
    assert body_of(delivered) == b"small"
    assert [len(body) for body in world.dead()] == [65_000]


def test_expired_message_is_never_delivered_and_is_cleaned() -> None:
    world = World()
    world.datagram(message(b"short", headers="Expires: 10\r\n"))
    world.datagram(message(b"long", number=2))
    world.pass_time(10_000)
    (_, delivered) = world.datagram(register(), BOB)
    assert body_of(delivered) == b"long"
    world.datagram(answer(delivered), BOB)
    world.pass_time(601_000)
    assert world.engine.statistics.expired_messages == 1


@pytest.mark.parametrize("ctype", [b'text/plain;x="\\\0"', b'text/plain;x="\xff"'])
def test_content_type_that_no_text_column_holds_is_refused(ctype: bytes) -> None:
    world = World()
    (refused,) = world.datagram(message().replace(b"text/plain", ctype))
    assert status_of(refused) == 400


def test_message_that_expires_at_once_is_not_stored() -> None:
    world = World()
    assert status_of(world.datagram(message(headers="Expires: 0\r\n"))[0]) == 480
    assert world.waiting() == []


def test_outcome_that_could_not_be_recorded_is_recorded_later_and_the_message_not_sent_again() -> None:
    world = World()
    world.datagram(message(b"one"))
    (_, first) = world.datagram(register(), BOB)
    world.failing = True
    assert world.datagram(answer(first), BOB) == []
    world.failing = False
    (ok,) = world.datagram(register(cseq=2), BOB)
    assert status_of(ok) == 200
    assert world.pass_time(10_000) == []
    assert world.waiting() == []


def test_page_is_leased_only_when_the_outcomes_of_the_last_are_recorded() -> None:
    world = World(limits=Limits(page_messages_max=2))
    for number in range(3):
        world.datagram(message(b"%d" % number, number=number))
    (_, first) = world.datagram(register(), BOB)
    world.hold = {Settle}
    (second,) = world.datagram(answer(first), BOB)
    # A store may lease faster than it deletes: the second message would come again.
    assert world.datagram(answer(second), BOB) == []
    (third,) = world.let_go()
    assert body_of(third) == b"2"


def test_page_after_page() -> None:
    world = World(limits=Limits(page_messages_max=3))
    for number in range(10):
        world.datagram(message(b"%d" % number, number=number))
    seen: list[bytes] = []
    (_, delivered) = world.datagram(register(), BOB)
    while delivered:
        seen.append(body_of(delivered))
        sent = world.datagram(answer(delivered), BOB)
        delivered = sent[0] if sent else b""
    assert seen == [b"%d" % number for number in range(10)]
    assert world.waiting() == []


def test_deliveries_take_turns() -> None:
    world = World(limits=Limits(deliveries_max=1))
    for number, user in enumerate(("bob", "carol")):
        world.datagram(message(user.encode(), number=number, to=user))
    (_, first) = world.datagram(register(), BOB)
    (ok,) = world.datagram(register("carol", "<sip:carol@127.0.0.1:5073>"), ("127.0.0.1", 5073))
    assert status_of(ok) == 200
    (second,) = world.datagram(answer(first), BOB)
    assert body_of(second) == b"carol"


def test_page_leased_by_a_dead_server_is_delivered_when_its_lease_ends() -> None:
    world = World(Config(node="new"))
    world.datagram(message(b"one"))
    other = World(Config(node="old"))
    other.store = world.store
    other.datagram(register(), BOB)
    (ok,) = world.datagram(register(cseq=2), BOB)
    assert status_of(ok) == 200
    assert world.pass_time(14_999) == []
    (delivered, *again) = [data for data in world.pass_time(2_000) if data.startswith(b"MESSAGE")]
    assert body_of(delivered) == b"one"
    assert set(again) <= {delivered}


# -- Repeats and storage faults ----------------------------------------------------------------------------------------


def test_repeat_of_a_request_is_absorbed_before_and_answered_alike_after_the_commit() -> None:
    world = World()
    world.hold = {Store}
    assert world.datagram(message()) == []
    assert world.datagram(message()) == []
    (accepted,) = world.let_go()
    assert world.datagram(message()) == [accepted]
    assert world.waiting() == [b"hello"]


def test_repeat_after_the_transaction_is_forgotten_is_one_row() -> None:
    world = World()
    world.datagram(message())
    world.pass_time(33_000)
    assert status_of(world.datagram(message())[0]) == 202
    assert world.waiting() == [b"hello"]
    assert world.engine.statistics.repeated_messages == 1


def test_storage_failure_is_503_with_retry_after() -> None:
    world = World()
    world.failing = True
    for request in (message(), register()):
        (refused,) = world.datagram(request)
        assert status_of(refused) == 503
        # Phones all come at once: each is told another time.
        assert header(refused, "Retry-After") == "10" or request.startswith(b"REGISTER")
        assert 10 <= int(header(refused, "Retry-After")) <= 20
    world.failing = False
    assert status_of(world.datagram(message(number=2))[0]) == 202


def test_store_that_says_nothing_is_given_up_and_what_it_kept_all_the_same_is_delivered() -> None:
    world = World()
    world.hold = {Store}
    world.datagram(message())
    (refused,) = world.pass_time(8_000)
    assert status_of(refused) == 503
    assert world.let_go() == []
    assert body_of(world.datagram(register(), BOB)[1]) == b"hello"


def test_late_answer_about_a_row_that_was_acknowledged_before_changes_nothing() -> None:
    world = World()
    world.datagram(message())
    world.pass_time(33_000)
    world.hold = {Store}
    world.datagram(message())
    world.pass_time(8_000)
    world.let_go()
    assert world.waiting() == [b"hello"]


def test_token_that_was_never_issued_or_is_used_twice_is_the_runners_bug() -> None:
    world = World()
    with pytest.raises(LocalError, match="not awaited"):
        world.engine.complete(Stored(99, 1), world.now)
    world.hold = {LookUp}
    world.datagram(message())
    looked_up = world.perform(world.held[0])
    world.engine.complete(looked_up, world.now)
    with pytest.raises(LocalError, match="not awaited"):
        world.engine.complete(looked_up, world.now)


def test_past_the_limits_the_answer_is_503() -> None:
    world = World(limits=Limits(storage_actions_max=2))
    world.hold = {Store, LookUp}
    world.datagram(message(number=1))
    world.datagram(message(number=2))
    assert status_of(world.datagram(message(number=3))[0]) == 503
    # What is answered at once needs no room.
    assert status_of(world.datagram(message().replace(b"MESSAGE", b"OPTIONS"))[0]) == 200
    assert status_of(world.datagram(message().replace(b"MESSAGE", b"INVITE"))[0]) == 405
    with pytest.raises(Unavailable, match="the store has too much to do"):
        world.engine.dump("sip:bob@example.com", None, world.now)
    world = World(limits=Limits(server_transactions_max=1))
    world.hold = {LookUp}
    world.datagram(message(number=1))
    assert status_of(world.datagram(message(number=2))[0]) == 503


def test_messages_leave_room_for_registrations() -> None:
    world = World(limits=Limits(storage_actions_max=2))
    world.hold = {LookUp, Bind}
    for number in range(3):
        world.datagram(message(number=number))
    for cseq in (1, 2):
        assert world.datagram(register(cseq=cseq), BOB) == []
    assert [type(action) for action in world.held] == [LookUp, LookUp, Bind, Bind]
    assert status_of(world.datagram(register(cseq=3), BOB)[0]) == 503


def test_messages_that_wait_for_the_store_leave_room_for_those_that_do_not() -> None:
    world = World(limits=Limits(storage_actions_max=2))
    world.datagram(register("carol"), BOB)
    world.hold = {Store}
    told = [world.datagram(message(number=number)) for number in range(4)]
    assert [list(map(status_of, answers)) for answers in told] == [[], [], [503], [503]]
    assert header(told[2][0], "Retry-After") == "10"
    (live,) = world.datagram(message(number=4, to="carol"))
    assert live.startswith(b"MESSAGE ")
    assert status_of(world.datagram(register("dave"), BOB)[0]) == 200
    assert list(map(status_of, world.let_go())) == [202, 202]
    assert status_of(world.datagram(message(number=5))[0]) == 202


def test_registrations_that_wait_for_the_store_leave_room_for_messages() -> None:
    world = World(limits=Limits(storage_actions_max=2, server_transactions_max=3))
    world.hold = {Bind}
    told = [world.datagram(register(cseq=cseq), BOB) for cseq in (1, 2, 3)]
    assert [list(map(status_of, answers)) for answers in told] == [[], [], [503]]
    assert status_of(world.datagram(message())[0]) == 202


def test_messages_leave_a_quarter_of_the_transactions() -> None:
    world = World(limits=Limits(server_transactions_max=4))
    world.hold = {LookUp, Bind}
    told = [world.datagram(message(number=number)) for number in range(4)]
    assert [list(map(status_of, answers)) for answers in told] == [[], [], [], [503]]
    told = [world.datagram(register(cseq=cseq), BOB) for cseq in (1, 2)]
    assert [list(map(status_of, answers)) for answers in told] == [[], [503]]
    size = len(message().partition(b"\r\n\r\n")[0]) + len(b"hello")
    world = World(limits=Limits(server_transactions_bytes_max=4 * size))
    world.hold = {LookUp}
    told = [world.datagram(message(number=number)) for number in range(4)]
    assert [list(map(status_of, answers)) for answers in told] == [[], [], [], [503]]


# -- Registrations -----------------------------------------------------------------------------------------------------


def test_register_lists_all_bindings_with_their_remaining_time() -> None:
    world = World()
    world.datagram(register(expires="Expires: 600\r\n"), BOB)
    world.pass_time(100_000)
    contact = '<sip:bob@127.0.0.1:5099>;q=0.5;x="a;expires=1";expires=300'
    (ok,) = world.datagram(register(contact=contact, cseq=2), BOB)
    assert b"\r\nContact: <sip:bob@127.0.0.1:5072>;expires=500\r\n" in ok
    assert b'\r\nContact: <sip:bob@127.0.0.1:5099>;q=0.5;x="a;expires=1";expires=300\r\n' in ok
    (asked,) = world.datagram(register(contact="", cseq=3), BOB)
    assert asked.count(b"\r\nContact:") == 2


def test_register_removes() -> None:
    world = World()
    world.datagram(register(), BOB)
    (ok,) = world.datagram(register(contact="<sip:bob@127.0.0.1:5072>;expires=0", cseq=2), BOB)
    assert b"\r\nContact:" not in ok
    world.datagram(register(cseq=3), BOB)
    (ok,) = world.datagram(register(contact="*", expires="Expires: 0\r\n", cseq=4), BOB)
    assert b"\r\nContact:" not in ok
    assert status_of(world.datagram(message())[0]) == 202


@pytest.mark.parametrize(
    ("contact", "expires", "status"),
    [
        ("<sip:bob@127.0.0.1>;expires=59", "", 423),
        ("<sip:bob@127.0.0.1>", "Expires: 1\r\n", 423),
        ("*", "Expires: 1\r\n", 400),
        ("*", "", 400),
        ("<sip:bob@127.0.0.1", "", 400),
    ],
)
def test_register_that_cannot_be_taken(contact: str, expires: str, status: int) -> None:
    world = World()
    (refused,) = world.datagram(register(contact=contact, expires=expires), BOB)
    assert status_of(refused) == status
    if status == 423:
        assert header(refused, "Min-Expires") == "60"


def test_register_out_of_order_changes_nothing() -> None:
    world = World()
    world.datagram(register(cseq=5), BOB)
    (refused,) = world.datagram(register(cseq=4, contact="<sip:bob@127.0.0.1:5072>;expires=0"), BOB)
    assert status_of(refused) == 500
    assert world.datagram(message())[0].startswith(b"MESSAGE")


def test_one_contact_too_many_is_refused() -> None:
    world = World(limits=Limits(bindings_per_aor_max=2))
    for number in range(2):
        contact = f"<sip:bob@127.0.0.1:{6000 + number}>"
        assert status_of(world.datagram(register(contact=contact, cseq=number + 1), BOB)[0]) == 200
    assert status_of(world.datagram(register(contact="<sip:bob@127.0.0.1:7000>", cseq=9), BOB)[0]) == 403


# -- What is not ours --------------------------------------------------------------------------------------------------


def test_other_methods() -> None:
    world = World()
    invite = message().replace(b"MESSAGE sip", b"INVITE sip").replace(b"7 MESSAGE", b"7 INVITE")
    (refused,) = world.datagram(invite)
    assert status_of(refused) == 405
    assert header(refused, "Allow") == "MESSAGE, REGISTER, OPTIONS, CANCEL, ACK"
    assert world.datagram(invite.replace(b"INVITE", b"ACK")) == []
    options = message().replace(b"MESSAGE sip", b"OPTIONS sip").replace(b"7 MESSAGE", b"7 OPTIONS")
    (ok,) = world.datagram(options)
    assert (status_of(ok), header(ok, "Allow")) == (200, "MESSAGE, REGISTER, OPTIONS, CANCEL, ACK")
    cancel = message(number=8).replace(b"MESSAGE sip", b"CANCEL sip").replace(b"7 MESSAGE", b"7 CANCEL")
    assert status_of(world.datagram(cancel)[0]) == 481
    world.datagram(message(number=8))
    assert status_of(world.datagram(cancel)[0]) == 200
    assert world.waiting() == [b"hello"]


def test_hops_are_counted() -> None:
    world = World()
    last = message().replace(b"Max-Forwards: 70", b"Max-Forwards: 0")
    assert status_of(world.datagram(last)[0]) == 483
    none = message(number=2).replace(b"Max-Forwards: 70\r\n", b"")
    world.datagram(register(), BOB)
    assert header(world.datagram(none)[0], "Max-Forwards") == "70"


def test_only_trusted_peers_are_served() -> None:
    world = World()
    for request in (message(), register()):
        (refused,) = world.datagram(request, REMOTE)
        assert status_of(refused) == 403
    assert world.waiting() == []
    trusting = World(Config(trusted=("198.51.100.0/24",)))
    assert status_of(trusting.datagram(message(sender=REMOTE), REMOTE)[0]) == 202
    assert status_of(trusting.datagram(message(number=2), ALICE)[0]) == 403


def test_only_our_domains_are_served() -> None:
    world = World(Config(domains=frozenset({"example.net"})))
    assert status_of(world.datagram(message())[0]) == 404
    assert status_of(world.datagram(register(), BOB)[0]) == 404
    ours = message(number=2).replace(b"sip:bob@example.com", b"sip:bob@EXAMPLE.net")
    assert status_of(world.datagram(ours)[0]) == 202
    assert world.waiting("sip:bob@example.net") == [b"hello"]


def test_inbox_is_found_by_the_request_uri_and_else_by_to() -> None:
    world = World()
    world.datagram(message().replace(b"MESSAGE sip:bob@example.com", b"MESSAGE sip:example.com"))
    assert world.waiting() == [b"hello"]
    world.datagram(message(number=2).replace(b"To: <sip:bob@", b"To: <sip:carol@"))
    assert world.waiting() == [b"hello", b"hello"]
    nobody = message(number=3).replace(b"sip:bob@example.com", b"sip:example.com")
    assert status_of(world.datagram(nobody)[0]) == 404


def test_to_may_hold_any_uri() -> None:
    world = World()
    world.datagram(message().replace(b"To: <sip:bob@example.com>", b"To: <mailto:bob@example.com>"))
    assert world.waiting() == [b"hello"]
    nobody = register().replace(b"To: <sip:bob@example.com>", b"To: <tel:+1-201-555-0123>")
    assert status_of(world.datagram(nobody, BOB)[0]) == 400


def test_response_without_a_transaction_is_dropped() -> None:
    world = World()
    (ok,) = world.datagram(register(), BOB)
    stray = ok.replace(b"z9hG4bKrbob1", b"z9hG4bKnobody")
    actions = world.engine.receive_datagram(stray, udp(BOB), world.now)
    assert actions == [Dropped(udp(BOB), "response without a transaction")]
    assert world.engine.statistics.dropped == {"response without a transaction": 1}


def test_answer_goes_where_rfc_3581_and_18_2_2_say() -> None:
    world = World()
    world.datagram(message().replace(b"branch=z9hG4bKa1", b"branch=z9hG4bKa1;rport"), ("127.0.0.1", 40_000))
    assert world.sent[-1].flow == udp(("127.0.0.1", 40_000))
    via = header(world.sent[-1].data, "Via")
    assert ";rport=40000" in via
    assert ";received=127.0.0.1" in via
    world.datagram(message(number=2), ("127.0.0.1", 40_000))
    assert world.sent[-1].flow == udp(("127.0.0.1", 5071))


# -- Streams -----------------------------------------------------------------------------------------------------------


def test_whole_story_on_streams_cut_at_every_octet() -> None:
    world = World()
    alice, bob = tcp(ALICE, 1), tcp(BOB, 2)
    sent: list[bytes] = []
    for octet in message(transport="TCP") + message(b"two", number=2, transport="TCP"):
        sent += world.stream(bytes([octet]), alice)
    assert [status_of(data) for data in sent] == [202, 202]
    (_, first) = world.stream(register(transport="TCP"), bob)
    assert world.sent[-1].flow == bob
    assert header(first, "Via").startswith("SIP/2.0/TCP ")
    (second,) = world.stream(answer(first), bob)
    assert body_of(second) == b"two"
    assert world.stream(answer(second), bob) == []
    assert world.waiting() == []


def test_ping_on_a_stream_is_answered() -> None:
    world = World()
    assert world.stream(b"\r\n\r\n", tcp(ALICE)) == [b"\r\n"]
    assert world.datagram(b"\r\n\r\n") == []


def test_slow_stream_is_cut_off_and_others_are_not() -> None:
    world = World()
    slow, fine, silent = tcp(ALICE, 1), tcp(BOB, 2), tcp(BOB, 3)
    world.engine.flow_opened(silent, world.now)
    world.engine.flow_opened(fine, world.now)
    world.stream(message(transport="TCP"), fine)
    for octet in message(transport="TCP")[:29]:
        world.stream(bytes([octet]), slow)
        world.pass_time(1_000)
    world.pass_time(1_000)
    assert world.closed == [silent, slow]


def test_stream_whose_reads_all_end_within_a_message_is_not_cut_off() -> None:
    world = World()
    flow = tcp(ALICE)
    data = b"".join(message(number=number, transport="TCP") for number in range(10, 80))
    size = len(message(number=10, transport="TCP"))
    world.stream(data[: size // 2], flow)
    for start in range(size // 2, len(data) - size, size):
        world.pass_time(1_000)
        world.stream(data[start : start + size], flow)
    assert world.closed == []
    # And the last of them, which does not go on, is.
    world.pass_time(world.limits.stream_message_ms)
    assert world.closed == [flow]


def test_streams_are_bounded_in_all() -> None:
    world = World(limits=Limits(streams_bytes_max=600))
    start = message(transport="TCP")[:-5]
    world.stream(start, tcp(ALICE, 1))
    world.stream(start, tcp(ALICE, 2))
    world.stream(start, tcp(ALICE, 3))
    assert world.closed == [tcp(ALICE, 3)]
    world.engine.flow_closed(tcp(ALICE, 1), "gone", world.now)
    world.stream(start, tcp(ALICE, 4))
    assert world.closed == [tcp(ALICE, 3)]


def test_stream_that_closes_fails_what_waits_on_it() -> None:
    world = World()
    bob = tcp(BOB, 2)
    world.stream(register(transport="TCP"), bob)
    (relayed,) = world.datagram(message(b"live"))
    assert relayed.startswith(b"MESSAGE")
    (accepted,) = world.carry_out(world.engine.flow_closed(bob, "reset", world.now))
    assert status_of(accepted) == 202
    assert world.waiting() == [b"live"]
    (ok,) = world.datagram(message(number=2))
    assert status_of(ok) == 202
    # The phone is gone: a connection to its Contact is asked for, and fails.
    (retried,) = world.pass_time(10_000)
    assert body_of(retried) == b"live"
    asked_for = next(send for send in world.sent if send.data == retried)
    assert asked_for.flow == Flow("tcp", SERVER, BOB, 0)
    assert world.carry_out(world.engine.send_failed(asked_for.token, world.now)) == []
    assert world.waiting() == [b"live", b"hello"]


def test_send_that_failed_is_a_transport_error() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(message(b"live"))
    token = world.sent[-1].token
    (accepted,) = world.carry_out(world.engine.send_failed(token, world.now))
    assert status_of(accepted) == 202
    assert world.engine.send_failed(token, world.now) == []


def test_malformed_messages_leave_nothing_behind() -> None:
    world = World()
    bad = message(transport="TCP").replace(b"CSeq: 7", b"CSeq: x")

    def objects_after(count: int) -> int:
        for token in range(count):
            world.stream(bad, tcp(ALICE, token))
            world.engine.flow_closed(tcp(ALICE, token), "gone", world.now)
            world.datagram(bad)
        world.sent.clear()
        return len(gc.get_objects())

    # Not even a circle for the collector: the frames in it would hold what peers sent.
    gc.collect()
    gc.disable()
    try:
        before = objects_after(50)
        assert objects_after(500) < before + 100
    finally:
        gc.enable()


def test_no_octets_are_the_runners_bug() -> None:
    world = World()
    with pytest.raises(LocalError):
        world.engine.receive_stream(b"", tcp(ALICE), world.now)


# -- The silo's role, the application's command, the end ---------------------------------------------------------------


def test_silo_beside_a_proxy_stores_and_dumps_without_looking_up() -> None:
    world = World(route=SiloRoute())
    world.hold = {LookUp}
    world.datagram(register(), BOB)
    assert status_of(world.datagram(message(b"kept"))[0]) == 202
    assert not world.held
    world.hold.clear()
    (_, delivered) = world.datagram(register(cseq=2), BOB)
    assert body_of(delivered) == b"kept"


def test_application_can_dump() -> None:
    world = World(route=SiloRoute())
    world.datagram(register(), BOB)
    world.datagram(message(b"kept"))
    assert world.carry_out(world.engine.dump("sip:bob@example.com", "sip:nobody@127.0.0.1", world.now)) == []
    (delivered,) = world.carry_out(world.engine.dump("sip:bob@example.com", None, world.now))
    assert body_of(delivered) == b"kept"


def test_graceful_end_gives_up_what_is_not_being_sent() -> None:
    world = World()
    for number in (1, 2, 3):
        world.datagram(message(b"%d" % number, number=number))
    (_, first) = world.datagram(register(), BOB)
    under_way = not world.engine.is_idle
    assert under_way
    world.carry_out(world.engine.close(world.now))
    assert status_of(world.datagram(message(number=4))[0]) == 503
    assert world.datagram(answer(first), BOB) == []
    assert world.engine.is_idle
    assert world.waiting() == [b"2", b"3"]
    after = World(Config(node="other"))
    after.store = world.store
    (_, second) = after.datagram(register(cseq=2), BOB)
    assert body_of(second) == b"2"


def test_end_that_waits_no_longer_gives_up_what_is_being_sent() -> None:
    world = World()
    world.datagram(message(b"one"))
    (_, first) = world.datagram(register(), BOB)
    world.carry_out(world.engine.close(world.now))
    world.carry_out(world.engine.abandon(world.now))
    after = World(Config(node="other"))
    after.store = world.store
    (_, again) = after.datagram(register(cseq=2), BOB)
    assert header(again, "Call-ID") == header(first, "Call-ID")


def test_phone_that_takes_it_at_the_very_end_has_it() -> None:
    world = World()
    world.datagram(message(b"one"))
    (_, first) = world.datagram(register(), BOB)
    world.carry_out(world.engine.close(world.now))
    world.carry_out(world.engine.abandon(world.now))
    assert world.datagram(answer(first), BOB) == []
    assert world.waiting() == []


def test_stored_message_is_refused_for_good_only_if_all_contacts_say_so() -> None:
    carol = ("127.0.0.1", 5073)
    for other_status, waits in (("480 Away", True), ("415 No", False)):
        world = World()
        world.datagram(register(), BOB)
        world.datagram(register(contact="<sip:bob@127.0.0.1:5073>", cseq=2), carol)
        for data in world.datagram(message(b"both")):
            world.datagram(answer(data, "480 Away"), BOB)
        _, one, other = world.datagram(register(cseq=3), BOB)
        world.datagram(answer(one, "415 Unsupported Media Type"), BOB)
        world.datagram(answer(other, other_status), carol)
        assert (world.waiting() == [b"both"]) is waits


def test_merged_request_after_a_live_attempt_means_that_the_phone_has_it() -> None:
    world = World()
    world.datagram(register(), BOB)
    world.datagram(message(b"live"))
    *_, again = world.pass_time(32_001)
    world.datagram(answer(again, "482 Merged Request"), BOB)
    assert world.waiting() == []
    assert world.dead() == []


def test_clock_that_steps_back_is_not_believed() -> None:
    world = World()
    world.pass_time(10_000)
    world.datagram(message())
    before = world.engine.next_timeout()
    assert world.engine.handle_timeout(Moment(0, 0)) == []
    assert world.engine.next_timeout() == before


def test_same_inputs_same_octets() -> None:
    def story(seed: int) -> list[Send]:
        world = World(seed=seed)
        world.datagram(message())
        world.datagram(register(), BOB)
        world.pass_time(1_000)
        return world.sent

    assert story(3) == story(3)
    assert story(3) != story(4)


def test_register_asks_for_one_statement_when_the_inbox_is_empty() -> None:
    world = World()
    world.hold = {Bind}
    actions = world.engine.receive_datagram(register(), udp(BOB), world.now)
    assert [type(action) for action in actions] == [Bind]
    world.hold.clear()
    completion = world.perform(actions[0])
    assert [type(action) for action in world.engine.complete(completion, world.now)] == [Send]


# -- Corners of a delivery ---------------------------------------------------------------------------------------------


def test_lease_that_the_store_could_not_give_is_asked_for_again() -> None:
    world = World()
    world.datagram(message(b"kept"))
    world.hold = {Dump}
    world.datagram(register(), BOB)
    dump = world.held.popleft()
    world.hold.clear()
    assert world.carry_out(world.engine.complete(StorageFailed(dump.token, "down"), world.now)) == []
    assert world.pass_time(1_999) == []
    (delivered,) = world.pass_time(1)
    assert body_of(delivered) == b"kept"


def test_page_that_comes_late_is_delivered_and_only_one_was_asked_for() -> None:
    world = World()
    world.datagram(message(b"kept"))
    world.hold = {Dump}
    world.datagram(register(), BOB)
    world.pass_time(30_000)
    assert len(world.held) == 1
    (delivered,) = world.let_go()
    assert body_of(delivered) == b"kept"


def test_lease_near_its_end_is_renewed_before_the_next_message() -> None:
    world = World()
    for number in range(4):
        world.datagram(message(b"%d" % number, number=number))
    seen: list[bytes] = []
    (_, delivered) = world.datagram(register(), BOB)
    while delivered:
        seen.append(body_of(delivered))
        world.pass_time(30_000)
        other = World(Config(node="other"))
        other.store, other.mono_ms = world.store, world.mono_ms
        assert len(other.datagram(register(cseq=100 + len(seen)), BOB)) == 1, "another server got a lease"
        sent = world.datagram(answer(delivered), BOB)
        delivered = sent[-1] if sent else b""
    assert seen == [b"0", b"1", b"2", b"3"]


def test_phone_that_leaves_during_a_delivery_gets_no_more() -> None:
    world = World()
    for number in range(3):
        world.datagram(message(b"%d" % number, number=number))
    (_, first) = world.datagram(register(), BOB)
    world.datagram(register(contact="*", expires="Expires: 0\r\n", cseq=2), BOB)
    assert world.datagram(answer(first), BOB) == []
    assert world.waiting() == [b"1", b"2"]
    (_, second) = world.datagram(register(cseq=3), BOB)
    assert body_of(second) == b"1"


def test_owners_that_wait_for_their_turn_are_bounded() -> None:
    world = World(limits=Limits(deliveries_max=1, deliveries_waiting_max=1))
    for number, user in enumerate(("bob", "carol", "dave")):
        world.datagram(message(user.encode(), number=number, to=user))
    (_, first) = world.datagram(register(), BOB)
    for port, user in ((5073, "carol"), (5074, "dave")):
        address = ("127.0.0.1", port)
        world.datagram(register(user, f"<sip:{user}@127.0.0.1:{port}>"), address)
    (second,) = world.datagram(answer(first), BOB)
    assert body_of(second) == b"carol"
    assert world.datagram(answer(second), ("127.0.0.1", 5073)) == []
    (_, third) = world.datagram(register("dave", "<sip:dave@127.0.0.1:5074>", cseq=2), ("127.0.0.1", 5074))
    assert body_of(third) == b"dave"


def test_past_the_limit_of_our_own_requests_a_live_message_is_stored() -> None:
    world = World(limits=Limits(client_transactions_max=1))
    world.datagram(register(), BOB)
    world.datagram(register("carol", "<sip:carol@127.0.0.1:5073>"), BOB)
    assert world.datagram(message(b"one"))[0].startswith(b"MESSAGE")
    assert status_of(world.datagram(message(b"two", to="carol", number=2))[0]) == 202
    assert world.waiting("sip:carol@example.com") == [b"two"]


def test_message_that_expires_while_its_page_is_delivered_is_passed_over() -> None:
    world = World()
    world.datagram(message(b"one"))
    world.datagram(message(b"short", number=2, headers="Expires: 20\r\n"))
    world.datagram(message(b"three", number=3))
    (_, first) = world.datagram(register(), BOB)
    world.pass_time(21_000)
    (third,) = world.datagram(answer(first), BOB)
    assert body_of(third) == b"three"


def test_row_that_kamailio_wrote_is_delivered_with_an_identity_that_stays() -> None:
    world = World()
    row = Message(
        owner=Aor("bob", "example.com"),
        src_addr="sip:alice@example.com",
        dst_addr="sip:bob@example.com",
        inc_time_s=world.now.unix_s,
        exp_time_s=world.now.unix_s + 1_000,
        ctype="text/plain",
        body=b"old",
        extra_hdrs="X-Old: yes\r\n",
    )
    finished(world.store.append([Store(1, row)]))
    (_, first) = world.datagram(register(), BOB)
    assert body_of(first) == b"old"
    assert header(first, "X-Old") == "yes"
    assert header(first, "From").startswith("<sip:alice@example.com>;tag=")
    assert header(first, "To") == "<sip:bob@example.com>"
    assert header(first, "CSeq") == "1 MESSAGE"
    world.datagram(answer(first, "480 Away"), BOB)
    (_, again) = world.datagram(register(cseq=2), BOB)
    for name in ("Call-ID", "From", "CSeq"):
        assert header(again, name) == header(first, name)


# -- Bugs of whoever runs the engine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [LookUp, Store, Bind, Dump, Settle])
def test_completion_of_another_kind_is_refused(held: type) -> None:
    world = World()
    world.hold = {held}
    world.datagram(message())
    sent = world.datagram(register(), BOB)
    if held is Settle:
        world.datagram(answer(sent[-1]), BOB)
    (action,) = world.held
    with pytest.raises(LocalError, match="Expired does not answer"):
        world.engine.complete(Expired(action.token, 0), world.now)


def test_what_is_configured_wrongly_is_refused() -> None:
    with pytest.raises(LocalError, match=r"300\.0\.0\.0/8"):
        World(Config(trusted=("300.0.0.0/8",)))
    with pytest.raises(LocalError, match="expire_time = 0 is out of range"):
        SiloConfig(expire_time=0)
    with pytest.raises(LocalError, match="add_date = 2"):
        SiloConfig(add_date=2)


@pytest.mark.parametrize(
    ("host", "trusted"), [("::1", True), ("::ffff:127.0.0.1", True), ("2001:db8::1", False), ("not an address", False)]
)
def test_trust_by_address(host: str, trusted: bool) -> None:
    world = World()
    (reply,) = world.datagram(message(), (host, 5060))
    assert (status_of(reply) == 202) is trusted


NO_HEADERS = ["Subject: a\x1bb\r\n", "Subject\r\n", "Call-ID: a\0\r\n", "Subject: a\nVia: SIP/2.0/UDP 192.0.2.9\r\n"]


@pytest.mark.parametrize("line", [*NO_HEADERS, "X: 1\r\n" * 200])
def test_what_is_no_header_is_answered_where_the_way_back_can_be_read(line: str) -> None:
    world = World()
    (refused,) = world.datagram(message(headers=line))
    assert refused.startswith(b"SIP/2.0 400 ")
    assert header(refused, "Via").startswith("SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bKa1")
    assert (header(refused, "Call-ID"), header(refused, "CSeq")) == ("call1@alice.example.com", "7 MESSAGE")
    assert world.waiting() == []
    (refused,) = world.stream(message(headers=line, transport="TCP"), tcp(ALICE))
    assert refused.startswith(b"SIP/2.0 400 ")
    assert world.closed == [tcp(ALICE)]


@pytest.mark.parametrize("line", ["Via: SIP/2.0/UDP 192.0.2.1\x01\r\n", "v: SIP/2.0/UDP 192.0.2.1\n\r\n"])
def test_what_is_no_way_back_is_dropped(line: str) -> None:
    world = World()
    assert world.datagram(message(headers=line)) == []
    assert world.datagram(message(headers="Subject: \x01\r\n").replace(b"MESSAGE sip", b"MESS\x01AGE sip", 1)) == []
    assert world.engine.statistics.dropped == {"malformed: ParseError": 2}
