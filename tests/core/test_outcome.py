"""What a phone's answer means for a stored message, and when it is tried again: as docs/delivery.md says."""

import random
import re
from pathlib import Path

import pytest

from msilo_core import Moment
from msilo_core.actions import Outcome
from msilo_core.config import DeliveryConfig
from msilo_core.entropy import Entropy
from msilo_core.message import Response, parse_message
from msilo_core.outcome import ATTEMPTS_MAX, RETRY_AFTER_MAX_S, Backoff, hopeful_first, outcome_of

NOW = Moment(0, 1_800_000_000_000)
DOCUMENTED = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text()


def test_every_status_is_as_the_page_has_it() -> None:
    """The page is read, not its meaning written here once more: a status that changes there or in the code is seen."""
    (for_good,) = re.findall(r"^\| ([0-9, ]+) \| Refused for good: another try", DOCUMENTED, re.MULTILINE)
    refused = {int(number) for number in for_good.split(",")} | set(range(600, 700))
    for status in range(200, 700):
        expected = Outcome.DELIVERED if status < 300 else Outcome.REFUSED if status in refused else Outcome.FAILED
        assert outcome_of(status, reached=0) is expected, status


def test_482_after_an_attempt_that_may_have_arrived_is_a_delivery() -> None:
    assert outcome_of(482, reached=0, attempts=3) is Outcome.REFUSED
    assert outcome_of(482, reached=1, attempts=3) is Outcome.DELIVERED


@pytest.mark.parametrize("status", [500, 502, 580, 599])
def test_error_of_a_phone_is_believed_in_the_end(status: int) -> None:
    assert f"Tried again, {ATTEMPTS_MAX} times in all; then refused for good" in DOCUMENTED
    assert outcome_of(status, 1, ATTEMPTS_MAX - 2) is Outcome.FAILED
    assert outcome_of(status, 1, ATTEMPTS_MAX - 1) is Outcome.REFUSED


@pytest.mark.parametrize("status", [301, 401, 408, 430, 480, 486, 503, 504])
def test_others_are_tried_as_long_as_the_message_lives(status: int) -> None:
    assert outcome_of(status, 100, 100) is Outcome.FAILED


def test_hope_ranks_before_refusal_and_a_word_for_all_before_both() -> None:
    ranks = [hopeful_first(status, reached=0) for status in (603, 480, 500, 415, 482)]
    assert ranks == [0, 1, 1, 2, 2]


def test_contact_that_has_it_ranks_before_all_that_others_say() -> None:
    assert hopeful_first(482, reached=1) < hopeful_first(603, reached=1)


def pauses(attempts: int, response: Response | None = None, config: DeliveryConfig | None = None) -> set[int]:
    """Return the pauses that there may be, in s."""
    backoff = Backoff(config if config is not None else DeliveryConfig(), Entropy(random.Random(3)))
    return {backoff.next_time_s(attempts, response, NOW) - NOW.unix_s for _ in range(500)}


def test_each_pause_is_twice_the_last_within_a_quarter() -> None:
    for attempts, low, high in ((0, 8, 13), (1, 15, 25), (2, 30, 50), (3, 60, 100), (4, 75, 125), (1_000_000, 75, 125)):
        drawn = pauses(attempts, config=DeliveryConfig(retry_min_s=10, retry_max_s=100))
        assert low <= min(drawn) <= low + 2
        assert high - 2 <= max(drawn) <= high


def failure(retry_after: str) -> Response:
    response = parse_message(
        b"SIP/2.0 503 Busy\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n"
        b"Call-ID: 1\r\nCSeq: 1 MESSAGE\r\nRetry-After: " + retry_after.encode() + b"\r\nContent-Length: 0\r\n\r\n"
    )
    assert isinstance(response, Response)
    return response


def test_retry_after_is_waited_for() -> None:
    assert pauses(0, failure("120 (in a meeting)")) == {120}
    assert min(pauses(0, failure("0"))) >= 3
    assert pauses(0, failure("4294967295")) == {RETRY_AFTER_MAX_S}


def test_one_that_cannot_be_read_is_none() -> None:
    assert max(pauses(0, failure("soon"))) <= 7
