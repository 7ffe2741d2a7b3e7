"""Feature tags (RFC 3840), Accept-Contact, Reject-Contact, Request-Disposition (RFC 3841)."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import LocalError, ParseError
from msilo_core.fields import (
    STAR,
    ContactPreference,
    FeatureNumber,
    FeatureString,
    FeatureToken,
    FeatureValue,
    parse_contact_preferences,
    parse_contacts,
    parse_features,
    parse_request_disposition,
)
from tests.core.fields.strategies import blanks, params, quoted_strings, texts


def _number(low: str | None, high: str | None, negated: bool = False) -> FeatureNumber:
    return FeatureNumber(None if low is None else Decimal(low), None if high is None else Decimal(high), negated)


def test_the_contact_of_rfc_3840_section_5() -> None:
    contacts = parse_contacts(
        [
            '<sip:user@pc.example.com>;mobility="fixed";events="!presence,message-summary";language="en,de"'
            ';description="<PC>";+sip.newparam;+rangeparam="#-4:+5.125"'
        ]
    )

    assert contacts is not STAR
    (contact,) = contacts
    assert contact.features == {
        "mobility": (FeatureToken("fixed"),),
        "events": (FeatureToken("presence", negated=True), FeatureToken("message-summary")),
        "language": (FeatureToken("en"), FeatureToken("de")),
        "description": (FeatureString("PC"),),
        "+sip.newparam": (FeatureToken("TRUE"),),
        "+rangeparam": (_number("-4", "5.125"),),
    }


@pytest.mark.parametrize(
    ("param", "values"),
    [
        ("audio", (FeatureToken("TRUE"),)),
        ('automata="FALSE"', (FeatureToken("FALSE"),)),
        ('Methods="INVITE, MESSAGE ,ACK"', (FeatureToken("INVITE"), FeatureToken("MESSAGE"), FeatureToken("ACK"))),
        ("mobility=fixed", (FeatureToken("fixed"),)),
        ('duplex="!full"', (FeatureToken("full", negated=True),)),
        ('priority="#>=20"', (_number("20", None),)),
        ('priority="#<=-1.5"', (_number(None, "-1.5"),)),
        ('priority="#=+7."', (_number("7", "7"),)),
        ('priority="!#0:5,#9:9"', (_number("0", "5", negated=True), _number("9", "9"))),
        ('+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"',
         (FeatureString("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),)),
        ('description="<a, \\"b\\" \\<c\\> \\\\>"', (FeatureString('a, "b" <c> \\'),)),
        ('description="<>"', (FeatureString(""),)),
        ('+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"',
         (FeatureToken("urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"),)),
    ],
)  # fmt: skip
def test_features(param: str, values: tuple[FeatureValue, ...]) -> None:
    assert next(iter(parse_features(f";x=y ; {param};audio=no").values())) == values
    assert parse_features("") == {}


@pytest.mark.parametrize(
    "param",
    [
        # Not of the names that RFC 3840 lists.
        "q=0.5", "expires=60", "reg-id=1", "sip.audio", "pub-gruu", "x",
        # Not of the grammar of a feature's value, and so somebody's own.
        'audio=""', 'audio="a b"', 'audio="a,,b"', 'audio="!"', 'audio="!!a"', 'audio="<a"', 'audio="a>"',
        'audio="!<a>"', 'audio="<a>,<b>"', 'audio="<a<b>>"', 'audio="#5"', 'audio="#=x"', 'audio="#1:"', 'audio="#>1"',
        'audio="#=1e5"', 'audio="#=.5"', 'audio="# =5"', 'audio="urn:x"', 'audio="é"', 'audio="\\a"', "audio=[::1]",
        f'audio="#={"9" * 310}"', f'audio="#=0.{"9" * 310}"',
    ],
)  # fmt: skip
def test_what_is_no_feature(param: str) -> None:
    assert parse_features(f";{param}") == {}


def test_of_two_features_with_one_name_the_first_counts() -> None:
    assert parse_features(';audio;Audio="FALSE"') == {"audio": (FeatureToken("TRUE"),)}


def test_the_numbers_of_features_have_as_many_digits_as_a_double() -> None:
    number = f"{'9' * 309}.{'9' * 309}"

    assert parse_features(f';+x="#={number}"') == {"+x": (_number(number, number),)}


@pytest.mark.parametrize("params", [";", "audio", ";;audio", ';audio="', ";audio=", ";é"])
def test_features_of_what_are_no_parameters(params: str) -> None:
    with pytest.raises(ParseError):
        parse_features(params)


_tags = st.from_regex(r"[A-Za-z0-9\-.%*_+`'~]{1,6}", fullmatch=True)
_numbers = st.decimals(-(10**9), 10**9, places=3)
_single: st.SearchStrategy[FeatureValue] = st.one_of(
    st.builds(FeatureToken, _tags, st.booleans()),
    st.builds(FeatureNumber, _numbers, st.none() | _numbers, st.booleans()),
    st.builds(FeatureNumber, st.none(), _numbers, st.booleans()),
    _numbers.map(lambda number: FeatureNumber(number, number)),
)
_features = st.dictionaries(
    st.sampled_from(["audio", "methods", "description"]) | st.from_regex(r"\+[a-z][a-z0-9.!'%\-]{0,5}", fullmatch=True),
    st.lists(_single, min_size=1, max_size=3).map(tuple) | st.tuples(st.builds(FeatureString, texts)),
    max_size=4,
)


@given(_features, blanks, params())
def test_features_are_written_as_they_are_read(
    features: dict[str, tuple[FeatureValue, ...]], blank: str, others: str
) -> None:
    written = "".join(f'{blank};{name}="{",".join(map(str, values))}"' for name, values in features.items())

    assert parse_features(written) == features
    assert parse_features(written + others).items() >= features.items()


@given(quoted_strings)
def test_any_value_of_a_feature_is_understood_or_passed_over(value: str) -> None:
    for values in parse_features(f";audio={value}").values():
        assert parse_features(f';audio="{",".join(map(str, values))}"') == {"audio": values}


def test_no_feature_says_a_line_break() -> None:
    with pytest.raises(LocalError):
        str(FeatureString("a\r\nb"))


# -- Caller preferences ------------------------------------------------------------------------------------------------


def test_the_preferences_of_rfc_3841_section_9_2() -> None:
    first, second, third = parse_contact_preferences(
        ['*;audio;require, *;Video;EXPLICIT , ,* ; methods="BYE" ; class="business" ; q=1.0', ""]
    )

    assert (first.features, first.require, first.explicit) == ({"audio": (FeatureToken("TRUE"),)}, True, False)
    assert (second.features, second.require, second.explicit) == ({"video": (FeatureToken("TRUE"),)}, False, True)
    assert third == ContactPreference('; methods="BYE" ; class="business" ; q=1.0')
    assert third.features == {"methods": (FeatureToken("BYE"),), "class": (FeatureToken("business"),)}
    assert (third.require, third.explicit, third.param("q")) == (False, False, "1.0")
    assert parse_contact_preferences(["*"]) == (ContactPreference(),)
    assert parse_contact_preferences([]) == ()


@pytest.mark.parametrize(
    "text", ["audio", ";audio", "**", "*audio", "*;", "*;;audio", "*;audio=", "<sip:a@b>;audio", "* *"]
)
def test_what_is_no_preference(text: str) -> None:
    with pytest.raises(ParseError):
        parse_contact_preferences(["*", text])


@given(st.lists(st.builds(ContactPreference, params()), max_size=3))
def test_preferences_are_written_as_they_are_read(preferences: list[ContactPreference]) -> None:
    assert parse_contact_preferences([str(preference) for preference in preferences]) == tuple(preferences)
    assert parse_contact_preferences([" , ".join(map(str, preferences))]) == tuple(preferences)


@pytest.mark.parametrize(
    ("values", "directives"),
    [
        ([], ()),
        (["proxy, recurse, parallel"], ("proxy", "recurse", "parallel")),
        (["Redirect", "NO-CANCEL,no-fork"], ("redirect", "no-cancel", "no-fork")),
        (["cancel,fork,no-recurse,sequential,queue"], ("cancel", "fork", "no-recurse", "sequential", "queue")),
    ],
)
def test_request_disposition(values: list[str], directives: tuple[str, ...]) -> None:
    assert parse_request_disposition(values) == directives
    assert parse_request_disposition([", ".join(directives)]) == directives


@pytest.mark.parametrize(
    "text",
    ["x", "proxy;x", "proxy redirect", "proxy, redirect", "queue, no-queue", "fork, fork", '"proxy"', "par allel"],
)
def test_what_is_no_request_disposition(text: str) -> None:
    with pytest.raises(ParseError):
        parse_request_disposition([text])
