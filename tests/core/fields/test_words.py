"""Headers that hold words."""

import pytest

from msilo_core.errors import ParseError
from msilo_core.fields import parse_call_id


@pytest.mark.parametrize("text", ["a", "a@b", "a84b4c76e66710@pc33.example.com", "ZK-!.*_+'@word`~)(><:\\/\"][?}{"])
def test_call_id(text: str) -> None:
    assert parse_call_id(f" {text} ") == text


@pytest.mark.parametrize("text", ["", "@", "a@", "@a", "a@b@c", "a b", "a,b", "a;b", "a=b", "é", "a\0"])
def test_what_is_no_call_id(text: str) -> None:
    with pytest.raises(ParseError):
        parse_call_id(text)
