"""MSILO.md section 2: the parameters that sections 3 to 6 do not speak of, and what each is without being given.

docs/kamailio.md names for each of the 34 the test of its effect; what is refused is in tests/core/test_parameters.py.
"""

import pytest

from msilo_core import Config, SiloConfig
from msilo_core.actions import Expire
from tests.core.world import BOB, EPOCH_MS, World, body_of, finished, message, register, status_of

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
