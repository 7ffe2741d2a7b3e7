"""MSILO.md section 2: the parameters that sections 3 to 6 do not speak of, and what each is without being given.

docs/kamailio.md names for each of the 34 the test of its effect; what is refused is in tests/core/test_parameters.py.
"""

from typing import Any

import pytest

from msilo_core import Call, Config, ServerRoute, SiloConfig
from msilo_core.actions import Expire, Remind
from tests.core.world import BOB, EPOCH_MS, World, answer, body_of, finished, message, register, status_of

DEFAULTS = {
    "db_table": "silo", "sc_mid": "id", "sc_from": "src_addr", "sc_to": "dst_addr", "sc_uri_user": "username",
    "sc_uri_host": "domain", "sc_body": "body", "sc_ctype": "ctype", "sc_exp_time": "exp_time",
    "sc_inc_time": "inc_time", "sc_snd_time": "snd_time", "sc_stored_hdrs": "extra_hdrs", "sc_callid": "callid",
    "sc_status": "status", "from_address": "", "contact_hdr": "", "offline_message": "", "content_type_hdr": "",
    "extra_hdrs": "", "reminder": "", "outbound_proxy": "", "expire_time": 259_200, "check_time": 60, "send_time": 0,
    "clean_period": 10, "use_contact": 1, "snd_time_avp": "", "max_messages": 0, "add_contact": 0,
    "extra_hdrs_avp": "", "skip_notification_flag": -1, "use_mode": 0,
}  # fmt: skip
"""Kamailio's, but for ``db_url``, which is the store's, and ``add_date``, which is not (P7)."""


def test_defaults_are_the_originals() -> None:
    silo = SiloConfig()
    assert {name: getattr(silo, name) for name in DEFAULTS} == DEFAULTS
    assert silo.add_date == 0
    assert len(DEFAULTS) + len({"db_url", "add_date"}) == 34


@pytest.mark.parametrize("expire_time", [1, 259_200, 4_294_967_295])
def test_expire_time_is_how_long_a_message_lives(expire_time: int) -> None:
    world = World(Config(silo=SiloConfig(expire_time=expire_time)))
    world.datagram(message())
    (row,) = finished(world.store.list(owner="sip:bob@example.com"))
    assert row.exp_time_s == EPOCH_MS // 1000 + expire_time


@pytest.mark.parametrize(("age_s", "is_delivered"), [(99, True), (100, False)])
def test_expire_time_is_the_end(age_s: int, is_delivered: bool) -> None:
    world = World(Config(silo=SiloConfig(expire_time=100)))
    assert status_of(world.datagram(message())[0]) == 202
    world.pass_time(1000 * age_s)
    sent = world.datagram(register(), BOB)
    assert [body_of(data) for data in sent[1:]] == [b"hello"] * is_delivered


@pytest.mark.parametrize(("check_time", "clean_period"), [(60, 10), (1, 1), (7, 3)])
def test_expired_rows_are_deleted_every_check_time_times_clean_period(check_time: int, clean_period: int) -> None:
    world = World(Config(silo=SiloConfig(check_time=check_time, clean_period=clean_period)))
    world.hold = {Expire}
    interval_ms = 1000 * check_time * clean_period
    asked_ms: list[int] = []
    for _ in range(3):
        world.pass_time(interval_ms - 1)
        assert not world.held
        world.pass_time(1)
        (expire,) = world.held
        asked_ms.append(expire.now_ms - EPOCH_MS)
        world.held.clear()
        world.carry_out(world.engine.complete(world.perform(expire), world.now))
    assert asked_ms == [interval_ms, 2 * interval_ms, 3 * interval_ms]


# -- With a route that leaves things for them --------------------------------------------------------------------------


TOLD: dict[str, Any] = {
    "from_address": "sip:registrar@example.com",
    "offline_message": "away",
    "content_type_hdr": "Content-Type: text/plain",
}


class Writing(ServerRoute):
    """Leaves AVPs, variables and flags for the parameters, as a route function of an operator."""

    def request_route(self, call: Call) -> None:
        """Store, or deliver live."""
        call.avps |= {"due": "20260921151320", "hdrs": "X-Kept: yes", "i:5": 17}
        call.variables["x"] = "y"
        call.flags |= {int(flag) for flag in (call.request.get("x-flags") or "").split()}
        super().request_route(call)


def world(**parameters: Any) -> World:
    """Return a server with these parameters, and a route that leaves things for them."""
    return World(Config(silo=SiloConfig(**parameters)), route=Writing())


@pytest.mark.parametrize(("send_time", "looks"), [(0, 0), (7, 3), (20, 1)])
def test_deferred_messages_are_looked_for_every_send_time(send_time: int, looks: int) -> None:
    server = world(send_time=send_time)
    server.hold = {Remind}
    asked_s: list[int] = []
    for second in range(1, 22):
        server.pass_time(1000)
        while server.held:
            asked_s.append(second)
            server.carry_out(server.engine.complete(server.perform(server.held.popleft()), server.now))
    assert asked_s == [send_time * (number + 1) for number in range(looks)]


def test_max_messages_is_for_each_owner_and_there_is_room_again() -> None:
    server = world(max_messages=1)
    assert status_of(server.datagram(message(number=0))[0]) == 202
    assert status_of(server.datagram(message(number=1, to="carol"))[0]) == 202
    assert status_of(server.datagram(message(number=2))[0]) == 480
    _, delivered = server.datagram(register(), BOB)
    server.datagram(answer(delivered), BOB)
    server.datagram(register(contact="*", expires="Expires: 0\r\n", cseq=2), BOB)
    assert status_of(server.datagram(message(number=3))[0]) == 202


def test_without_max_messages_there_is_no_bound() -> None:
    server = world()
    assert {status_of(server.datagram(message(number=number))[0]) for number in range(200)} == {202}


def test_max_bytes_is_for_bodies_and_headers_of_one_owner() -> None:
    server = world()
    server.datagram(message(headers="Subject: lunch\r\n"))
    (row,) = finished(server.store.list())
    texts = (row.ctype, row.extra_hdrs, row.from_hdr, row.to_hdr, row.date_hdr)
    octets = len(row.body) + sum(map(len, texts))
    for room, statuses in ((2 * octets - 1, [202, 480]), (2 * octets, [202, 202]), (2 * octets + 1, [202, 202])):
        server = world(max_bytes=room)
        told = [server.datagram(message(number=n, headers="Subject: lunch\r\n"))[0] for n in (1, 2)]
        assert [status_of(data) for data in told] == statuses
        assert statuses[1] == 202 or told[1].startswith(b"SIP/2.0 480 Inbox Full\r\n")
        assert status_of(server.datagram(message(to="carol", headers="Subject: lunch\r\n"))[0]) == 202


def test_max_messages_per_sender_leaves_room_for_others() -> None:
    server = world(max_messages_per_sender=2)
    told = [server.datagram(message(number=number))[0] for number in range(3)]
    assert [status_of(data) for data in told] == [202, 202, 480]
    assert told[2].startswith(b"SIP/2.0 480 Too Many Messages from This Sender\r\n")
    as_carol = message(number=3).replace(b"sip:alice@example.com", b"sip:carol@example.com")
    assert status_of(server.datagram(as_carol)[0]) == 202
    assert status_of(server.datagram(message(number=4, to="carol"))[0]) == 202
    # Written otherwise it is the same sender.
    as_alias = message(number=5).replace(b"<sip:alice@example.com>", b"<sip:%61lice@EXAMPLE.com;x=y>")
    assert status_of(server.datagram(as_alias)[0]) == 480


@pytest.mark.parametrize(
    ("parameters", "snd_time_s", "extra_hdrs"),
    [
        ({}, 0, "Subject: lunch\r\n"),
        ({"snd_time_avp": "$avp(due)"}, EPOCH_MS // 1000 + 3600, "Subject: lunch\r\n"),
        ({"snd_time_avp": "$avp(s:due)", "time_zone": "Europe/London"}, 0, "Subject: lunch\r\n"),
        ({"extra_hdrs_avp": "$(avp(hdrs))"}, 0, "X-Kept: yes\r\n"),
        ({"snd_time_avp": "$avp(hdrs)", "extra_hdrs_avp": "$avp(none)"}, 0, "Subject: lunch\r\n"),
    ],
)
def test_avp_that_is_named_is_read_and_no_other(parameters: dict[str, Any], snd_time_s: int, extra_hdrs: str) -> None:
    server = world(**parameters)
    server.datagram(message(headers="Subject: lunch\r\n"))
    (row,) = finished(server.store.list())
    assert (row.snd_time_s, row.extra_hdrs) == (snd_time_s, extra_hdrs)


# -- extra_hdrs, add_contact -------------------------------------------------------------------------------------------


def test_header_lines_stand_in_the_order_of_the_original() -> None:
    server = world(extra_hdrs="X-One: 1\r\nX-Two: $tU\r\n", add_contact=1)
    server.datagram(message(headers="Subject: lunch\r\n"))
    _, delivered = server.datagram(register(), BOB)
    behind_cseq = delivered.partition(b"CSeq: 7 MESSAGE\r\n")[2].partition(b"\r\n\r\n")[0]
    assert behind_cseq.split(b"\r\n") == [
        b"Date: Mon, 21 Sep 2026 14:13:20 GMT", b"Content-Type: text/plain",
        b"Contact: <sip:alice@example.com>;msilo=yes", b"X-One: 1", b"X-Two: bob", b"Subject: lunch",
        b"Content-Length: 5",
    ]  # fmt: skip


def test_header_lines_are_for_stored_messages_alone() -> None:
    server = world(extra_hdrs="X-One: 1", add_contact=1, add_date=1)
    server.datagram(register(), BOB)
    (live,) = server.datagram(message())
    assert (b"X-One" in live, b"msilo=yes" in live, body_of(live)) == (False, False, b"hello")


# -- skip_notification_flag --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skip", "flags", "is_told"),
    [(-1, "0 5 31", True), (0, "", True), (0, "0", False), (31, "31", False), (31, "0 1 30", True)],
)
def test_flag_of_that_number_keeps_the_notification_back(skip: int, flags: str, is_told: bool) -> None:
    sent = world(skip_notification_flag=skip, **TOLD).datagram(message(headers=f"X-Flags: {flags}\r\n"))
    assert [status_of(data) for data in sent] == ([202, 0] if is_told else [202])


# -- Pseudo-variables --------------------------------------------------------------------------------------------------


def test_pseudo_variables_are_those_of_the_call() -> None:
    """Each name of section 2, in `offline_message`; that of the flow, AVPs, variables and flags by way of a route."""
    names = (
        "$ru $rU $rd $rp $du $fu $fU $fd $fn $ft $tu $tU $td $tn $tt $ci $cs $rm $rs $rr $si $sp $Ri $Rp $pr $ct $cl "
        "$cT $ua $rb $bf $mf $Ts $Tf $TF $hdr(X-Flags) $avp(i:5) $var(x) $$"
    )
    server = world(**(TOLD | {"offline_message": names.replace(" ", "|"), "time_zone": "Europe/Rome"}))
    headers = "X-Flags: 0 4\r\nContact: <sip:alice@127.0.0.1:5071>\r\nUser-Agent: Softphone/1\r\n"
    _, told = server.datagram(message(headers=headers))
    assert dict(zip(names.split(), body_of(told).decode().split("|"), strict=True)) == {
        "$ru": "sip:bob@example.com", "$rU": "bob", "$rd": "example.com", "$rp": "5060", "$du": "<null>",
        "$fu": "sip:alice@example.com", "$fU": "alice", "$fd": "example.com", "$fn": '"Alice"', "$ft": "f1",
        "$tu": "sip:bob@example.com", "$tU": "bob", "$td": "example.com", "$tn": "<null>", "$tt": "<null>",
        "$ci": "call1@alice.example.com", "$cs": "7", "$rm": "MESSAGE", "$rs": "<null>", "$rr": "<null>",
        "$si": "127.0.0.1", "$sp": "5071", "$Ri": "127.0.0.1", "$Rp": "5060", "$pr": "udp",
        "$ct": "<sip:alice@127.0.0.1:5071>", "$cl": "5", "$cT": "text/plain", "$ua": "Softphone/1", "$rb": "hello",
        "$bf": "0", "$mf": "17", "$Ts": str(EPOCH_MS // 1000), "$Tf": "Mon Sep 21 16:13:20 2026",
        "$TF": "Mon Sep 21 16:13:20 2026", "$hdr(X-Flags)": "0 4", "$avp(i:5)": "17", "$var(x)": "y", "$$": "$",
    }  # fmt: skip


def test_what_a_phone_answered_is_known_where_the_message_is_stored_after_it() -> None:
    server = world(**(TOLD | {"offline_message": "$rs $rr"}))
    server.datagram(register(), BOB)
    (live,) = server.datagram(message())
    accepted, told = server.datagram(answer(live, "480 Away"), BOB)
    assert (status_of(accepted), body_of(told)) == (202, b"480 Away")
