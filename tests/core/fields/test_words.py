"""Headers that hold words."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import LocalError, ParseError
from msilo_core.fields import (
    EventPackage,
    WarningValue,
    parse_call_id,
    parse_event,
    parse_in_reply_to,
    parse_languages,
    parse_priority,
    parse_text,
    parse_tokens,
    parse_warnings,
)
from tests.core.fields.strategies import params, texts, tokens
from tests.core.uris import hosts

_ODD_CALL_ID = "ZK-!.*_+'@word`~)(><:\\/\"][?}{"


@pytest.mark.parametrize("text", ["a", "a@b", "a84b4c76e66710@pc33.example.com", _ODD_CALL_ID])
def test_call_id(text: str) -> None:
    assert parse_call_id(f" {text} ") == text


@pytest.mark.parametrize("text", ["", "@", "a@", "@a", "a@b@c", "a b", "a,b", "a;b", "a=b", "é", "a\0"])
def test_what_is_no_call_id(text: str) -> None:
    with pytest.raises(ParseError):
        parse_call_id(text)


def test_in_reply_to() -> None:
    # RFC 3261 section 20.21; and quotes and "<" that hide no comma.
    assert parse_in_reply_to(["70710@saturn.bell-tel.com, 17320@saturn.bell-tel.com"]) == (
        "70710@saturn.bell-tel.com",
        "17320@saturn.bell-tel.com",
    )
    assert parse_in_reply_to([f' "a , <b ,,{_ODD_CALL_ID}', "", 'c"']) == ('"a', "<b", _ODD_CALL_ID, 'c"')
    for text in ("a b", "a@", "a, b@c@d", "a;b"):
        with pytest.raises(ParseError):
            parse_in_reply_to([text])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ()),
        (["", " , "], ()),
        (["INVITE, ACK,OPTIONS ,, CANCEL", "message"], ("INVITE", "ACK", "OPTIONS", "CANCEL", "message")),
        (["100rel"], ("100rel",)),
        (["x-!%*_+`'~."], ("x-!%*_+`'~.",)),
    ],
)
def test_tokens(values: list[str], words: tuple[str, ...]) -> None:
    assert parse_tokens(values) == words
    assert parse_tokens([", ".join(words)]) == words


@pytest.mark.parametrize("text", ["a b", "a;b", "a=b", '"a"', "<a>", "a/b", "(a)", "é", "\u212a", "a\0"])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(ParseError):
        parse_tokens(["a", text])
    with pytest.raises(ParseError):
        parse_priority(text)


@pytest.mark.parametrize(
    ("text", "priority"), [("emergency", "emergency"), (" Non-Urgent\t", "non-urgent"), ("X", "x")]
)
def test_priority(text: str, priority: str) -> None:
    assert parse_priority(text) == priority


def test_a_priority_is_one_token() -> None:
    for text in ("", "urgent, normal"):
        with pytest.raises(ParseError):
            parse_priority(text)


def test_the_languages_of_a_body() -> None:
    assert parse_languages([]) == ()
    assert parse_languages(["fr", "en-GB,,zh-Hans-CN ,de-1996"]) == ("fr", "en-gb", "zh-hans-cn", "de-1996")
    for text in ("*", "e_n", "en-", "-en", "abcdefghi", "en;q=1", "1", "\u212a", "en gb"):
        with pytest.raises(ParseError):
            parse_languages([text])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        (" \t", ""),
        ("  Need more boxes ", "Need more boxes"),
        ('a,  "b\t<c>;(d\\', 'a,  "b\t<c>;(d\\'),
        ("Żółw \U0001f422 \udcff", "Żółw \U0001f422 \udcff"),
    ],
)
def test_text(text: str, said: str) -> None:
    assert parse_text(text) == said
    assert parse_text(said) == said


@pytest.mark.parametrize("text", ["\0", "a\\\0", "a\x7f", "a\x1bb", "\r\n", "a\n"])
def test_what_is_no_text(text: str) -> None:
    with pytest.raises(ParseError):
        parse_text(text)


# -- Event -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "event", "package", "identifier"),
    [
        ("presence", EventPackage("presence"), "presence", None),
        (" presence.winfo\t", EventPackage("presence.winfo"), "presence", None),
        ("a.b.c;x;ID=1;y=z", EventPackage("a.b.c", ";x;ID=1;y=z"), "a", "1"),
        # RFC 6665 section 8.2.1.
        ("foo; param=abcd; id=1234", EventPackage("foo", "; param=abcd; id=1234"), "foo", "1234"),
        ("Foo; id=1234", EventPackage("Foo", "; id=1234"), "Foo", "1234"),
    ],
)
def test_event(text: str, event: EventPackage, package: str, identifier: str | None) -> None:
    assert parse_event(text) == event
    assert (event.package, event.id) == (package, identifier)


@pytest.mark.parametrize(
    "text",
    ["", ".", ".winfo", "presence.", "presence..winfo", "presence winfo", "presence, reg", "presence;", "presence;id",
     "presence;id=", 'presence;id="1"', "presence;id=1;id=1", "presence;id=1;ID=2", "presence/x", "é", '"presence"'],
)  # fmt: skip
def test_what_is_no_event(text: str) -> None:
    with pytest.raises(ParseError):
        parse_event(text)


_packages = st.lists(st.from_regex(r"[A-Za-z0-9\-!%*_+`'~]{1,5}", fullmatch=True), min_size=1, max_size=3)


@given(st.builds(EventPackage, _packages.map(".".join), params(("id", tokens))))
def test_an_event_is_written_as_it_is_read(event: EventPackage) -> None:
    assert parse_event(str(event)) == event


# -- Warning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "warnings"),
    [
        ([], ()),
        # RFC 3261 section 20.43.
        (
            ["307 isi.edu \"Session parameter 'foo' not understood\"",
             "301 isi.edu \"Incompatible network address type 'E.164'\""],
            (WarningValue(307, "isi.edu", "Session parameter 'foo' not understood"),
             WarningValue(301, "isi.edu", "Incompatible network address type 'E.164'")),
        ),
        (
            ['399 [2001:db8::1]:5060 "a, \\"b\\"" ,, 370 devnull  "" , 007 192.0.2.1:5061 "x"'],
            (WarningValue(399, "[2001:db8::1]:5060", 'a, "b"'), WarningValue(370, "devnull", ""),
             WarningValue(7, "192.0.2.1:5061", "x")),
        ),
        (['399 a_b%c\t"\\\0\udcffé"'], (WarningValue(399, "a_b%c", "\0\udcffé"),)),
        # No IPv4 address, and a pseudonym all the same.
        (['399 300.1.1.1 "x"'], (WarningValue(399, "300.1.1.1", "x"),)),
    ],
)  # fmt: skip
def test_warnings(values: list[str], warnings: tuple[WarningValue, ...]) -> None:
    assert parse_warnings(values) == warnings


@pytest.mark.parametrize(
    "text",
    ["399", "399 a", '"x"', '399 "x"', '39 a "x"', '3999 a "x"', '399a "x"', '399 a"x"', "399 a x", '399 a "x" y',
     '399 a:0 "x"', '399 a:65536 "x"', '399 a_b:5060 "x"', '399 [1::2::3] "x"', '399 a:[::1] "x"', '٣99 a "x"',
     '399 a "x', '399 a "\0"', '399 é "x"', '399 a b "x"'],
)  # fmt: skip
def test_what_is_no_warning(text: str) -> None:
    with pytest.raises(ParseError):
        parse_warnings(['399 a "x"', text])


_agents = tokens | hosts | st.builds("{}:{}".format, hosts, st.integers(1, 65535))


@given(st.lists(st.builds(WarningValue, st.integers(0, 999), _agents, texts), max_size=3))
def test_warnings_are_written_as_they_are_read(warnings: list[WarningValue]) -> None:
    assert parse_warnings([str(warning) for warning in warnings]) == tuple(warnings)
    assert parse_warnings([",".join(map(str, warnings))]) == tuple(warnings)


def test_no_warning_says_a_line_break() -> None:
    with pytest.raises(LocalError):
        str(WarningValue(399, "a", "b\r\nc"))


_lists: list[Callable[[Sequence[str]], object]] = [parse_tokens, parse_in_reply_to, parse_languages, parse_warnings]


@pytest.mark.parametrize("parse", _lists)
def test_empty_elements_of_a_list_are_passed_over(parse: Callable[[Sequence[str]], object]) -> None:
    assert parse(["", ",", " , \t,"]) == ()
