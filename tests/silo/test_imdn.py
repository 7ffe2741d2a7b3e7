"""Who is told by IMDN, by what way and how many: beside the notification of msilo, and within bounds.

What RFC 5438 says of it is in tests/rfc/test_rfc5438.py.
"""

from typing import Any

import msgspec
import pytest

from msilo_core import Call, Config, Limits, LocalError, ServerRoute, SiloConfig
from msilo_core.actions import Expire, Expired, Message, Settled, Store
from msilo_core.uri import Aor
from tests.core.imdn import HEAD, TEXT, asking, cpim, kept, said, typed
from tests.core.world import ALICE, BOB, World, answer, finished, header, message, register, status_of

OWNER = Aor("bob", "example.com")
PROXY = ("127.0.0.9", 5070)
TOLD = SiloConfig(
    from_address="sip:registrar@example.com", offline_message="away", content_type_hdr="Content-Type: text/plain"
)


def world(silo: SiloConfig | None = None, limits: Limits | None = None, **kwargs: Any) -> World:
    """Return a server with these parameters."""
    route = kwargs.pop("route", None)
    return World(Config(silo=silo if silo is not None else SiloConfig(), **kwargs), limits, route)


def refuse(server: World, *, messages: int = 1, status: str = "403 Forbidden") -> list[bytes]:
    """Let bob come back and refuse so many of what waits; return what is sent for the last."""
    sent = server.datagram(register(), BOB)[1:]
    for _ in range(messages):
        (delivered,) = sent
        sent = server.datagram(answer(delivered, status), BOB)
    return sent


def rows(server: World, owner: str = "sip:alice@example.com") -> list[Message]:
    return finished(server.store.list(owner=owner))


def counts(server: World) -> tuple[int, int]:
    """Return how many were told, and how many not."""
    statistics = server.engine.statistics
    return statistics.imdns, statistics.lost_imdns


# -- Beside the notification of msilo ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "imdn", "notification"),
    [("processing", 1, True), ("negative-delivery", 1, False), ("processing", 0, False)],
)
def test_who_asks_for_an_imdn_gets_no_other_notification(values: str, imdn: int, notification: bool) -> None:
    server = world(msgspec.structs.replace(TOLD, imdn=imdn))
    accepted, told = server.datagram(asking(values))
    assert status_of(accepted) == 202
    assert (said(told) == ("id1", "stored")) is notification
    assert server.engine.statistics.notifications == (not notification)


def test_imdn_is_not_notified_of() -> None:
    server = world(TOLD)
    phones = "Content-Type: message/imdn+xml\nContent-Disposition: notification\n\n<imdn/>"
    assert len(server.datagram(typed(cpim(HEAD, phones)))) == 1
    assert len(server.datagram(typed(b"<imdn/>", number=2, content_type="message/imdn+xml"))) == 1
    assert len(server.datagram(typed(cpim(HEAD, "Content-Type: \n\n"), number=3))) == 2


class Flagging(ServerRoute):
    """A route that sets a flag on what says that it is quiet."""

    def request_route(self, call: Call) -> None:
        """Set it, and go on."""
        if call.request.get("x-quiet"):
            call.flags.add(5)
        super().request_route(call)


def test_message_with_the_flag_is_told_of_by_nobody() -> None:
    server = world(SiloConfig(skip_notification_flag=5), route=Flagging())
    assert len(server.datagram(asking(headers="X-Quiet: 1\r\n"))) == 1
    assert len(server.datagram(asking(number=2))) == 2
    refuse(server, messages=2)
    assert kept(server) == [("id2", "failed")]


def test_message_that_is_stored_for_two_owners_is_told_of_once() -> None:
    class Copying(ServerRoute):
        def request_route(self, call: Call) -> None:
            if call.method == "MESSAGE":
                assert call.m_store()
                assert call.m_store("sip:carol@example.com")
            else:
                super().request_route(call)

    server = world(route=Copying())
    assert [said(data) for data in server.datagram(asking()) if not status_of(data)] == [("id1", "stored")]
    assert len(rows(server, "sip:carol@example.com")) == 1


# -- That it is stored: one at a time ----------------------------------------------------------------------------------


def test_one_is_outstanding_to_each_sender_and_others_wait_in_their_order() -> None:
    server = world()
    for number in range(3):
        server.datagram(asking(number=number))
    other = asking(number=9).replace(b"sip:alice@", b"sip:dave@")
    assert said(server.datagram(other)[1]) == ("id9", "stored")
    told = [send.data for send in server.sent if said(send.data)[0]]
    assert [said(data) for data in told] == [("id0", "stored"), ("id9", "stored")]
    assert server.datagram(answer(told[0], "100 Trying")) == []
    (second,) = server.datagram(answer(told[0]))
    (third,) = server.datagram(answer(second, "202 Accepted"))
    assert [said(data) for data in (second, third)] == [("id1", "stored"), ("id2", "stored")]
    assert server.datagram(answer(third)) == []
    assert counts(server) == (4, 0)
    assert said(server.datagram(asking(number=4))[1]) == ("id4", "stored")


@pytest.mark.parametrize("status", ["415 Unsupported Media Type", "480 Temporarily Unavailable", "", "302 Moved"])
def test_who_does_not_take_one_is_not_sent_the_others(status: str) -> None:
    server = world()
    _, first = server.datagram(asking(number=0))
    for number in (1, 2):
        server.datagram(asking(number=number))
    if status:
        assert server.datagram(answer(first, status)) == []
    else:
        sent = server.timed(33_000)
        assert {send.data for send in sent} == {first}
    assert counts(server) == (1, 2)
    assert said(server.datagram(asking(number=3))[1]) == ("id3", "stored")


def test_so_many_wait_for_each_sender_and_for_all() -> None:
    server = world(limits=Limits(imdns_per_sender_max=2, imdns_waiting_max=3))
    for number in range(4):
        server.datagram(asking(number=number))
    assert counts(server) == (1, 1)
    for number in range(10, 13):
        server.datagram(asking(number=number).replace(b"sip:alice@", b"sip:dave@"))
    # His first is sent, one waits with the two of the other, and there is no room for the next.
    assert counts(server) == (2, 2)
    server.pass_time(33_000)
    assert counts(server) == (2, 5)
    for number in range(20, 23):
        server.datagram(asking(number=number))
    assert counts(server) == (3, 5)


def test_without_room_for_a_request_none_is_sent() -> None:
    server = world(limits=Limits(client_transactions_max=1))
    _, first = server.datagram(asking(number=0))
    assert len(server.datagram(asking(number=1).replace(b"sip:alice@", b"sip:dave@"))) == 1
    assert counts(server) == (1, 1)
    server.datagram(asking(number=2))
    (second,) = server.datagram(answer(first))
    assert said(second) == ("id2", "stored")


def test_it_goes_by_way_of_the_outbound_proxy() -> None:
    server = world(SiloConfig(outbound_proxy=f"sip:{PROXY[0]}:{PROXY[1]}"))
    _, told = server.datagram(asking())
    assert said(told) == ("id1", "stored")
    assert told.startswith(b"MESSAGE sip:alice@example.com SIP/2.0\r\n")
    assert header(told, "Route") == f"<sip:{PROXY[0]}:{PROXY[1]};lr>"
    assert server.sent[-1].flow.remote == PROXY


def test_it_is_never_stored_when_it_comes_back() -> None:
    server = world()
    _, told = server.datagram(asking())
    back = told.replace(b"Via: ", b"Via: SIP/2.0/UDP 127.0.0.9:5070;branch=z9hG4bKp\r\nVia: ", 1)
    (refused,) = server.datagram(back, PROXY)
    assert status_of(refused) == 480
    assert rows(server) == []


# -- That it can never be delivered: stored as a message to its sender -------------------------------------------------


def test_sender_who_is_there_is_told_at_once() -> None:
    server = world()
    server.datagram(register("alice", "<sip:alice@127.0.0.1:5071>", sender=ALICE), ALICE)
    server.datagram(asking("negative-delivery"))
    (told,) = refuse(server)
    assert said(told) == ("id1", "failed")
    assert told.startswith(b"MESSAGE sip:alice@127.0.0.1:5071 SIP/2.0\r\n")
    assert header(told, "From").startswith("<sip:bob@example.com>;tag=")
    assert header(told, "To") == "<sip:alice@example.com>"
    server.datagram(answer(told))
    assert rows(server) == []
    assert counts(server) == (1, 0)


def test_sender_who_is_away_is_told_when_he_comes_back() -> None:
    server = world()
    server.datagram(asking("negative-delivery"))
    assert refuse(server) == []
    _, told = server.datagram(register("alice", "<sip:alice@127.0.0.1:5071>", sender=ALICE), ALICE)
    assert said(told) == ("id1", "failed")


@pytest.mark.parametrize(
    ("sender", "proxy", "is_told"),
    [
        ("alice@example.com", "", True),
        ("alice@example.net", "", False),
        ("alice@example.net", "sip:127.0.0.9:5070", True),
    ],
)
def test_sender_of_another_domain_is_told_by_way_of_the_proxy_alone(sender: str, proxy: str, is_told: bool) -> None:
    server = world(SiloConfig(outbound_proxy=proxy), domains=frozenset({"example.com"}))
    server.datagram(asking("negative-delivery").replace(b"sip:alice@example.com", f"sip:{sender}".encode()))
    sent = refuse(server)
    assert counts(server) == (is_told, not is_told)
    assert kept(server, f"sip:{sender}") == [("id1", "failed")] * is_told
    if proxy:
        (told,) = sent
        assert told.startswith(f"MESSAGE sip:{sender} SIP/2.0\r\n".encode())
        assert server.sent[-1].flow.remote == PROXY


def test_row_of_another_program_or_of_before_the_setting_was_changed_is_told_of_to_nobody() -> None:
    server, other = world(), world(SiloConfig(imdn=0))
    other.store = server.store
    server.datagram(asking())
    assert [row.imdn for row in rows(server, "sip:bob@example.com")] == [1]
    refuse(other)
    assert rows(server) == []
    assert counts(other) == (0, 0)


def test_what_cannot_be_read_any_more_is_told_of_to_nobody() -> None:
    server = world()
    row = Message(
        owner=OWNER, src_addr="sip:alice@example.com", dst_addr="sip:bob@example.com", inc_time_s=server.now.unix_s,
        exp_time_s=server.now.unix_s + 60, ctype="message/cpim", body=b"what?", imdn=1,
    )  # fmt: skip
    finished(server.store.append([Store(1, row)]))
    refuse(server)
    assert counts(server) == (0, 1)


def test_repeat_of_one_that_is_kept_is_counted_once() -> None:
    """As when a server ended between what was told and what it recorded."""
    server = world()
    server.datagram(asking("negative-delivery"))
    (row,) = rows(server, "sip:bob@example.com")
    for _ in range(2):
        server.carry_out(server.engine._reports.failed(row, server.now))  # pyright: ignore[reportPrivateUsage]
    assert kept(server) == [("id1", "failed")]
    assert counts(server) == (1, 0)


def test_inbox_that_is_full_takes_none() -> None:
    server = world(SiloConfig(max_messages=1))
    server.datagram(message(to="alice"))
    server.datagram(asking("negative-delivery", number=2))
    refuse(server)
    assert kept(server) == []
    assert counts(server) == (0, 1)


def test_store_that_fails_or_has_too_much_to_do_loses_it() -> None:
    server = world()
    for number in (1, 2):
        server.datagram(asking("negative-delivery", number=number))
    _, first = server.datagram(register(), BOB)
    server.hold = {Store}
    (second,) = server.datagram(answer(first, "403 Forbidden"), BOB)
    (held,) = server.held
    server.held.clear()
    with pytest.raises(LocalError, match="Settled does not answer Store"):
        server.engine.complete(Settled(held.token), server.now)
    server.failing = True
    server.hold = set()
    server.datagram(answer(second, "403 Forbidden"), BOB)
    server.failing = False
    assert counts(server) == (0, 1)
    server.pass_time(5_000)
    assert kept(server) == []


def test_desk_that_is_full_loses_it() -> None:
    server = world(limits=Limits(storage_actions_max=1))
    server.datagram(asking("negative-delivery"))
    _, delivered = server.datagram(register(), BOB)
    server.hold = {Store}
    assert server.datagram(message(number=2, to="carol")) == []
    server.datagram(answer(delivered, "403 Forbidden"), BOB)
    assert counts(server) == (0, 1)


def test_one_that_is_stored_takes_the_place_of_a_message() -> None:
    server = world(limits=Limits(storage_actions_max=1))
    server.datagram(asking("negative-delivery"))
    _, delivered = server.datagram(register(), BOB)
    server.hold = {Store}
    server.datagram(answer(delivered, "403 Forbidden"), BOB)
    (refused,) = server.datagram(message(number=2, to="carol"))
    assert status_of(refused) == 503
    server.let_go()
    assert counts(server) == (1, 0)
    assert status_of(server.datagram(message(number=3, to="carol"))[0]) == 202


# -- What expired ------------------------------------------------------------------------------------------------------


def expiring(server: World, count: int) -> None:
    """Store so many messages that are told of when they expire, in a minute, each from another sender."""
    for number in range(count):
        data = asking("negative-delivery", number=number, headers="Expires: 60\r\n")
        server.datagram(data.replace(b"sip:alice@", f"sip:alice{number}@".encode()))


def test_many_that_expired_are_told_of_a_hundred_at_a_time_as_the_store_keeps_up() -> None:
    server = world(SiloConfig(check_time=1, clean_period=100))
    expiring(server, 205)
    server.hold = {Expire, Store}
    server.pass_time(100_000)
    (expire,) = server.held
    server.held.clear()
    server.carry_out(server.engine.complete(server.perform(expire), server.now))
    stores = list(server.held)
    assert [type(action) for action in stores] == [Store] * 100
    # Nothing more expires until they are stored.
    server.pass_time(5_000)
    assert list(server.held) == stores
    server.let_go()
    server.pass_time(100)
    assert counts(server) == (200, 0)
    server.pass_time(200)
    assert counts(server) == (205, 0)
    assert server.engine.statistics.expired_messages == 205
    assert kept(server, "sip:alice204@example.com") == [("id204", "failed")]


def test_what_expired_is_told_of_though_the_server_ends() -> None:
    server = world()
    expiring(server, 1)
    server.hold = {Expire}
    server.pass_time(600_000)
    server.carry_out(server.engine.close(server.now))
    is_idle = server.engine.is_idle
    server.let_go()
    assert (is_idle, server.engine.is_idle) == (False, True)
    assert kept(server, "sip:alice0@example.com") == [("id0", "failed")]


def test_what_is_told_of_is_what_the_store_returned() -> None:
    server = world()
    server.hold = {Expire}
    server.pass_time(600_000)
    (expire,) = server.held
    server.hold = set()
    untold = Message(
        owner=OWNER, src_addr="sip:alice@example.com", dst_addr="im:bob@example.com", inc_time_s=1, exp_time_s=2,
        ctype="message/cpim", body=cpim(HEAD, TEXT), imdn=1,
    )  # fmt: skip
    server.carry_out(server.engine.complete(Expired(expire.token, 2, (untold,)), server.now))
    (row,) = rows(server)
    assert (row.src_addr, row.dst_addr) == ("im:bob@example.com", "sip:alice@example.com")
    assert kept(server) == [("34jk324j", "failed")]
