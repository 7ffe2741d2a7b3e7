"""The routes in ``examples/`` do what they say."""

from examples.alias import Alias
from examples.deferred import Deferred
from examples.quiet import Quiet
from msilo_core import Config, SiloConfig
from tests.core.world import BOB, World, body_of, finished, message, register, status_of


def test_message_that_asks_for_a_time() -> None:
    world = World(Config(silo=SiloConfig(snd_time_avp="$avp(due)", send_time=10)), route=Deferred())
    world.datagram(register(), BOB)
    assert status_of(world.datagram(message(headers="X-Deliver-At: 20260921141420\r\n"))[0]) == 202
    assert world.datagram(message(b"now", number=2))[0].startswith(b"MESSAGE")
    assert b"hello" not in map(body_of, world.pass_time(55_000))
    assert b"hello" in map(body_of, world.pass_time(20_000))


def test_message_that_asks_for_a_time_and_is_for_nobody() -> None:
    world = World(Config(domains=frozenset({"example.com"})), route=Deferred())
    data = message(headers="X-Deliver-At: 20260921141420\r\n")
    assert status_of(world.datagram(data.replace(b"bob@example.com", b"bob@example.org"))[0]) == 404
    assert status_of(world.datagram(data.replace(b"Expires", b"Expires").replace(b"a1", b"a2", 1))[0]) == 202
    assert status_of(world.datagram(message(number=3, headers="X-Deliver-At: 1\r\nExpires: 0\r\n"))[0]) == 480


def test_alias() -> None:
    world = World(route=Alias())
    assert status_of(world.datagram(message(to="sales"))[0]) == 202
    (row,) = finished(world.store.list(owner="sip:bob@example.com"))
    assert row.dst_addr == "sip:sales@example.com"
    assert status_of(world.datagram(message(number=2, to="carol"))[0]) == 202
    assert status_of(world.datagram(message(number=3, to="sales", headers="Expires: 0\r\n"))[0]) == 480


def test_programs_are_not_told() -> None:
    silo = SiloConfig(
        skip_notification_flag=5, from_address="sip:silo@example.com", offline_message="$rU is away",
        content_type_hdr="Content-Type: text/plain",
    )  # fmt: skip
    world = World(Config(silo=silo), route=Quiet())
    assert len(world.datagram(message(headers="User-Agent: Monitor/2\r\n"))) == 1
    assert [body_of(data) for data in world.datagram(message(number=2))] == [b"", b"bob is away"]
