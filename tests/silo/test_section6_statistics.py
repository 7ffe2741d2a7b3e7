"""MSILO.md section 6: what is counted, each under its name."""

from msilo_core import Config, SiloConfig
from tests.core.world import BOB, World, answer, message, register
from tests.silo.test_section5_reminders import Deferring, messages

COUNTED = ("stored_messages", "dumped_messages", "failed_messages", "dumped_reminders", "failed_reminders")


def counts(world: World) -> tuple[int, ...]:
    return tuple(getattr(world.engine.statistics, name) for name in COUNTED)


def test_each_counts_its_own() -> None:
    silo = SiloConfig(snd_time_avp="$avp(due)", send_time=10)
    world = World(Config(silo=silo), route=Deferring())
    world.datagram(message(b"one"))
    world.datagram(message(b"two", number=2))
    assert counts(world) == (2, 0, 0, 0, 0)
    _, one = world.datagram(register(), BOB)
    (two,) = world.datagram(answer(one), BOB)
    assert counts(world) == (2, 1, 0, 0, 0)
    world.datagram(answer(two, "480 Away"), BOB)
    assert counts(world) == (2, 1, 1, 0, 0)
    _, two = world.datagram(register(cseq=2), BOB)
    world.datagram(answer(two), BOB)
    for number in (3, 4):
        world.datagram(message(number=number, headers="X-Due: 20260921141420\r\n"))
    assert counts(world) == (4, 2, 1, 0, 0)
    (three,) = messages(world.pass_time(70_000))
    (four,) = messages(world.datagram(answer(three), BOB))
    assert counts(world) == (4, 2, 1, 1, 0)
    world.datagram(answer(four, "480 Away"), BOB)
    assert counts(world) == (4, 2, 1, 1, 1)
    # It is an ordinary one now.
    _, four = world.datagram(register(cseq=3), BOB)
    world.datagram(answer(four), BOB)
    assert counts(world) == (4, 3, 1, 1, 1)
