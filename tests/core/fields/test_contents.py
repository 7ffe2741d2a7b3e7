"""Headers that say what a body is."""

import pytest

from msilo_core.errors import ParseError
from msilo_core.fields import MediaType, check_media_type, parse_media_type


@pytest.mark.parametrize(
    ("text", "media_type"),
    [
        ("text/plain", MediaType("text", "plain")),
        ("Text/PLAIN ; Charset=UTF-8", MediaType("text", "plain", "utf-8")),
        (
            ' message / cpim;a="x;charset=no";charset="ISO-8859-1";charset=x ',
            MediaType("message", "cpim", "iso-8859-1"),
        ),
        ("application/im-iscomposing+xml", MediaType("application", "im-iscomposing+xml")),
        ("multipart/mixed;boundary=7a9cbec02ceef655", MediaType("multipart", "mixed")),
    ],
)
def test_media_type(text: str, media_type: MediaType) -> None:
    assert parse_media_type(text) == media_type
    check_media_type(text)


@pytest.mark.parametrize(
    "text",
    ["", "text", "text/", "/plain", "text/plain;", "text/plain;charset", "text/plain;charset=", "text/plain x", "a/b/c",
     "text/plain, text/html", 'text/plain;a="', "text/plain\r\n", "té/xt"],
)  # fmt: skip
def test_what_is_no_media_type(text: str) -> None:
    with pytest.raises(ParseError):
        check_media_type(text)
