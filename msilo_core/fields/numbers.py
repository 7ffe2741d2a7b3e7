"""Headers that hold a number or an instant (RFC 3261 section 20)."""

import re
from datetime import date
from functools import lru_cache
from typing import Final

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.parameters import WithParams, checked_params
from msilo_core.fields.products import Comment, read_comment
from msilo_core.grammar import DIGITS, LWS, METHODS, SWS, TOKEN, USUAL_NUMBERS, bounded_int

__all__ = [
    "DELTA_SECONDS_MAX",
    "INT31_DIGITS",
    "INT31_END",
    "CSeq",
    "RetryAfter",
    "format_date",
    "parse_content_length",
    "parse_cseq",
    "parse_date",
    "parse_delta_seconds",
    "parse_max_breadth",
    "parse_max_forwards",
    "parse_mime_version",
    "parse_retry_after",
]

DELTA_SECONDS_MAX: Final = 2**32 - 1
"""RFC 3261 section 20.19: an Expires is "between 0 and (2**32)-1"."""


class CSeq(msgspec.Struct, frozen=True, gc=False):
    """CSeq (RFC 3261 section 20.16): `number` is 0 to 2**31 - 1."""

    number: int
    method: str

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return f"{self.number} {self.method}"


class RetryAfter(WithParams, msgspec.Struct, frozen=True, gc=False):
    """Retry-After (RFC 3261 section 20.33).

    Attributes:
        delay_s: when to try again, in seconds from now, 0 to 2**32 - 1.
        comment: what it is due to, or None.
        params: as received.
    """

    delay_s: int
    comment: Comment | None = None
    params: str = ""

    @property
    def duration_s(self) -> int | None:
        """For how long it is then worth trying, in seconds, 0 to 2**32 - 1; None for all the time from then on."""
        duration = self.param("duration")
        return None if duration is None else parse_delta_seconds(duration)

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        comment = "" if self.comment is None else f" {self.comment}"
        return f"{self.delay_s}{comment}{self.params}"


def parse_cseq(text: str) -> CSeq:
    """Parse a CSeq.

    Raises:
        ParseError: also for a number that is not "less than 2**31" (RFC 3261 section 8.1.1.5).
    """
    digits, _, method = text.partition(" ")
    if method in METHODS and len(digits) < INT31_DIGITS and digits.isdigit() and digits.isascii():
        return CSeq(int(digits), method)
    return _parse_cseq(text)


def parse_max_forwards(text: str) -> int:
    """Parse a Max-Forwards, 0 to 255 (RFC 3261 section 20.22)."""
    hops = USUAL_NUMBERS.get(text)
    if hops is None:
        hops = bounded_int(text.strip(" \t"), _MAX_FORWARDS_DIGITS)
    if hops is None or hops > _MAX_FORWARDS_MAX:
        raise ParseError("a Max-Forwards from 0 to 255", text)
    return hops


def parse_max_breadth(text: str) -> int:
    """Parse a Max-Breadth, 1 to 2**31 - 1 (RFC 5393 section 5.3.1: "a single positive integer").

    A greater number counts as the greatest: no proxy forks to so many.
    """
    breadth = bounded_int(text.strip(" \t"), INT31_DIGITS)
    if breadth == 0:
        raise ParseError("a Max-Breadth of at least 1", text)
    return INT31_END - 1 if breadth is None else min(breadth, INT31_END - 1)


def parse_content_length(text: str) -> int:
    """Parse a Content-Length in octets, below 10**10."""
    length = USUAL_NUMBERS.get(text)
    if length is None:
        length = bounded_int(text.strip(" \t"), _DIGITS_MAX)
    if length is None:
        raise ParseError("a Content-Length of at most 10 digits", text)
    return length


def parse_delta_seconds(text: str) -> int:
    """Parse ``delta-seconds``; a number above 2**32 - 1 counts as that."""
    seconds = USUAL_NUMBERS.get(text)
    if seconds is None:
        seconds = bounded_int(text.strip(" \t"), _DIGITS_MAX)
    return DELTA_SECONDS_MAX if seconds is None else min(seconds, DELTA_SECONDS_MAX)


def parse_retry_after(text: str) -> RetryAfter:
    """Parse a Retry-After."""
    text = text.strip(" \t")
    match = _DELAY.match(text)
    if match is None:
        raise ParseError("a number of seconds", text)
    comment, end = read_comment(text, match.end()) if text.startswith("(", match.end()) else (None, match.end(1))
    value = RetryAfter(parse_delta_seconds(match[1]), comment, checked_params(text, end))
    _ = value.duration_s
    return value


def parse_mime_version(text: str) -> tuple[int, int]:
    """Parse a MIME-Version (RFC 3261 section 20.24) to its two numbers, each of at most 10 digits."""
    match = _MIME_VERSION.fullmatch(text.strip(" \t"))
    if match is None:
        raise ParseError("a version such as '1.0'", text)
    major, minor = bounded_int(match[1], _DIGITS_MAX), bounded_int(match[2], _DIGITS_MAX)
    if major is None or minor is None:
        raise ParseError("a version of at most 10 digits each", text)
    return major, minor


def parse_date(text: str) -> int:
    """Parse a Date (RFC 3261 section 20.17: RFC 1123 form, GMT, case-sensitive) to seconds since 1970.

    The name of the day is not compared with the date.
    """
    match = _DATE.fullmatch(text.strip(" \t"))
    if match is None:
        raise ParseError("a date such as 'Sat, 13 Nov 2010 23:29:00 GMT'", text)
    day, month, year, hour, minute, second = match.groups()
    try:
        days = date(int(year), _MONTHS.index(month) + 1, int(day)).toordinal() - _EPOCH_DAYS
    except ValueError:
        raise ParseError("a day of the calendar", text) from None
    return days * _DAY_S + int(hour) * 3600 + int(minute) * 60 + int(second)


@lru_cache(maxsize=64)  # nearly always the present second, or one of the last
def format_date(unix_s: int) -> str:
    """Return the value of a Date header for an instant in seconds since 1970; years 1 to 9999."""
    days, second = divmod(unix_s, _DAY_S)
    day = date.fromordinal(_EPOCH_DAYS + days)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return (
        f"{_WEEKDAYS[day.weekday()]}, {day.day:02} {_MONTHS[day.month - 1]} {day.year:04}"
        f" {hour:02}:{minute:02}:{second:02} GMT"
    )


# CSeq           =  "CSeq" HCOLON 1*DIGIT LWS Method
_CSEQ: Final = re.compile(rf"{SWS}({DIGITS}){LWS}({TOKEN}){SWS}")
INT31_DIGITS: Final = 10
INT31_END: Final = 2**31

_MAX_FORWARDS_DIGITS: Final = 3
_MAX_FORWARDS_MAX: Final = 255
# Enough for 2**32 - 1; more digits are an attack on int() or on a counter.
_DIGITS_MAX: Final = 10

# Retry-After  =  "Retry-After" HCOLON delta-seconds [ comment ] *( SEMI retry-param )
_DELAY: Final = re.compile(rf"({DIGITS}){SWS}")

# MIME-Version  =  "MIME-Version" HCOLON 1*DIGIT "." 1*DIGIT
_MIME_VERSION: Final = re.compile(rf"({DIGITS})\.({DIGITS})")

# rfc1123-date   =  wkday "," SP date1 SP time SP "GMT"
# date1          =  2DIGIT SP month SP 4DIGIT
# time           =  2DIGIT ":" 2DIGIT ":" 2DIGIT        ; 00:00:00 - 23:59:59
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE: Final = re.compile(
    rf"(?:{'|'.join(_WEEKDAYS)}), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}})"
    r" ([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]) GMT"
)
_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()
_DAY_S: Final = 86_400


def _parse_cseq(text: str) -> CSeq:
    match = _CSEQ.fullmatch(text)
    if match is None:
        raise ParseError("a number and a method", text)
    number = bounded_int(match[1], INT31_DIGITS)
    if number is None or number >= INT31_END:
        raise ParseError("a CSeq number below 2**31", text)
    return CSeq(number, match[2])
