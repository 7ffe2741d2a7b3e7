"""Headers that say what a body is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import (
    Disposition,
    MediaType,
    check_media_type,
    parse_codings,
    parse_disposition,
    parse_media_type,
)
from tests.core.fields.strategies import params, tokens


@pytest.mark.parametrize(
    ("text", "media_type", "charset"),
    [
        ("text/plain", MediaType("text", "plain"), ""),
        ("Text/PLAIN ; Charset=UTF-8", MediaType("text", "plain", "; Charset=UTF-8"), "utf-8"),
        (
            ' message / cpim;a="x;charset=no";charset="ISO-8859-1";charset=x ',
            MediaType("message", "cpim", ';a="x;charset=no";charset="ISO-8859-1";charset=x'),
            "iso-8859-1",
        ),
        ("application/im-iscomposing+xml", MediaType("application", "im-iscomposing+xml"), ""),
        (
            'multipart/mixed;boundary="a b\\"";x=y',
            MediaType("multipart", "mixed", ';boundary="a b\\"";x=y'),
            "",
        ),
    ],
)
def test_media_type(text: str, media_type: MediaType, charset: str) -> None:
    assert parse_media_type(text) == media_type
    assert media_type.charset == charset
    check_media_type(text)


def test_the_parameters_of_a_media_type() -> None:
    media_type = parse_media_type('multipart/mixed;Boundary="a b\\"";x=y')

    assert (media_type.param("boundary"), media_type.param("X"), media_type.param("z")) == ('a b"', "y", None)


@pytest.mark.parametrize(
    "text",
    ["", "text", "text/", "/plain", "text/plain;", "text/plain;charset", "text/plain;charset=", "text/plain x", "a/b/c",
     "text/plain, text/html", 'text/plain;a="', "text/plain\r\n", "té/xt"],
)  # fmt: skip
def test_what_is_no_media_type(text: str) -> None:
    with pytest.raises(ParseError):
        check_media_type(text)


@pytest.mark.parametrize(
    ("text", "disposition", "handling"),
    [
        ("session", Disposition("session"), "required"),
        # RFC 3261 section 7.3.1.
        ("session;handling=optional", Disposition("session", ";handling=optional"), "optional"),
        ("Session;HANDLING=OPTIONAL", Disposition("session", ";HANDLING=OPTIONAL"), "optional"),
        (' attachment ; filename="a;handling=x" ', Disposition("attachment", '; filename="a;handling=x"'), "required"),
        ("render;handling=other", Disposition("render", ";handling=other"), "other"),
    ],
)
def test_disposition(text: str, disposition: Disposition, handling: str) -> None:
    assert parse_disposition(text) == disposition
    assert disposition.handling == handling


@pytest.mark.parametrize(
    "text",
    ["", ";", ";handling=optional", "session;", "session;handling", "session;handling=", 'session;handling="a b"',
     "session render", "session, render", '"session"', "é"],
)  # fmt: skip
def test_what_is_no_disposition(text: str) -> None:
    with pytest.raises(ParseError):
        parse_disposition(text)


def test_the_codings_of_a_body() -> None:
    assert parse_codings([]) == ()
    assert parse_codings(["GZip, tar", "", " x "]) == ("gzip", "tar", "x")
    for text in ("gzip tar", "gzip;q=1", "a/b", '"gzip"'):
        with pytest.raises(ParseError):
            parse_codings([text])


_words = tokens.map(str.lower)


@given(st.builds(MediaType, _words, _words, params(values_needed=True)))
def test_a_media_type_is_written_as_it_is_read(media_type: MediaType) -> None:
    assert parse_media_type(str(media_type)) == media_type


@given(st.builds(Disposition, _words, params(("handling", tokens))))
def test_a_disposition_is_written_as_it_is_read(disposition: Disposition) -> None:
    assert parse_disposition(str(disposition)) == disposition
