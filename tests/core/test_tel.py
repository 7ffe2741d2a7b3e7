"""tel URIs (RFC 3966)."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError, PeerError, UriTooLong
from msilo_core.limits import Limits
from msilo_core.tel import TelUri, parse_tel_uri
from msilo_core.uri import check_uri, parse_any_uri
from tests.core.uris import tel_uris
from tests.core.wire import growth


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        # Section 6.
        ("tel:+1-201-555-0123", TelUri("+1-201-555-0123")),
        ("tel:7042;phone-context=example.com", TelUri("7042", ";phone-context=example.com")),
        ("tel:863-1234;phone-context=+1-914-555", TelUri("863-1234", ";phone-context=+1-914-555")),
        ("TEL:+(1).2-;EXT=-3.;Phone-Context=a", TelUri("+(1).2-", ";EXT=-3.;Phone-Context=a")),
        ("tel:*31#aF;phone-context=+49", TelUri("*31#aF", ";phone-context=+49")),
        (
            "tel:+1;isub=a/b?c:d@e&f=g+h$i,%3B[j];x;y=z%41[]/:&+$",
            TelUri("+1", ";isub=a/b?c:d@e&f=g+h$i,%3B[j];x;y=z%41[]/:&+$"),
        ),
        ("tel:1;phone-context=a-b.1c.example.", TelUri("1", ";phone-context=a-b.1c.example.")),
    ],
)
def test_tel_uris(text: str, uri: TelUri) -> None:
    assert parse_tel_uri(text) == uri
    assert parse_any_uri(text) == uri
    check_uri(text)


def test_what_a_tel_uri_says() -> None:
    uri = parse_tel_uri("tel:(863)-12.3A;Isub=x%41;phone-context=+1-914;a;B=c")

    assert (uri.is_global, uri.digits, uri.isub, uri.ext, uri.phone_context) == (
        False,
        "863123a",
        "x%41",
        None,
        "+1-914",
    )
    assert [uri.param(name) for name in ("A", "b", "c", "PHONE-CONTEXT")] == ["", "c", None, "+1-914"]
    uri = parse_tel_uri("tel:+1-201;ext=4-5")
    assert (uri.is_global, uri.digits, uri.isub, uri.ext, uri.phone_context) == (True, "+1201", None, "4-5", None)


@pytest.mark.parametrize(
    "text",
    [
        "", "tel", "tel:", "+1201", "tel:+", "tel:-", "tel:+-", "tel:()", "tel:++1", "tel:1+1", "tel:+1a", "tel:+*1",
        "tel:+1 2", "tel: +1", "tel:+1;", "tel:+1;;x", "tel:+1;=x", "tel:+1;x=", "tel:+1;x==y", "tel:+1;x_y",
        "tel:+1;x=a?b", "tel:+1;x=a,b", "tel:+1;x=%4", "tel:+1;x=é", "tel:+%31", "tel:+1?x=y", "tel:+1@example.com",
        "tel:bob", "tel:٣", "tel:+1\n", "sip:+1@example.com",
        # A local number is none without its context.
        "tel:112", "tel:7042;ext=1", "tel:#",
        "tel:1;phone-context", "tel:1;phone-context=", "tel:1;phone-context=1", "tel:1;phone-context=+",
        "tel:1;phone-context=192.0.2.1", "tel:1;phone-context=[::1]", "tel:1;phone-context=a..b",
        "tel:1;phone-context=a_b",
        "tel:+1;ext", "tel:+1;ext=", "tel:+1;ext=a", "tel:+1;ext=-", "tel:+1;ext=+1", "tel:+1;isub", "tel:+1;isub=",
        # "MUST NOT appear more than once", and "they cannot appear both at the same time".
        "tel:+1;x;X", "tel:+1;ext=1;ext=1", "tel:1;phone-context=a;phone-context=a", "tel:+1;ext=1;isub=1",
    ],
)  # fmt: skip
def test_what_is_no_tel_uri(text: str) -> None:
    with pytest.raises(ParseError):
        parse_tel_uri(text)


def test_the_length_of_a_tel_uri_is_bounded() -> None:
    limits = Limits(uri_bytes_max=10)

    assert parse_any_uri("tel:+12345", limits) == TelUri("+12345")
    with pytest.raises(UriTooLong) as caught:
        parse_any_uri("tel:+123456", limits)
    assert caught.value.size == 11


@given(tel_uris())
def test_what_the_grammar_allows_is_taken_apart_and_put_together_again(uri: TelUri) -> None:
    assert parse_tel_uri(str(uri)) == uri
    check_uri(str(uri))


@given(st.text(max_size=30) | st.text("tel:+1-#a;=.%4[ext", max_size=30).map("tel:+1".__add__))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(PeerError):
        assert str(parse_tel_uri(text))[4:] == text[4:]


# -- Section 4 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("tel:+1-201-555-0123", "tel:+1(201)5550123"),
        ("tel:+1", "TEL:+1"),
        ("tel:7042;phone-context=example.com", "tel:70.42;phone-context=EXAMPLE.com."),
        ("tel:863-1234;phone-context=+1-914-555", "tel:8631234;Phone-Context=+1914555"),
        ("tel:aB*#;phone-context=+1", "tel:Ab*#;phone-context=+1"),
        ("tel:+1;ext=4-5;b;a=X", "tel:+1;A=x;ext=45;B"),
        ("tel:+1;isub=a%42%3b", "tel:+1;ISUB=%41b%3B"),
        ("tel:+1;x=%5B", "tel:+1;x=["),
    ],
)
def test_equivalent(left: str, right: str) -> None:
    assert parse_tel_uri(left).equivalent(parse_tel_uri(right))
    assert parse_tel_uri(right).equivalent(parse_tel_uri(left))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("tel:+1", "tel:1;phone-context=+1"),
        ("tel:+12", "tel:+13"),
        ("tel:+1", "tel:+1;x"),
        ("tel:+1;ext=1", "tel:+1"),
        ("tel:+1;ext=1", "tel:+1;ext=2"),
        ("tel:+1;ext=1", "tel:+1;isub=1"),
        ("tel:+1;x", "tel:+1;x=1"),
        ("tel:1;phone-context=a.example", "tel:1;phone-context=b.example"),
        ("tel:1;phone-context=+1", "tel:1;phone-context=+11"),
        ("tel:+1;x=a-b", "tel:+1;x=ab"),
        ("tel:+1;isub=%2F", "tel:+1;isub=/"),
    ],
)
def test_not_equivalent(left: str, right: str) -> None:
    assert not parse_tel_uri(left).equivalent(parse_tel_uri(right))
    assert not parse_tel_uri(right).equivalent(parse_tel_uri(left))


def test_the_canonical_form_has_the_order_of_section_3() -> None:
    uri = parse_tel_uri("tel:(7)0-42;z;B=%41;phone-context=Example.COM.;ext=1-2;a=%2f")

    assert str(uri.canonical()) == "tel:7042;ext=12;phone-context=example.com;a=%2f;b=a;z"


@given(tel_uris(), st.data())
def test_all_ways_to_write_a_number_have_one_canonical_form(uri: TelUri, data: st.DataObject) -> None:
    params = data.draw(st.permutations(uri.params.split(";")[1:]))
    number = "".join(data.draw(st.sampled_from([c, c + "-", "(" + c + ")"])) for c in uri.digits.removeprefix("+"))
    other = TelUri(("+" if uri.is_global else "") + number.upper(), "".join(f";{param.swapcase()}" for param in params))
    canonical = uri.canonical()

    assert other.equivalent(uri)
    assert uri.equivalent(other)
    assert other.canonical() == canonical
    assert canonical.canonical() == canonical
    assert parse_tel_uri(str(canonical)) == canonical


# -- Worst cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1", "-", "#", "(1)", ";a", ";a=b", ";a;b", "%41", ".a", "a.", ";ext=1", ";isub=a"])
@pytest.mark.parametrize("start", ["tel:", "tel:+1", "tel:1;phone-context=a", "tel:+1;isub=", "tel:+1;x="])
def test_hostile_uris_take_linear_time(start: str, text: str) -> None:
    limits = Limits(uri_bytes_max=1_000_000)

    def refuse(size: int) -> None:
        with contextlib.suppress(PeerError):
            parse_any_uri(start + text * (size // len(text)) + "\0", limits)

    assert growth(refuse) < 32


def test_comparing_uris_with_many_parameters_takes_linear_time() -> None:
    def compare(size: int) -> None:
        numbers = range(size // 8)
        left = TelUri("+1", "".join(f";p{number}=1" for number in numbers))
        right = TelUri("+1", "".join(f";p{number}=1" for number in reversed(numbers)))
        assert left.equivalent(right)

    assert growth(compare) < 32
