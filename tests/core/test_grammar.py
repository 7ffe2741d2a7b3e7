"""The pieces of RFC 3261 section 25.1."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.grammar import (
    HOST,
    METHODS,
    QUOTED_STRING,
    SHAPE_HOST,
    SHAPE_PORT,
    SHAPE_URI_PARAMETERS,
    SHAPE_USER,
    TOKEN,
    URI_PARAMETERS,
    USER,
    USUAL_NUMBERS,
    WORD,
    bounded_int,
    is_token,
    normalise_host,
    parse_port,
)
from tests.core.shapes import joined
from tests.core.wire import growth

# Letters and digits to Python, and no token characters to SIP: KELVIN SIGN, dotless i, long s, Arabic-Indic three,
# superscript two.
NOT_ASCII = "\u212a\u0131\u017f\u0663\u00b2"


def test_a_token_has_the_characters_of_the_grammar_and_no_others() -> None:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~")

    assert {character for character in map(chr, range(0x250)) if is_token(character)} == allowed
    assert not is_token("")
    assert not any(is_token(f"a{character}") for character in NOT_ASCII)


def test_a_word_has_the_characters_of_the_grammar_and_no_others() -> None:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~()<>:\\\"/[]?{}")

    assert {character for character in map(chr, range(0x250)) if re.fullmatch(WORD, character)} == allowed


@pytest.mark.parametrize(
    "text", ['""', '" "', r'"\""', r'"\\"', '"\t"', '"\\\0"', '"\\\x7f"', '"Грубая правда"', '"\udcff"', '";,<>@"']
)
def test_quoted_strings(text: str) -> None:
    assert re.fullmatch(QUOTED_STRING, text)


@pytest.mark.parametrize("text", ['"', '"a', r'"\"', '"""', '"a"b"', '"\0"', '"\x7f"', '"\\\r"', '"\\\n"', '"\\é"'])
def test_no_quoted_strings(text: str) -> None:
    assert not re.fullmatch(QUOTED_STRING, text)


@pytest.mark.parametrize(
    "host",
    [
        "a", "example.com", "example.com.", "EXAMPLE.com", "a-b.c-d", "a--b.c", "1.example", "3com.example", "x1",
        "1.2.3.4.example.com", "0.0.0.0", "255.255.255.255", "192.000.002.001", "[::]", "[2001:db8::1]",
        "[::ffff:192.0.2.1]",
    ],
)  # fmt: skip
def test_hosts(host: str) -> None:
    assert re.fullmatch(HOST, host)


@pytest.mark.parametrize(
    "host",
    [
        "", ".", "a..b", ".a", "a.-b", "a-.b", "-a", "a-", "a_b", "example.1", "1", "1.2.3", "1.2.3.4.", "1.2.3.4.5",
        "1.2.3.256", "1.2.3.1000", "a b", "a.b..", "2001:db8::1", "[", "[]", "[g::]", "[fe80::1%eth0]", "é.com",
        "a\n", "example\u212a",
    ],
)  # fmt: skip
def test_no_hosts(host: str) -> None:
    assert not re.fullmatch(HOST, host)


@pytest.mark.parametrize(
    ("host", "same"),
    [
        ("Example.COM.", "example.com"),
        ("192.000.002.001", "192.0.2.1"),
        ("[2001:DB8:0:0::9:01]", "[2001:db8::9:1]"),
        ("[::FFFF:129.144.52.38]", "[::ffff:129.144.52.38]"),
        ("[::ffff:8190:3426]", "[::ffff:129.144.52.38]"),
        ("[2001:db8:::192.0.2.1]", "[2001:db8::c000:201]"),
        ("host1", "host1"),
    ],
)
def test_equal_hosts_have_one_form(host: str, same: str) -> None:
    assert re.fullmatch(HOST, host)
    assert normalise_host(host) == same
    assert normalise_host(same) == same


@pytest.mark.parametrize("host", ["[1::2::3]", "[:::]", "[1:2:3:4:5:6:7:8:9]", "[12345::]", "[.]"])
def test_brackets_without_an_address_are_refused(host: str) -> None:
    with pytest.raises(ParseError):
        normalise_host(host)


@given(st.integers(min_value=0, max_value=10**30), st.integers(min_value=0, max_value=30))
def test_an_integer_is_read_up_to_its_bound_and_leading_zeros_do_not_count(value: int, zeros: int) -> None:
    assert bounded_int("0" * zeros + str(value), 10) == (value if value < 10**10 else None)


@pytest.mark.parametrize("text", ["", " ", "+1", "-1", "1_0", "1 ", "0x1", *NOT_ASCII])
def test_what_python_takes_for_a_number_and_sip_does_not(text: str) -> None:
    with pytest.raises(ParseError):
        bounded_int(text, 10)


def test_digits_without_end_are_never_converted() -> None:
    assert bounded_int("9" * 65_000, 10) is None
    assert growth(lambda size: bounded_int("9" * size, 10)) < 32


@pytest.mark.parametrize(("digits", "port"), [("1", 1), ("5060", 5060), ("65535", 65535), ("0005060", 5060)])
def test_ports(digits: str, port: int) -> None:
    assert parse_port(digits) == port


@pytest.mark.parametrize("digits", ["0", "000", "65536", "99999999999999999999"])
def test_no_ports(digits: str) -> None:
    with pytest.raises(ParseError):
        parse_port(digits)


@pytest.mark.parametrize(
    ("pattern", "start", "piece"),
    [
        (HOST, "", "a."),
        (HOST, "", "a-"),
        (HOST, "", "-"),
        (HOST, "", "1"),
        (HOST, "", "1."),
        (HOST, "[", ":"),
        (TOKEN, "", "%"),
        (QUOTED_STRING, '"', "\\a"),
        (QUOTED_STRING, '"', "a\\"),
    ],
)
def test_patterns_take_linear_time(pattern: str, start: str, piece: str) -> None:
    compiled = re.compile(pattern)

    assert growth(lambda size: compiled.fullmatch(start + piece * (size // len(piece)) + "\0")) < 32


# -- Shapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "whole"),
    [(SHAPE_HOST, HOST), (SHAPE_USER, USER), (SHAPE_URI_PARAMETERS, URI_PARAMETERS)],
    ids=["host", "user", "uri-parameters"],
)
@given(text=joined(["a", "Z", "0", "1", "25", "256", "3c", ".", "-", ";", "=", "%41", "[::1]", "1.2.3.4", "@"]))
def test_a_shape_takes_only_what_the_grammar_has(shape: str, whole: str, text: str) -> None:
    assert not re.fullmatch(shape, text) or re.fullmatch(whole, text)


def test_the_shape_of_a_port_takes_only_ports() -> None:
    taken = [number for number in range(100_000) if re.fullmatch(SHAPE_PORT, str(number))]

    assert taken == list(range(1, 65_536))
    assert not any(re.fullmatch(SHAPE_PORT, text) for text in ("", "01", "0", "0x1", *NOT_ASCII))


def test_the_shape_of_an_address_takes_each_octet_and_nothing_above() -> None:
    for place in ("{}.0.2.1", "192.0.2.{}"):
        taken = [number for number in range(1_100) if re.fullmatch(SHAPE_HOST, place.format(number))]
        assert taken == list(range(256))


def test_usual_numbers_and_methods_are_what_they_are_taken_for() -> None:
    for text, number in USUAL_NUMBERS.items():
        # With a zero in front it is not one of them.
        assert bounded_int(text, 5) == bounded_int(f"0{text}", 5) == number
        assert bounded_int(text, len(text) - 1) is None or number == 0
    assert all(is_token(method) for method in METHODS)
