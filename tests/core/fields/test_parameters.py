"""Lists and parameters."""

import pytest
from hypothesis import given

from msilo_core.errors import LocalError, ParseError
from msilo_core.fields import split_first, split_list
from msilo_core.fields.parameters import parameters, quote, unquote
from tests.core.fields.strategies import params, quoted_strings, texts


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


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("token", "token"),
        ('""', ""),
        (r'"a\"b"', 'a"b'),
        (r'"\\\\"', r"\\"),
        (r'"\a\b"', "ab"),
        ('"\\\0\\\t\\ "', "\0\t "),
        ("[::1]", "[::1]"),
    ],
)
def test_what_a_value_says(value: str, said: str) -> None:
    assert unquote(value) == said


@given(texts)
def test_any_text_can_be_quoted(text: str) -> None:
    assert unquote(quote(text)) == text
    assert list(parameters(f";a={quote(text)};b", 0)) == [("a", quote(text)), ("b", "")]


@pytest.mark.parametrize("text", ["\r", "\n", 'a"\r\nb'])
def test_what_no_quoted_string_says(text: str) -> None:
    with pytest.raises(LocalError):
        quote(text)


@given(quoted_strings, params())
def test_nothing_is_found_inside_of_a_quoted_string(quoted: str, others: str) -> None:
    assert list(parameters(f";a={quoted}{others}", 0)) == [("a", quoted), *parameters(others, 0)]
    assert split_list(f"<a>;b={quoted}{others},c") == [f"<a>;b={quoted}{others}", "c"]
