"""Token buckets on told time: at the rate and one past it, nothing rounded, and bounded memory."""

import random

import pytest

from msilo_core import Limits, LocalError, Moment
from msilo_core.actions import Bind
from msilo_core.entropy import Entropy
from msilo_core.rates import RegistrationRate, SenderRates
from tests.core.world import ALICE, BOB, World, header, message, register, status_of

STRANGER = ("127.0.0.1", 5099)


def at(mono_ms: int) -> Moment:
    return Moment(mono_ms, 0)


# -- Of one sender -----------------------------------------------------------------------------------------------------


def test_burst_and_one_past_it() -> None:
    rates = SenderRates(Limits(sender_rate=4, sender_burst=3))
    assert [rates.wait_ms("a", at(1_000)) for _ in range(4)] == [0, 0, 0, 250]
    assert [rates.wait_ms("a", at(ms)) for ms in (1_249, 1_250, 1_251)] == [1, 0, 249]
    # Another one has a bucket of his own.
    assert rates.wait_ms("b", at(1_251)) == 0
    # After so long it is full, and not fuller.
    assert [rates.wait_ms("a", at(60_000)) for _ in range(4)] == [0, 0, 0, 250]


@pytest.mark.parametrize("rate", [1, 3, 7, 999, 1_000, 1_001])
def test_rate_is_exact_in_the_long_run(rate: int) -> None:
    rates = SenderRates(Limits(sender_rate=rate, sender_burst=2))
    taken, now_ms = 0, 0
    while taken < 1_000:
        wait_ms = rates.wait_ms("a", at(now_ms))
        taken += not wait_ms
        now_ms += wait_ms
        assert not wait_ms or rates.wait_ms("a", at(now_ms - 1)) == 1
    # Two at once, then one each 1/rate s: not a millisecond too early or too late.
    assert now_ms == -(-998 * 1000 // rate)


def test_clock_may_begin_anywhere() -> None:
    rates = SenderRates(Limits(sender_rate=1, sender_burst=2))
    assert [rates.wait_ms("a", at(-5_000)) for _ in range(3)] == [0, 0, 1_000]
    limits = Limits(registrations_per_s=1, registrations_burst=1)
    registrations = RegistrationRate(limits, Entropy(random.Random(1)), at(-5_000))
    assert not registrations.is_spent(at(-5_000))
    registrations.take(at(-5_000))
    assert [registrations.is_spent(at(ms)) for ms in (-4_001, -4_000)] == [True, False]


def test_senders_are_bounded_and_whoever_is_full_again_is_forgotten() -> None:
    rates = SenderRates(Limits(sender_rate=1, sender_burst=5, senders_max=2))
    assert [rates.wait_ms(sender, at(0)) for sender in ("a", "a", "a", "b")] == [0] * 4
    assert len(rates) == 2
    # One more: "b" is full first, and is forgotten; "a" is not.
    rates.wait_ms("c", at(0))
    rates.wait_ms("c", at(0))
    assert len(rates) == 2
    assert [rates.wait_ms("a", at(0)) for _ in range(3)] == [0, 0, 1_000]
    rates.wait_ms("d", at(4_999))
    assert len(rates) == 2
    rates.wait_ms("d", at(5_000))
    assert len(rates) == 1


def test_past_the_rate_the_answer_is_503_that_says_when() -> None:
    world = World(limits=Limits(sender_rate=1, sender_burst=2))
    told = [world.datagram(message(number=number))[0] for number in range(4)]
    assert [status_of(data) for data in told] == [202, 202, 503, 503]
    assert [header(data, "Retry-After") for data in told[2:]] == ["1", "1"]
    assert world.engine.statistics.overloads == 2
    # A repeat of what was taken is none more; nothing is kept of what was not.
    assert world.datagram(message(number=1)) == [told[1]]
    world.pass_time(1_000)
    assert status_of(world.datagram(message(number=2))[0]) == 202
    assert len(world.waiting()) == 3
    # It is about messages.
    assert status_of(world.datagram(register("alice"), ALICE)[0]) == 200


def test_sender_behind_a_trusted_peer_is_whom_that_asserts_or_else_from_and_host() -> None:
    world = World(limits=Limits(sender_rate=1, sender_burst=1))

    def sent(headers: str = "", number: int = 0, remote: tuple[str, int] = ALICE, uri: str = "") -> int:
        data = message(number=number, headers=headers)
        if uri:
            data = data.replace(b"<sip:alice@example.com>;tag", f"<{uri}>;tag".encode())
        return status_of(world.datagram(data, remote)[0])

    asserted = "P-Asserted-Identity: <sip:dave@example.com>\r\n"
    assert sent() == 202
    assert sent(number=1) == 503
    # The same address from another port of the same host, written another way; then another host, and another user.
    assert sent(number=2, remote=STRANGER) == 503
    assert sent(number=3, uri="sip:%61lice@EXAMPLE.com;x=y") == 503
    assert sent(number=4, remote=("127.0.0.2", 5071)) == 202
    assert sent(number=5, uri="sip:carol@example.com") == 202
    assert sent(number=6, uri="tel:+15551234") == 202
    assert sent(number=7, uri="tel:+15551234") == 503
    # Whoever is asserted is one, whatever From says and wherever it comes from.
    assert sent(asserted, number=8) == 202
    assert sent(asserted, number=9, remote=("127.0.0.2", 5071), uri="sip:anonymous@anonymous.invalid") == 503


def test_there_is_no_rate_unless_it_is_asked_for() -> None:
    assert (Limits().sender_rate, Limits().registrations_per_s) == (0, 0)
    world = World()
    assert {status_of(world.datagram(message(number=number, to="carol"))[0]) for number in range(200)} == {202}
    assert {status_of(world.datagram(register(cseq=cseq), BOB)[0]) for cseq in range(1, 200)} == {200}


# -- Of REGISTERs ------------------------------------------------------------------------------------------------------


def registrations(**limits: int) -> RegistrationRate:
    return RegistrationRate(Limits(**limits), Entropy(random.Random(1)), at(0))


def test_registrations_on_the_burst_and_one_past_it() -> None:
    world = World(limits=Limits(registrations_per_s=2, registrations_burst=3))
    told = [world.datagram(register(f"user{n}"), BOB)[0] for n in range(5)]
    assert [status_of(data) for data in told] == [200, 200, 200, 503, 503]
    assert [header(data, "Retry-After") for data in told[3:]] == ["1", "1"]
    assert (world.engine.statistics.registrations, world.engine.statistics.overloads) == (3, 2)
    # Half a second is one more.
    world.pass_time(499)
    assert status_of(world.datagram(register("user3", cseq=2), BOB)[0]) == 503
    world.pass_time(1)
    told = [world.datagram(register(f"user{n}", cseq=3), BOB)[0] for n in (3, 4)]
    assert [status_of(data) for data in told] == [200, 503]
    # A repeat of one that was carried out is none more, and messages are not held up.
    assert status_of(world.datagram(register("user3", cseq=3), BOB)[0]) == 200
    assert status_of(world.datagram(message())[0]) == 202


def test_those_that_are_refused_stand_in_a_line() -> None:
    rate = registrations(registrations_per_s=100, registrations_burst=1)
    rate.take(at(0))
    waits_s = [rate.retry_after_s(at(0)) for _ in range(10_000)]
    assert waits_s[:100] == [1] * 100
    assert set(waits_s[-100:]) <= set(range(100 - 12, 100 + 12 + 1))
    assert len(set(waits_s[-100:])) > 12
    # In each second come back about as many as are let in.
    counts = [waits_s.count(second) for second in range(1, 88)]
    assert max(counts) < 140
    assert min(counts) > 60
    # The line moves on.
    assert 1 <= rate.retry_after_s(at(99_000)) <= 2
    assert rate.retry_after_s(at(500_000)) == 1


def test_behind_the_longest_line_any_time_is_as_good() -> None:
    rate = registrations(registrations_per_s=1, registrations_burst=1, retry_after_max_s=5)
    rate.take(at(0))
    waits_s = [rate.retry_after_s(at(0)) for _ in range(1_000)]
    assert waits_s[:5] == [1, 2, 3, 4, 5]
    assert set(waits_s[5:]) == {1, 2, 3, 4, 5}
    # It has not grown on the way.
    assert rate.retry_after_s(at(1_000)) == 5


def test_those_that_there_is_no_room_for_come_back_at_different_times() -> None:
    world = World(limits=Limits(storage_actions_max=1))
    world.hold = {Bind}
    world.datagram(register(), BOB)
    told = [world.datagram(register(f"user{n}"), BOB)[0] for n in range(200)]
    assert {status_of(data) for data in told} == {503}
    assert {header(data, "Retry-After") for data in told} == {str(second) for second in range(10, 21)}
    # Those that there is no time for, too.
    world.held.clear()
    (late,) = world.pass_time(8_000)
    assert status_of(late) == 503
    assert 10 <= int(header(late, "Retry-After")) <= 20


def test_limits_of_rates() -> None:
    for name in ("sender_rate", "registrations_per_s"):
        assert getattr(Limits(**{name: 0}), name) == 0
    for name in ("sender_burst", "registrations_burst", "senders_max", "retry_after_max_s"):
        with pytest.raises(LocalError, match=f"{name} = 0 is out of range: give 1 to"):
            Limits(**{name: 0})
    with pytest.raises(LocalError, match="sender_rate = -1 is out of range: give 0 to 2147483647"):
        Limits(sender_rate=-1)
