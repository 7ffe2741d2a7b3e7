"""message/cpim: headers by namespace, escapes, the headers of the content; and whatever else may come as one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core import HeadTooLong, Limits, ParseError, PeerError, TooManyHeaders
from msilo_core.cpim import CPIM_HEADERS, formal_address, parse_cpim, unescape_cpim
from msilo_core.imdn import is_imdn, read_im
from tests.core.wire import growth

CONTENT = "Content-Type: text/plain\r\n\r\nhello"


def cpim(head: str, content: str = CONTENT) -> bytes:
    return f"{head}\r\n\r\n{content}".encode("utf-8", "surrogateescape")


def headers(head: str) -> list[tuple[str, str, str]]:
    return list(parse_cpim(cpim(head)).headers)


# -- Headers -----------------------------------------------------------------------------------------------------------


def test_headers_of_the_default_namespace_in_their_order() -> None:
    parsed = parse_cpim(cpim("From: A <im:a@b>\r\nSubject: one\r\nSubject:;lang=fr deux"))
    assert parsed.headers == (
        (CPIM_HEADERS, "From", "A <im:a@b>"),
        (CPIM_HEADERS, "Subject", "one"),
        (CPIM_HEADERS, "Subject", "deux"),
    )
    assert parsed.values("Subject") == ["one", "deux"]
    assert parsed.values("subject") == []
    assert parsed.values("Subject", "urn:x") == []


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X: a", "a"),
        ("X:", ""),
        ("X: ", ""),
        ("X:a", "a"),
        ("X:   a  b  ", "a  b"),
        ('X:;a=1;b="c; \\"d"; e', "; e"),
        ("X:;a= b", "b"),
        ('X:;a="b', '"b'),
        ("X:;a", ";a"),
        ("X: tête-à-tête", "tête-à-tête"),
        ("!#$%&'*+-^_`|~09azAZ: a", "a"),
    ],
)
def test_header_line(line: str, value: str) -> None:
    ((_, _, found),) = headers(line)
    assert found == value


@pytest.mark.parametrize(
    "line", ["", "X", "X y: a", ": a", "a.b.c: d", ".a: b", "a.: b", "X(: a", "é: a", "X: \x00", "X: a\tb", " X: a",
             "X: a\r", "X: \x7f", "From: a\r\n folded"],
)  # fmt: skip
def test_what_is_no_header(line: str) -> None:
    with pytest.raises(ParseError):
        parse_cpim(cpim(f"From: <im:a@b>\r\n{line}\r\nTo: <im:a@b>"))


def test_prefix_is_what_the_message_says_it_is() -> None:
    assert headers("NS: a <urn:x>\r\na.Name: 1\r\nNS: b<urn:x>\r\nb.Name: 2\r\nNS: a <urn:y>\r\na.Name: 3") == [
        ("urn:x", "Name", "1"),
        ("urn:x", "Name", "2"),
        ("urn:y", "Name", "3"),
    ]


def test_prefix_that_is_declared_later_or_never_is_not_recognised() -> None:
    assert headers("a.Name: 1\r\nNS: a <urn:x>\r\nb.Name: 2\r\nA.Name: 3\r\na.Name: 4") == [("urn:x", "Name", "4")]


def test_default_namespace_may_be_another() -> None:
    assert headers("Name: 1\r\nNS: <urn:x>\r\nName: 2\r\nNS: <urn:ietf:params:cpim-headers:>\r\nName: 3") == [
        (CPIM_HEADERS, "Name", "1"),
        ("urn:x", "Name", "2"),
        (CPIM_HEADERS, "Name", "3"),
    ]


@pytest.mark.parametrize("value", ["", "a", "a urn:x", "a <>", "<urn:x", "a b <urn:x>", "a <urn:x> b", "a <u x>"])
def test_namespace_that_is_none(value: str) -> None:
    with pytest.raises(ParseError):
        headers(f"NS: {value}")


# -- Addresses and escapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["<im:a@b>", "A <im:a@b>", "A B  <im:a@b>", '"A <im:c@d>" <im:a@b>', '"A \\" B" <im:a@b>', '"A"<im:a@b>'],
)
def test_address(value: str) -> None:
    assert formal_address(value) == "im:a@b"


@pytest.mark.parametrize(
    "value", ["", "im:a@b", "<>", "<im:a@b", "im:a@b>", "<im:a@b> x", '"A <im:a@b>', "<im:a b>", "<a><b>", '<a"b>']
)
def test_address_that_is_none(value: str) -> None:
    with pytest.raises(ParseError):
        formal_address(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (r"\\ \" \'", "\\ \" '"),
        (r"\b\t\n\r", "\b\t\n\r"),
        (r"\u0041\u00e9\u20AC", "Aé€"),
        (r"\ud83d\ude00", "\N{GRINNING FACE}"),
        (r"\ud83d!\ude00", "\N{REPLACEMENT CHARACTER}!\N{REPLACEMENT CHARACTER}"),
        (r"\x \u12 \u", "x u12 u"),
        ("end\\", "end"),
        ("\\\N{GRINNING FACE}", "\N{GRINNING FACE}"),
    ],
)
def test_escapes(value: str, text: str) -> None:
    assert unescape_cpim(value) == text


@given(st.text())
def test_any_text_is_unescaped_to_text(value: str) -> None:
    unescape_cpim(value.encode("utf-8", "replace").decode()).encode()


# -- The content -------------------------------------------------------------------------------------------------------


def test_headers_of_the_content() -> None:
    content = (
        "Content-type: multipart/mixed;\r\n\t  boundary=x\r\ncontent-disposition : notification \r\n"
        "Content-Type: text/html\r\nX:\r\n\r\n\r\n--x"
    )
    assert parse_cpim(cpim("From: <im:a@b>", content)).content_headers == {
        "content-type": "multipart/mixed; boundary=x",
        "content-disposition": "notification",
        "x": "",
    }


@pytest.mark.parametrize(
    "content",
    ["", "hello", "Content-Type: text/plain", "\r\nhello\r\n\r\n", "X: y\r\n\r\n", " Content-Type: text/plain\r\n\r\n",
     "Content-Type: text/plain\r\nhello\r\n\r\n", "Content-Type: \x00\r\n\r\n", "Content-Type: \udcff\r\n\r\n"],
)  # fmt: skip
def test_content_that_does_not_say_what_it_is(content: str) -> None:
    with pytest.raises(ParseError):
        parse_cpim(cpim("From: <im:a@b>", content))


def test_lines_may_end_in_lf() -> None:
    data = cpim("From: <im:a@b>\r\nNS: a <urn:x>\r\na.Name: 1")
    assert parse_cpim(data.replace(b"\r\n", b"\n")) == parse_cpim(data)


# -- Limits, and anything ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"From: <im:a@b>", cpim("From: \udcff"), cpim("")])
def test_what_is_no_cpim(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_cpim(data)


def test_head_of_the_greatest_length_and_one_longer() -> None:
    limits = Limits(head_bytes_max=100)
    longest = "X: " + "y" * 97
    assert headers(longest) == list(parse_cpim(cpim(longest), limits).headers)
    with pytest.raises(HeadTooLong):
        parse_cpim(cpim(longest + "y"), limits)
    content = CONTENT.partition("\r\n")[0] + "\r\nX: "
    content += "y" * (100 - len(content)) + "{}\r\n\r\nhello"
    assert parse_cpim(cpim(longest, content.format("")), limits)
    with pytest.raises(HeadTooLong):
        parse_cpim(cpim(longest, content.format("y")), limits)


def test_number_of_headers_and_one_more() -> None:
    limits = Limits(headers_max=2)
    assert parse_cpim(cpim("X: 1\r\nX: 2", f"X: 1\r\n{CONTENT}"), limits)
    with pytest.raises(TooManyHeaders):
        parse_cpim(cpim("X: 1\r\nX: 2\r\nX: 3"), limits)
    with pytest.raises(TooManyHeaders):
        parse_cpim(cpim("X: 1", f"X: 1\r\nX: 2\r\n{CONTENT}"), limits)


@given(st.binary())
def test_any_octets(data: bytes) -> None:
    for octets in (
        data,
        b"From: <im:a@b>\r\n\r\n" + data,
        cpim("NS: i <urn:ietf:params:imdn>\r\ni.Disposition-") + data,
    ):
        try:
            parse_cpim(octets)
        except PeerError:
            assert not is_imdn("message/cpim", octets)
            assert read_im("message/cpim", octets) is None


_PIECES = ["X: y\r\n", "\r\n", "\r", "\n", "a.", ";a=", ';a="', '";a="', "\\", '\\"', "<", " ", "NS: a <b>\r\n", ","]
_STARTS = [
    "", "X:", 'X:;a="', "NS: ", "From: <im:a@b>\r\n\r\n", f"From: <im:a@b>\r\n\r\n{CONTENT[:-9]}",
    "NS: i <urn:ietf:params:imdn>\r\ni.Message-ID: 1\r\ni.Disposition-Notification: ",
]  # fmt: skip


@pytest.mark.parametrize("end", ["", f"\r\n\r\n{CONTENT}"])
@pytest.mark.parametrize("start", _STARTS)
def test_hostile_bodies_take_linear_time(start: str, end: str) -> None:
    limits = Limits(head_bytes_max=1_000_000, headers_max=1_000_000)
    assert growth(_each(lambda text: parse_cpim(text.encode(), limits), start, end)) < 32


def test_hostile_values_take_linear_time() -> None:
    assert growth(_each(unescape_cpim, "", "")) < 32
    assert growth(_each(formal_address, '"', "")) < 32


def _each(work: Callable[[str], object], start: str, end: str) -> Callable[[int], None]:
    def work_each(size: int) -> None:
        for piece in _PIECES:
            try:
                work(start + piece * (size // len(piece)) + end)
            except PeerError:
                continue

    return work_each
