"""P-Asserted-Identity, P-Preferred-Identity, Privacy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import Identity, parse_identities, parse_privacy
from msilo_core.limits import Limits
from msilo_core.tel import TelUri
from msilo_core.uri import parse_any_uri, parse_uri
from tests.core.fields.strategies import texts
from tests.core.uris import tel_uris, uris


def _identity(uri_text: str, display_name: str = "") -> Identity:
    return Identity(parse_any_uri(uri_text, Limits(uri_bytes_max=10_000)), uri_text, display_name)


@pytest.mark.parametrize(
    ("values", "identities"),
    [
        ([], ()),
        # RFC 3325 section 10.1.
        (['"Cullen Jennings" <sip:fluffy@cisco.com>'], (_identity("sip:fluffy@cisco.com", "Cullen Jennings"),)),
        (["tel:+14085264000"], (_identity("tel:+14085264000"),)),
        (
            ['"Cullen Jennings" <sip:fluffy@cisco.com>', "tel:+14085264000"],
            (_identity("sip:fluffy@cisco.com", "Cullen Jennings"), _identity("tel:+14085264000")),
        ),
        (
            [" <tel:7042;phone-context=example.com> , <sips:a,b@example.com;user=phone?x=y> "],
            (_identity("tel:7042;phone-context=example.com"), _identity("sips:a,b@example.com;user=phone?x=y")),
        ),
        # Without brackets all is the URI: there are no parameters of the header.
        (["tel:7042;phone-context=example.com"], (_identity("tel:7042;phone-context=example.com"),)),
        (["sip:+14085264000@example.com;user=phone"], (_identity("sip:+14085264000@example.com;user=phone"),)),
    ],
)
def test_identities(values: list[str], identities: tuple[Identity, ...]) -> None:
    assert parse_identities(values) == identities


def test_the_uri_of_an_identity_is_of_its_kind() -> None:
    sip, tel = parse_identities(["sip:fluffy@cisco.com, tel:+1-408-526-4000"])

    assert sip.uri == parse_uri("sip:fluffy@cisco.com")
    assert tel.uri == TelUri("+1-408-526-4000")


@pytest.mark.parametrize(
    "text",
    [
        "*", "fluffy", "Cullen", "<>", "<sip:a@b>;x=y", "<sip:a@b> x", "<http://example.com>", "im:a@example.com",
        "<tel:7042>", "tel:x", "sip:a@a..b", '"Cullen <sip:a@b>',
        "sip:a@b, sip:c@d", "sip:a@b, sips:a@b", "tel:+1, tel:+2", "sip:a@b, tel:+1, sip:c@d",
        "sip:a@b, tel:+1, tel:+2",
    ],
)  # fmt: skip
def test_what_is_no_identity(text: str) -> None:
    with pytest.raises(ParseError):
        parse_identities([text])
    with pytest.raises(ParseError):
        parse_identities(text.split(", "))


@given(
    st.builds(_identity, uris.map(str), texts),
    st.builds(_identity, tel_uris().map(str), texts),
    st.permutations([0, 1]),
)
def test_identities_are_written_as_they_are_read(sip: Identity, tel: Identity, order: list[int]) -> None:
    pair = [(sip, tel)[at] for at in order]

    assert parse_identities([str(sip)]) == (sip,)
    assert parse_identities([str(tel)]) == (tel,)
    assert parse_identities([f"{pair[0]},{pair[1]}"]) == tuple(pair)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("none", ("none",)),
        (" ID ", ("id",)),
        ("Header;\tsession ; USER;critical", ("header", "session", "user", "critical")),
        ("id;x-Own;ID", ("id", "x-own")),
    ],
)
def test_privacy(text: str, values: tuple[str, ...]) -> None:
    assert parse_privacy(text) == values
    assert parse_privacy(";".join(values)) == values


@pytest.mark.parametrize(
    "text", ["", ";", "id;", ";id", "id;;user", "id, user", "id user", "id=1", '"id"', "é", "\u212a"]
)
def test_what_is_no_privacy(text: str) -> None:
    with pytest.raises(ParseError):
        parse_privacy(text)
