"""Deadlines: order, replacement, and a heap that does not grow."""

from hypothesis import given
from hypothesis import strategies as st

from msilo_core import Deadlines, Moment


def test_unix_seconds_are_rounded_down() -> None:
    assert Moment(0, 1_999).unix_s == 1


def test_those_of_equal_time_come_in_the_order_of_arming() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, at_ms in (("a", 5), ("b", 5), ("c", 4), ("a", 5)):
        deadlines.arm(key, at_ms)
    assert list(deadlines.pop_due(5)) == ["c", "b", "a"]


def test_armed_again_means_moved_and_disarmed_means_gone() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.arm("a", 1)
    deadlines.arm("a", 9)
    deadlines.arm("b", 2)
    deadlines.disarm("b")
    deadlines.disarm("never armed")
    assert deadlines.next_ms() == 9
    assert list(deadlines.pop_due(8)) == []
    assert ("a" in deadlines, len(deadlines)) == (True, 1)
    assert list(deadlines.pop_due(9)) == ["a"]
    assert deadlines.next_ms() is None


def test_what_is_armed_while_others_come_due_counts() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.arm("a", 1)
    seen: list[str] = []
    for key in deadlines.pop_due(5):
        seen.append(key)
        if key == "a":
            deadlines.arm("b", 3)
            deadlines.arm("c", 6)
    assert seen == ["a", "b"]
    assert deadlines.next_ms() == 6


def test_arming_again_and_again_does_not_grow_the_heap() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for at_ms in range(10_000):
        deadlines.arm(at_ms % 10, at_ms)
    assert len(deadlines._heap) < 200  # pyright: ignore[reportPrivateUsage]


@given(st.lists(st.tuples(st.sampled_from(["arm", "disarm", "pop"]), st.integers(0, 9), st.integers(0, 50))))
def test_like_a_dict_that_is_searched(steps: list[tuple[str, int, int]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, tuple[int, int]] = {}
    for order, (what, key, at_ms) in enumerate(steps):
        if what == "arm":
            deadlines.arm(key, at_ms)
            model[key] = (at_ms, order)
        elif what == "disarm":
            deadlines.disarm(key)
            model.pop(key, None)
        else:
            due = sorted((when, key) for key, when in model.items() if when[0] <= at_ms)
            assert list(deadlines.pop_due(at_ms)) == [key for _, key in due]
            for _, key in due:
                del model[key]
        assert deadlines.next_ms() == min((when[0] for when in model.values()), default=None)
