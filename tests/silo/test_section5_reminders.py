"""MSILO.md section 5: messages that are deferred to a time, and what becomes of them then."""

from typing import ClassVar

import pytest

from msilo_core import Call, Config, Limits, LookUp, Remind, ServerRoute, SiloConfig, StorageFailed
from msilo_core.config import DeliveryConfig
from msilo_core.intake import parse_send_time
from tests.core.world import (
    BOB,
    EPOCH_MS,
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

PROXY = ("127.0.0.9", 5070)
# EPOCH_MS is 14:13:20 in Greenwich, 16:13:20 in Rome.
IN_A_MINUTE, IN_A_DAY = "20260921141420", "20260922141320"


class Deferring(ServerRoute):
    """Takes the time from a header, as the example does."""

    uses_location: ClassVar[bool] = False

    def request_route(self, call: Call) -> None:
        """Store."""
        if call.method == "MESSAGE":
            due = call.request.get("x-due")
            if due is not None:
                call.avps["due"] = due
            if not call.m_store():
                call.reply(call.status, call.reason)
        else:
            call.save()


def world(*dues: str, config: SiloConfig | None = None, limits: Limits | None = None, retry_s: int = 5) -> World:
    """Return a server with a message for bob that is deferred to each of these times."""
    silo = config if config is not None else parameters()
    server = World(Config(silo=silo, delivery=DeliveryConfig(retry_min_s=retry_s)), limits, route=Deferring())
    for number, due in enumerate(dues):
        data = message(b"%d" % number, number=number, headers=f"X-Due: {due}\r\n")
        assert status_of(server.datagram(data)[0]) == 202
    return server


def parameters(**others: object) -> SiloConfig:
    given: dict[str, object] = {
        "snd_time_avp": "$avp(due)", "send_time": 10, "reminder": "sip:reminder@example.com",
    } | others  # fmt: skip
    return SiloConfig(**given)  # type: ignore[arg-type]


def messages(sent: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(data for data in sent if data.startswith(b"MESSAGE")))


# -- Which time it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("20260921141320", EPOCH_MS // 1000), ("19700101000000", 0), ("20280229120000", 1_835_438_400),
        # No time: too short, too long, no such day, no such hour.
        ("2026", None), ("202609211413200", None), ("20260231120000", None), ("20270229120000", None),
        ("20260921250000", None), ("20260921141360", None), ("00000921141320", None), ("soon", None), ("", None),
        ("٢٠٢٦٠٩٢١١٤١٣٢٠", None),
    ],
)  # fmt: skip
def test_time_of_the_calendar(text: str, unix_s: int | None) -> None:
    assert parse_send_time(text, SiloConfig().zone) == unix_s


def test_time_is_that_of_the_zone_in_summer_and_winter() -> None:
    rome = SiloConfig(time_zone="Europe/Rome").zone
    assert parse_send_time("20260921161320", rome) == EPOCH_MS // 1000
    assert parse_send_time(20260121131320, rome) == parse_send_time("20260121121320", SiloConfig().zone)


@pytest.mark.parametrize("due", ["2026", "20260231120000", "20260921141320", "20200101000000"])
def test_time_that_is_none_or_has_passed_defers_nothing(due: str) -> None:
    server = world(due)
    (row,) = finished(server.store.list(owner="sip:bob@example.com"))
    assert row.snd_time_s == 0


# -- What becomes of it ------------------------------------------------------------------------------------------------


def test_deferred_message_is_delivered_when_it_is_due_and_not_before() -> None:
    server = world(IN_A_MINUTE)
    assert len(server.datagram(register(), BOB)) == 1
    assert messages(server.pass_time(59_000)) == []
    (reminder,) = messages(server.pass_time(11_000))
    assert reminder.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 SIP/2.0\r\n")
    assert header(reminder, "From").startswith("<sip:reminder@example.com>;tag=")
    assert header(reminder, "To") == "<sip:bob@example.com>"
    assert body_of(reminder) == b"0"
    server.datagram(answer(reminder), BOB)
    assert server.waiting() == []
    statistics = server.engine.statistics
    assert (statistics.dumped_reminders, statistics.failed_reminders, statistics.dumped_messages) == (1, 0, 0)


def test_body_says_what_it_was_due_for() -> None:
    server = world("20260921161420", config=parameters(add_date=1, time_zone="Europe/Rome"))
    server.datagram(register(), BOB)
    (reminder,) = messages(server.pass_time(70_000))
    assert body_of(reminder) == b"[Reminder message - Mon Sep 21 16:14:20 2026] 0"


@pytest.mark.parametrize(("sender", "user"), [("reminder", "reminder"), ("original", "alice")])
def test_contact_that_is_added_is_that_of_who_it_comes_from(sender: str, user: str) -> None:
    server = world(IN_A_MINUTE, config=parameters(add_contact=1, reminder_sender=sender))
    server.datagram(register(), BOB)
    (reminder,) = messages(server.pass_time(70_000))
    assert f"sip:{user}@example.com" in header(reminder, "From")
    assert header(reminder, "Contact") == f"<sip:{user}@example.com>;msilo=yes"


def test_sender_may_be_kept() -> None:
    server = world(IN_A_MINUTE, config=parameters(reminder_sender="original"))
    server.datagram(register(), BOB)
    (reminder,) = messages(server.pass_time(70_000))
    assert header(reminder, "From") == '"Alice" <sip:alice@example.com>;tag=f0'


def test_without_reminder_the_sender_is_kept() -> None:
    server = world(IN_A_MINUTE, config=parameters(reminder=""))
    server.datagram(register(), BOB)
    (reminder,) = messages(server.pass_time(70_000))
    assert header(reminder, "From") == '"Alice" <sip:alice@example.com>;tag=f0'


def test_reminder_that_fails_becomes_an_ordinary_message() -> None:
    server = world(IN_A_MINUTE, config=parameters(add_date=1))
    server.datagram(register(), BOB)
    (reminder,) = messages(server.pass_time(70_000))
    server.datagram(answer(reminder, "480 Away"), BOB)
    statistics = server.engine.statistics
    assert (statistics.failed_reminders, statistics.failed_messages) == (1, 0)
    ordinary, *_ = messages(server.pass_time(11_000))
    assert header(ordinary, "From") == '"Alice" <sip:alice@example.com>;tag=f0'
    assert body_of(ordinary) == b"[Offline message - Mon Sep 21 14:13:20 2026] 0"


def test_reminder_that_cannot_be_sent_becomes_one_too() -> None:
    server = world(IN_A_MINUTE)
    stream = tcp(BOB)
    server.stream(register(contact="<sip:bob@127.0.0.1:5072;transport=tcp>", transport="TCP"), stream)
    (reminder,) = messages(server.pass_time(70_000))
    assert header(reminder, "From").startswith("<sip:reminder@example.com>")
    server.carry_out(server.engine.send_failed(server.sent[-1].token, server.now))
    # It is not tried at each look from now on, but later and later.
    assert messages(server.pass_time(2_000)) == []
    (row,) = finished(server.store.list())
    assert (row.snd_time_s, row.attempts) == (0, 1)
    assert 3 <= row.next_time_s - server.now.unix_s + 2 <= 8
    assert server.engine.statistics.failed_reminders == 1


@pytest.mark.parametrize("proxy", ["", "sip:127.0.0.9:5070"])
def test_reminder_behind_one_that_fails_becomes_one_too(proxy: str) -> None:
    server = world(config=parameters(outbound_proxy=proxy), retry_s=900)
    server.datagram(message(b"ordinary", number=8))
    server.datagram(message(b"deferred", number=9, headers=f"X-Due: {IN_A_MINUTE}\r\n"))
    (_, ordinary) = server.datagram(register(), BOB)
    server.datagram(answer(ordinary, "480 Away"), PROXY if proxy else BOB)
    # When it is due, what was stored before it is tried first, and fails.
    (ordinary,) = messages(server.pass_time(70_000))
    assert body_of(ordinary) == b"ordinary"
    server.datagram(answer(ordinary, "480 Away"), PROXY if proxy else BOB)
    assert messages(server.pass_time(60_000)) == []
    assert [(row.snd_time_s, row.attempts) for row in finished(server.store.list())] == [(0, 2), (0, 0)]
    assert (server.engine.statistics.failed_messages, server.engine.statistics.failed_reminders) == (2, 1)


def test_who_is_away_when_it_is_due_gets_it_as_an_ordinary_message() -> None:
    server = world(IN_A_MINUTE)
    assert messages(server.pass_time(70_000)) == []
    (_, ordinary) = server.datagram(register(), BOB)
    assert header(ordinary, "From") == '"Alice" <sip:alice@example.com>;tag=f0'


def test_proxy_is_asked_for_who_is_not_registered_here() -> None:
    server = world(IN_A_MINUTE, config=parameters(outbound_proxy="sip:127.0.0.9:5070"))
    (reminder,) = messages(server.pass_time(70_000))
    assert reminder.startswith(b"MESSAGE sip:bob@example.com SIP/2.0\r\n")
    assert server.sent[-1].flow == udp(PROXY)
    server.datagram(answer(reminder), PROXY)
    assert server.waiting() == []


def test_no_way_to_the_proxy_is_known_before_anything_came() -> None:
    first = world(IN_A_MINUTE)
    other = World(Config(silo=parameters(outbound_proxy="sip:127.0.0.9:5070")))
    other.store = first.store
    assert messages(other.pass_time(70_000)) == []
    other.datagram(message(number=9))
    assert body_of(messages(other.pass_time(10_000))[0]) == b"0"


def test_reminders_are_off_by_default() -> None:
    server = world(IN_A_MINUTE, config=parameters(send_time=0))
    server.datagram(register(), BOB)
    assert messages(server.pass_time(70_000)) == []


def test_store_that_cannot_say_is_asked_again() -> None:
    server = world(IN_A_MINUTE)
    server.datagram(register(), BOB)
    server.hold = {Remind}
    server.pass_time(70_000)
    # One at a time, however long it takes.
    (held,) = server.held
    server.held.clear()
    server.carry_out(server.engine.complete(StorageFailed(held.token, "down"), server.now))
    server.hold.clear()
    assert server.engine.statistics.storage_failures == 1
    assert len(messages(server.pass_time(11_000))) == 1


def test_store_that_is_behind_is_asked_for_no_more_of_them() -> None:
    server = world(IN_A_MINUTE, limits=Limits(storage_actions_max=4))
    server.datagram(register(), BOB)
    server.hold = {LookUp}
    server.pass_time(300_000)
    assert len(server.held) == 4
    server.let_go()
    assert len(messages(server.pass_time(11_000))) == 1


def test_end_begins_no_more_of_them() -> None:
    server = world(IN_A_MINUTE)
    server.datagram(register(), BOB)
    server.hold = {Remind}
    server.pass_time(70_000)
    server.carry_out(server.engine.close(server.now))
    assert server.let_go() == []
    assert messages(server.pass_time(60_000)) == []


# -- Its expiry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expires", "lifetime"), [("", 100), ("Expires: 40\r\n", 40), ("Expires: 400\r\n", 100)])
def test_lifetime_counts_from_when_it_is_due(expires: str, lifetime: int) -> None:
    server = World(Config(silo=parameters(expire_time=100)), route=Deferring())
    server.datagram(message(headers=f"X-Due: {IN_A_DAY}\r\n{expires}"))
    (row,) = finished(server.store.list(owner="sip:bob@example.com"))
    assert row.exp_time_s == row.snd_time_s + lifetime


def test_it_is_not_thrown_away_before() -> None:
    server = world(IN_A_DAY, config=parameters(expire_time=100, clean_period=1))
    server.pass_time(86_000_000)
    assert server.waiting() == [b"0"]
    server.datagram(register(), BOB)
    (reminder,) = messages(server.pass_time(420_000))[:1]
    assert body_of(reminder) == b"0"
