"""Nonces: what they say of themselves, and that each use of one happens once."""

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.clock import Moment
from msilo_core.errors import LocalError
from msilo_core.limits import Limits
from msilo_core.nonces import Nonces, NonceState
from tests.core.auth import LIFETIME_S, REALM, SECRET, at, entropy, issuer

FRESH, STALE, FOREIGN = NonceState.FRESH, NonceState.STALE, NonceState.FOREIGN
LIFETIME_MS = LIFETIME_S * 1000
SKEW_MS = 5_000

# -- What a nonce says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_ms", "state"), [(0, FRESH), (1, FRESH), (LIFETIME_MS, FRESH), (LIFETIME_MS + 1, STALE), (10**9, STALE)]
)
def test_a_nonce_lives_as_long_as_its_lifetime(age_ms: int, state: NonceState) -> None:
    nonces = issuer()
    nonce = nonces.issue(REALM, at(10))

    assert nonces.judge(nonce, REALM, at(10 + age_ms)) is state
    assert nonces.spend(nonce, REALM, 1, at(10 + age_ms)) is state


@pytest.mark.parametrize(("ahead_ms", "state"), [(0, FRESH), (SKEW_MS, FRESH), (SKEW_MS + 1, STALE), (10**9, STALE)])
def test_of_one_from_the_future_a_clock_may_be_the_cause(ahead_ms: int, state: NonceState) -> None:
    ours, theirs = issuer(), issuer()

    nonce = theirs.issue(REALM, at(10 + ahead_ms))

    assert ours.judge(nonce, REALM, at(10)) is state


def test_the_first_nonce_may_be_used_at_once() -> None:
    nonces = issuer()
    nonce = nonces.issue(REALM, at(0))

    assert nonces.judge(nonce, REALM, at(0)) is FRESH
    assert nonces.spend(nonce, REALM, 1, at(0)) is FRESH


def test_nonces_are_unique_and_safe_in_a_quoted_string() -> None:
    nonces = issuer()
    issued = {nonces.issue(REALM, at(10)) for _ in range(1_000)}

    assert len(issued) == 1_000
    assert all(len(nonce) == 40 and nonce.isascii() and '"' not in nonce and "\\" not in nonce for nonce in issued)
    assert len(nonces) == 0


def test_a_nonce_is_of_its_realm_and_its_secret() -> None:
    nonces, others = issuer(), issuer(SECRET[::-1])
    nonce = nonces.issue(REALM, at(10))

    assert nonces.judge(nonce, REALM + "x", at(10)) is FOREIGN
    assert nonces.judge(nonce, "", at(10)) is FOREIGN
    assert nonces.judge(nonce, REALM.upper(), at(10)) is FOREIGN
    assert others.judge(nonce, REALM, at(10)) is FOREIGN
    assert others.spend(nonce, REALM, 1, at(10)) is FOREIGN
    assert nonces.judge(nonce, REALM, at(10)) is FRESH


@pytest.mark.parametrize(
    "nonce",
    ["", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "A" * 39, "A" * 40, "A" * 41, "=" * 40, "é" * 40, "\udcff" * 40,
     "A" * 39 + "=", "A" * 39 + "\n", "_" * 40, "A" * 65_536],
)  # fmt: skip
def test_what_was_never_issued(nonce: str) -> None:
    nonces = issuer()
    assert nonces.judge(nonce, REALM, at(10)) is FOREIGN
    assert nonces.spend(nonce, REALM, 1, at(10)) is FOREIGN
    assert len(nonces) == 0


def test_no_bit_of_a_nonce_may_change() -> None:
    nonces = issuer()
    raw = b64decode(nonces.issue(REALM, at(10)))

    for bit in range(8 * len(raw)):
        changed = (int.from_bytes(raw, "big") ^ 1 << bit).to_bytes(len(raw), "big")
        assert nonces.judge(b64encode(changed).decode(), REALM, at(10)) is FOREIGN


def test_a_nonce_is_written_in_one_way_only() -> None:
    # Another text for the same nonce would be a nonce that nobody has used.
    nonces = issuer()
    nonce = nonces.issue(REALM, at(10))

    for other in (
        nonce + "=",
        nonce + "====",
        f" {nonce}",
        nonce + "\n",
        nonce.replace("A", "-"),
        nonce[:20] + "\n" + nonce[20:],
    ):
        assert other != nonce
        assert nonces.judge(other, REALM, at(10)) is FOREIGN


@pytest.mark.parametrize("size", [0, 15, 33])
def test_a_secret_has_16_to_32_octets(size: int) -> None:
    with pytest.raises(LocalError):
        issuer(bytes(size))
    issuer(bytes(16))
    issuer(bytes(32))


def test_a_lifetime_is_1_or_more() -> None:
    with pytest.raises(LocalError):
        Nonces(SECRET, lifetime_s=0, entropy=entropy(), now=at(0))
    nonces = Nonces(SECRET, lifetime_s=1, entropy=entropy(), now=at(0))
    nonce = nonces.issue(REALM, at(10))
    assert nonces.judge(nonce, REALM, at(1_010)) is FRESH
    assert nonces.judge(nonce, REALM, at(1_011)) is STALE


def test_the_secret_is_not_shown() -> None:
    assert "secret" not in repr(issuer())
    assert repr(SECRET)[2:-1] not in repr(issuer())


# -- What was used of a nonce ------------------------------------------------------------------------------------------


def spent(*counts: int | None) -> list[NonceState]:
    """Return how the uses of one nonce with these counts go."""
    nonces = issuer()
    nonce = nonces.issue(REALM, at(10))
    return [nonces.spend(nonce, REALM, count, at(10)) for count in counts]


@pytest.mark.parametrize(
    ("counts", "states"),
    [
        # In order, and a replay.
        ((1, 2, 3, 3, 2, 1), (FRESH, FRESH, FRESH, STALE, STALE, STALE)),
        # Requests side by side, turned round by the network.
        ((3, 1, 2, 1, 2, 3, 4), (FRESH, FRESH, FRESH, STALE, STALE, STALE, FRESH)),
        # It need not begin with 1: what came before may still be on its way.
        ((10, 9, 11, 9, 8), (FRESH, FRESH, FRESH, STALE, FRESH)),
        ((0, 0, 1), (FRESH, STALE, FRESH)),
        # The window is 64 wide.
        ((64, 1, 1), (FRESH, FRESH, STALE)),
        ((65, 1, 2), (FRESH, STALE, FRESH)),
        ((1, 64, 1, 65, 1, 2), (FRESH, FRESH, STALE, FRESH, STALE, FRESH)),
        ((1, 65, 1, 2, 64, 64), (FRESH, FRESH, STALE, FRESH, FRESH, STALE)),
        ((1, 2**32 - 1, 1, 2**32 - 2, 2**32 - 1), (FRESH, FRESH, STALE, FRESH, STALE)),
        # Without a count it is used up, before or after.
        ((None, None), (FRESH, STALE)),
        ((None, 1, 2**32 - 1), (FRESH, STALE, STALE)),
        ((1, None, 2), (FRESH, STALE, FRESH)),
    ],
)
def test_each_count_of_a_nonce_is_used_once(counts: tuple[int | None, ...], states: tuple[NonceState, ...]) -> None:
    assert tuple(spent(*counts)) == states


@given(st.lists(st.integers(0, 200) | st.none(), max_size=60))
def test_what_was_used_is_refused_and_what_is_near_is_not(counts: list[int | None]) -> None:
    used: set[int] = set()
    exhausted = False
    for count, state in zip(counts, spent(*counts), strict=True):
        if count is None:
            assert (state is FRESH) == (not used and not exhausted)
            exhausted = exhausted or state is FRESH
        else:
            may_be_used = not exhausted and count not in used and count > max(used, default=0) - 64
            assert (state is FRESH) == may_be_used
            used |= {count} if state is FRESH else set()


def test_judging_uses_nothing_up() -> None:
    nonces = issuer()
    nonce = nonces.issue(REALM, at(10))
    nonces.spend(nonce, REALM, None, at(10))

    assert nonces.judge(nonce, REALM, at(10)) is FRESH
    assert nonces.spend(nonce, REALM, None, at(10)) is STALE


def test_nonces_do_not_share_their_counts() -> None:
    nonces = issuer()
    one, other = nonces.issue(REALM, at(10)), nonces.issue(REALM, at(10))

    assert nonces.spend(one, REALM, 1, at(10)) is FRESH
    assert nonces.spend(other, REALM, 1, at(10)) is FRESH
    assert len(nonces) == 2


# -- What is forgotten -------------------------------------------------------------------------------------------------


def test_no_more_are_remembered_than_the_limit_and_the_forgotten_are_not_replayable() -> None:
    nonces = issuer(nonces_max=3)
    issued = [nonces.issue(REALM, at(10 * n)) for n in range(1, 5)]

    assert [nonces.spend(nonce, REALM, 1, at(50)) for nonce in issued[:3]] == [FRESH] * 3
    assert len(nonces) == 3
    assert [nonces.judge(nonce, REALM, at(50)) for nonce in issued] == [FRESH] * 4

    assert nonces.spend(issued[3], REALM, 1, at(50)) is FRESH
    assert len(nonces) == 3
    # The oldest went, whole; the others know what they were used for.
    assert nonces.spend(issued[0], REALM, 1, at(50)) is STALE
    assert nonces.spend(issued[0], REALM, 2, at(50)) is STALE
    assert [nonces.spend(nonce, REALM, 1, at(50)) for nonce in issued[1:]] == [STALE] * 3
    assert [nonces.spend(nonce, REALM, 2, at(50)) for nonce in issued[1:]] == [FRESH] * 3


def test_with_the_oldest_goes_whatever_was_issued_before_it_used_or_not() -> None:
    nonces = issuer(nonces_max=1)
    unused, oldest, same_time = (nonces.issue(REALM, at(ms)) for ms in (10, 20, 20))
    newer = nonces.issue(REALM, at(21))

    nonces.spend(oldest, REALM, 1, at(30))
    assert nonces.spend(newer, REALM, 1, at(30)) is FRESH

    assert nonces.spend(unused, REALM, 1, at(30)) is STALE
    assert nonces.spend(same_time, REALM, 1, at(30)) is STALE
    assert nonces.spend(newer, REALM, 2, at(30)) is FRESH


def test_of_two_issued_at_the_same_time_none_stays_when_one_is_forgotten() -> None:
    nonces = issuer(nonces_max=2)
    first, second = nonces.issue(REALM, at(10)), nonces.issue(REALM, at(10))
    third = nonces.issue(REALM, at(11))
    for nonce in (first, second, third):
        assert nonces.spend(nonce, REALM, 1, at(20)) is FRESH

    assert len(nonces) == 1
    assert nonces.spend(first, REALM, 2, at(20)) is STALE
    assert nonces.spend(second, REALM, 2, at(20)) is STALE
    assert nonces.spend(third, REALM, 2, at(20)) is FRESH


def test_the_oldest_of_all_is_used_once_and_is_then_the_one_forgotten() -> None:
    nonces = issuer(nonces_max=1)
    old, new = nonces.issue(REALM, at(10)), nonces.issue(REALM, at(20))
    assert nonces.spend(new, REALM, 1, at(30)) is FRESH

    assert nonces.spend(old, REALM, 1, at(30)) is FRESH
    assert nonces.spend(old, REALM, 1, at(30)) is STALE
    assert nonces.spend(old, REALM, 2, at(30)) is STALE
    assert nonces.spend(new, REALM, 1, at(30)) is STALE
    assert nonces.spend(new, REALM, 2, at(30)) is FRESH


def test_a_nonce_issued_where_all_of_its_time_are_forgotten_may_be_used() -> None:
    nonces = issuer(nonces_max=1)
    for _ in range(5):
        # All within one millisecond: every second one pushes out the one before it, and is issued at the same time.
        assert nonces.spend(nonces.issue(REALM, at(10)), REALM, 1, at(10)) is FRESH
        assert len(nonces) <= 1


def test_what_ran_out_is_forgotten_when_others_come() -> None:
    nonces = issuer()
    old = [nonces.issue(REALM, at(10)) for _ in range(10)]
    for nonce in old:
        nonces.spend(nonce, REALM, 1, at(10))
    assert len(nonces) == 10

    nonces.spend(nonces.issue(REALM, at(11)), REALM, 1, at(10 + LIFETIME_MS))
    assert len(nonces) == 11
    nonces.spend(nonces.issue(REALM, at(12)), REALM, 1, at(11 + LIFETIME_MS))
    assert len(nonces) == 2
    assert [nonces.spend(nonce, REALM, 2, at(12)) for nonce in old] == [STALE] * 10


def test_a_clock_set_back_brings_nothing_back_to_life_and_locks_nobody_out() -> None:
    nonces = issuer()
    nonce = nonces.issue(REALM, at(10))
    assert nonces.spend(nonce, REALM, 1, at(20)) is FRESH

    hour_ms = 3_600_000
    set_back = Moment(at(hour_ms).mono_ms, at(15).unix_ms)
    assert nonces.judge(nonce, REALM, set_back) is STALE
    new = nonces.issue(REALM, set_back)
    assert nonces.spend(new, REALM, 1, set_back) is FRESH
    assert nonces.spend(new, REALM, 1, set_back) is STALE
    assert nonces.spend(nonce, REALM, 2, set_back) is STALE


def test_after_a_restart_with_the_same_secret_nothing_of_before_is_replayable() -> None:
    before = issuer()
    nonce = before.issue(REALM, at(10))
    assert before.spend(nonce, REALM, 1, at(20)) is FRESH
    unused = before.issue(REALM, at(20))

    after = issuer(now=at(20), seed=2)

    assert after.spend(nonce, REALM, 1, at(20)) is STALE
    assert after.spend(unused, REALM, 1, at(20)) is STALE
    assert after.spend(after.issue(REALM, at(20)), REALM, 1, at(20)) is FRESH


_STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40_000), st.integers(0, 9), st.integers(1, 6) | st.none()), max_size=60
)


@given(_STEPS, st.integers(1, 4))
def test_whatever_happens_no_use_of_a_nonce_is_granted_twice(
    steps: list[tuple[int, int, int, int | None]], nonces_max: int
) -> None:
    nonces, elapsed_ms = issuer(nonces_max=nonces_max), 0
    issued = [nonces.issue(REALM, at(0))]
    granted: set[tuple[str, int | None]] = set()
    for what, wait_ms, which, count in steps:
        elapsed_ms += wait_ms if what == 0 else 0
        if what == 1:
            issued.append(nonces.issue(REALM, at(elapsed_ms)))
        elif what > 1:
            nonce = issued[-1 - which % len(issued)]
            if nonces.spend(nonce, REALM, count, at(elapsed_ms)) is FRESH:
                assert (nonce, count) not in granted
                granted.add((nonce, count))
        assert len(nonces) <= nonces_max
    fresh = nonces.issue(REALM, at(elapsed_ms))
    assert nonces.spend(fresh, REALM, 1, at(elapsed_ms)) is FRESH


def test_the_limit_is_that_of_the_limits() -> None:
    nonces = Nonces(SECRET, lifetime_s=LIFETIME_S, entropy=entropy(), now=at(0), limits=Limits(nonces_max=2))
    for _ in range(5):
        nonces.spend(nonces.issue(REALM, at(10)), REALM, 1, at(10))
    assert len(nonces) == 2
    assert len(Nonces(SECRET, lifetime_s=LIFETIME_S, entropy=entropy(), now=at(0))) == 0
