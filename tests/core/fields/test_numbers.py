"""Headers that hold a number or an instant."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import (
    DELTA_SECONDS_MAX,
    Comment,
    CSeq,
    RetryAfter,
    format_date,
    parse_content_length,
    parse_cseq,
    parse_date,
    parse_delta_seconds,
    parse_max_breadth,
    parse_max_forwards,
    parse_mime_version,
    parse_retry_after,
)
from msilo_core.fields import numbers as module
from tests.core.fields.strategies import params, texts, tokens
from tests.core.shapes import joined, outcome


@pytest.mark.parametrize(
    ("text", "cseq"),
    [
        ("1 MESSAGE", CSeq(1, "MESSAGE")),
        (" 0009  \t INVITE ", CSeq(9, "INVITE")),
        ("0 RE%47IST%45R", CSeq(0, "RE%47IST%45R")),
        ("2147483647 x", CSeq(2**31 - 1, "x")),
        ("0" * 99 + "2147483647 x", CSeq(2**31 - 1, "x")),
    ],
)
def test_cseq(text: str, cseq: CSeq) -> None:
    assert parse_cseq(text) == cseq


@pytest.mark.parametrize(
    "text",
    ["", "1", "MESSAGE", "1MESSAGE", "-1 M", "+1 M", "1 M N", "1 M;x", "٣ M", "2147483648 M", "36893488147419103232 M"],
)
def test_what_is_no_cseq(text: str) -> None:
    with pytest.raises(ParseError):
        parse_cseq(text)


_PIECES = ["1", "0", "2147483647", "2147483648", " ", "  ", "\t", "MESSAGE", "ACK", "M", "٣", "²", "-", "é", "\0"]


@given(joined(_PIECES) | st.builds("{} {}".format, st.integers(0, 2**32), st.sampled_from(["MESSAGE", "X", " ", ""])))
def test_the_shape_of_a_cseq_agrees_with_the_general_parser(text: str) -> None:
    assert outcome(parse_cseq, text) == outcome(module._parse_cseq, text)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("70", 70), ("0068", 68), ("255", 255), (" 7\t", 7)])
def test_max_forwards(text: str, number: int) -> None:
    assert parse_max_forwards(text) == number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("00553", 553), ("9999999999", 9_999_999_999), (" 7\t", 7)])
def test_content_length(text: str, number: int) -> None:
    assert parse_content_length(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("60", 60), ("4294967295", 2**32 - 1), ("4294967296", 2**32 - 1), ("1" + "0" * 100, DELTA_SECONDS_MAX)],
)
def test_delta_seconds(text: str, number: int) -> None:
    assert parse_delta_seconds(text) == number


@pytest.mark.parametrize("text", ["", "five", "-999", "+1", "1.0", "1 2", "1,2", "1_0", "0x1", "٣", "²"])
@pytest.mark.parametrize("parse", [parse_max_forwards, parse_max_breadth, parse_content_length, parse_delta_seconds])
def test_what_is_no_number(parse: Callable[[str], int], text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


def test_numbers_out_of_range() -> None:
    for text in ("256", "300", "9" * 5_000):
        with pytest.raises(ParseError):
            parse_max_forwards(text)
    for text in ("10000000000", "9" * 5_000):
        with pytest.raises(ParseError):
            parse_content_length(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [(" 1 ", 1), ("060", 60), ("2147483647", 2**31 - 1), ("2147483648", 2**31 - 1), ("9" * 5_000, 2**31 - 1)],
)
def test_max_breadth(text: str, number: int) -> None:
    assert parse_max_breadth(text) == number


def test_a_max_breadth_is_positive() -> None:
    for text in ("0", "000", "0" * 5_000):
        with pytest.raises(ParseError):
            parse_max_breadth(text)


@pytest.mark.parametrize(
    ("text", "version"), [("1.0", (1, 0)), (" 01.10\t", (1, 10)), ("0" * 99 + "1.9999999999", (1, 9_999_999_999))]
)
def test_mime_version(text: str, version: tuple[int, int]) -> None:
    assert parse_mime_version(text) == version


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".0", "1.0.0", "1 .0", "-1.0", "1,0", "٣.0", "1" * 11 + ".0", "1." + "1" * 11, "1.0 (x)"]
)
def test_what_is_no_mime_version(text: str) -> None:
    with pytest.raises(ParseError):
        parse_mime_version(text)


@given(st.integers(0, 2**31 - 1), tokens)
def test_a_cseq_is_written_as_it_is_read(number: int, method: str) -> None:
    assert parse_cseq(str(CSeq(number, method))) == CSeq(number, method)


# -- Retry-After -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "duration_s"),
    [
        # RFC 3261 section 20.33.
        ("18000;duration=3600", RetryAfter(18000, None, ";duration=3600"), 3600),
        ("120 (I'm in a meeting)", RetryAfter(120, Comment("I'm in a meeting")), None),
        (" 007 ", RetryAfter(7), None),
        ("5( a (;duration=1, \\)) ) ; x ; Duration = 9999999999 ",
         RetryAfter(5, Comment("a (;duration=1, ))"), "; x ; Duration = 9999999999"), 2**32 - 1),
        ("4294967296 ()", RetryAfter(2**32 - 1, Comment("")), None),
        ('5;x=";duration=1";duration=2;duration=3', RetryAfter(5, None, ';x=";duration=1";duration=2;duration=3'), 2),
    ],
)  # fmt: skip
def test_retry_after(text: str, value: RetryAfter, duration_s: int | None) -> None:
    assert parse_retry_after(text) == value
    assert value.duration_s == duration_s


@pytest.mark.parametrize(
    "text",
    ["", "-1", "five", "(x)", "(x) 5", "5 (x", "5 x", "5 (x) (y)", "5 (x) y", "5;", "5;duration=", "5;duration",
     "5;duration=-1", "5;duration=x", "5, 6", "5 (\0)", "٣", "5;x=1 (y)"],
)  # fmt: skip
def test_what_is_no_retry_after(text: str) -> None:
    with pytest.raises(ParseError):
        parse_retry_after(text)


@given(
    st.builds(
        RetryAfter,
        st.integers(0, DELTA_SECONDS_MAX),
        st.none() | texts.map(Comment),
        params(("duration", st.integers(0, 10**12).map(str))),
    )
)
def test_a_retry_after_is_written_as_it_is_read(value: RetryAfter) -> None:
    assert parse_retry_after(str(value)) == value


# -- Date --------------------------------------------------------------------------------------------------------------


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59), timezones=st.just(UTC)))
def test_dates_are_written_as_the_calendar_says_and_read_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    unix_s = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution * 1_000_000)

    assert format_date(unix_s) == f"{moment:%a, %d %b} {moment.year:04} {moment:%H:%M:%S} GMT"
    assert parse_date(format_date(unix_s)) == unix_s


def test_the_date_of_rfc_3261_section_20_17() -> None:
    assert parse_date(" Sat, 13 Nov 2010 23:29:00 GMT ") == 1_289_690_940
    assert format_date(1_289_690_940) == "Sat, 13 Nov 2010 23:29:00 GMT"
    assert parse_date("Mon, 13 Nov 2010 23:29:00 GMT") == 1_289_690_940


@pytest.mark.parametrize(
    "text",
    [
        "", "Fri, 01 Jan 2010 16:00:00 EST", "Fri, 01 Jan 2010 16:00:00 UTC", "Fri, 01 Jan 2010 16:00:00 gmt",
        "Fri, 1 Jan 2010 16:00:00 GMT", "Fri, 01 Jan 10 16:00:00 GMT", "Fri, 01  Jan 2010 16:00:00 GMT",
        "01 Jan 2010 16:00:00 GMT", "Fri, 01 jan 2010 16:00:00 GMT", "Fri, 31 Feb 2010 16:00:00 GMT",
        "Fri, 00 Jan 2010 16:00:00 GMT", "Fri, 01 Jan 0000 16:00:00 GMT", "Fri, 01 Jan 2010 24:00:00 GMT",
        "Fri, 01 Jan 2010 16:60:00 GMT", "Fri, 01 Jan 2010 16:00:60 GMT", "Fri, ٠١ Jan 2010 16:00:00 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ParseError):
        parse_date(text)
