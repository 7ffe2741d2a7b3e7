"""Headers that hold a number or an instant."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import (
    DELTA_SECONDS_MAX,
    CSeq,
    format_date,
    parse_content_length,
    parse_cseq,
    parse_date,
    parse_delta_seconds,
    parse_max_forwards,
)


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
@pytest.mark.parametrize("parse", [parse_max_forwards, parse_content_length, parse_delta_seconds])
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
