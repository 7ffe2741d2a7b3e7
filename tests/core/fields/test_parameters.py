"""Lists and parameters."""

import pytest

from msilo_core.errors import ParseError
from msilo_core.fields import split_first, split_list


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("", []),
        (" ", []),
        ("a", ["a"]),
        ("a, b\t,c", ["a", "b", "c"]),
        (",a,,b,", ["a", "b"]),
        ('"a,b" <sip:c,d@e>;x=",", f', ['"a,b" <sip:c,d@e>;x=","', "f"]),
        ('"\\",\\\\" , b', ['"\\",\\\\"', "b"]),
        ("<a,b>,<c>", ["<a,b>", "<c>"]),
    ],
)
def test_lists(value: str, parts: list[str]) -> None:
    assert split_list(value) == parts


@pytest.mark.parametrize("value", ['"', 'a, "b', "<a", "a, <b, c", '"a\\"', "a, <b<c>"])
def test_what_is_not_closed_is_no_list(value: str) -> None:
    with pytest.raises(ParseError):
        split_list(value)


def test_the_first_of_a_list() -> None:
    assert split_first(' "a,b" ;c , d, e ') == ('"a,b" ;c', "d, e")
    assert split_first("a") == ("a", "")
    assert split_first("") == ("", "")
    with pytest.raises(ParseError):
        split_first('"a, b')
