"""Accept, Accept-Encoding, Accept-Language."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import (
    CodingRange,
    LanguageRange,
    MediaRange,
    parse_accept,
    parse_accept_encoding,
    parse_accept_language,
)
from tests.core.fields.strategies import params, tokens


@pytest.mark.parametrize(
    ("values", "ranges"),
    [
        ([], ()),
        (["", ","], ()),
        # RFC 3261 section 20.1.
        (
            ["application/sdp;level=1, application/x-private, text/html"],
            (
                MediaRange("application", "sdp", ";level=1"),
                MediaRange("application", "x-private"),
                MediaRange("text", "html"),
            ),
        ),
        (
            ['*/*;q=0.1 ,, Text / * ; Level="1,2" ; Q = 0.5;x', "MESSAGE/cpim"],
            (
                MediaRange("*", "*", ";q=0.1"),
                MediaRange("text", "*", '; Level="1,2" ; Q = 0.5;x'),
                MediaRange("message", "cpim"),
            ),
        ),
    ],
)
def test_media_ranges(values: list[str], ranges: tuple[MediaRange, ...]) -> None:
    assert parse_accept(values) == ranges


def test_codings() -> None:
    assert parse_accept_encoding(["GZip;q=1.0, identity; q=0.5 , *;q=0", "", "tar;a=b"]) == (
        CodingRange("gzip", ";q=1.0"),
        CodingRange("identity", "; q=0.5"),
        CodingRange("*", ";q=0"),
        CodingRange("tar", ";a=b"),
    )


def test_languages() -> None:
    # RFC 3261 section 20.3.
    assert parse_accept_language(["da, en-GB;q=0.8, en;q=0.7", "*;q=0.1, es-419, zh-Hans-CN"]) == (
        LanguageRange("da"),
        LanguageRange("en-gb", ";q=0.8"),
        LanguageRange("en", ";q=0.7"),
        LanguageRange("*", ";q=0.1"),
        LanguageRange("es-419"),
        LanguageRange("zh-hans-cn"),
    )


@pytest.mark.parametrize(
    ("params", "q"),
    [("", 1000), (";q=0", 0), (";q=0.8", 800), (";x=1;Q = 0.05;q=1", 50), (";q=1.000;q=0", 1000), (';x=";q=0"', 1000)],
)
def test_q_is_in_thousandths(params: str, q: int) -> None:
    (media,), (coding,) = parse_accept([f"text/plain{params}"]), parse_accept_encoding([f"gzip{params}"])
    (language,) = parse_accept_language([f"en{params}"])

    assert media.q == coding.q == language.q == q


@pytest.mark.parametrize(
    "text",
    ["text", "text/", "/plain", "*", "a/b/c", "text/plain x", "text/plain;", "text/plain;q", "text/plain;q=2",
     "text/plain;q=0.1234", 'text/plain;q="0.5"', "text/plain;=x", 'text/plain;x="', "té/xt", "text/plain;q=0;q=x"],
)  # fmt: skip
def test_what_is_no_media_range(text: str) -> None:
    with pytest.raises(ParseError):
        parse_accept(["text/html", text])


@pytest.mark.parametrize("text", ["a/b", "gzip;q=", "gzip;q=1.1", "gzip x", ";q=1", '"gzip"', "é"])
def test_what_is_no_coding(text: str) -> None:
    with pytest.raises(ParseError):
        parse_accept_encoding([text])


@pytest.mark.parametrize(
    "text", ["e-", "-en", "en_GB", "english123", "abcdefghi", "en-abcdefghi", "1", "en;q=x", "en*", "**", "é", "\u212a"]
)
def test_what_is_no_language(text: str) -> None:
    with pytest.raises(ParseError):
        parse_accept_language([text])


_qs = st.from_regex(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", fullmatch=True)
_words = tokens.map(str.lower)
_languages = st.from_regex(r"[a-z]{1,8}(-[a-z0-9]{1,8}){0,2}|\*", fullmatch=True)


@pytest.mark.parametrize(
    ("parse", "ranges"),
    [
        (parse_accept, st.builds(MediaRange, _words, _words, params(("q", _qs)))),
        (parse_accept_encoding, st.builds(CodingRange, _words, params(("q", _qs)))),
        (parse_accept_language, st.builds(LanguageRange, _languages, params(("q", _qs)))),
    ],
)
@given(data=st.data())
def test_ranges_are_written_as_they_are_read(
    parse: Callable[[Sequence[str]], object], ranges: st.SearchStrategy[object], data: st.DataObject
) -> None:
    values = data.draw(st.lists(ranges, max_size=3))

    assert parse([str(value) for value in values]) == tuple(values)
    assert parse([" , ".join(map(str, values))]) == tuple(values)
