"""What the final status of an attempt means for a stored message (RFC 3428 section 7, RFC 3261 section 8.1.3)."""

from typing import Final

from msilo_core.actions import Outcome
from msilo_core.clock import Moment
from msilo_core.config import DeliveryConfig
from msilo_core.entropy import Entropy
from msilo_core.errors import PeerError
from msilo_core.message import Response

__all__ = ["ATTEMPTS_MAX", "FLOW_FAILED", "RETRY_AFTER_MAX_S", "Backoff", "hopeful_first", "outcome_of"]

FLOW_FAILED: Final = 430
"""An edge proxy has lost the connection to the phone (RFC 5626 section 5.3): the binding leads nowhere any more."""

ATTEMPTS_MAX: Final = 16
"""Attempts after which a phone that answers 5xx, other than 503 and 504, each time is believed to mean the message: it
must not hold up those behind it for ever. With the default pauses the last is some two hours after the first."""

RETRY_AFTER_MAX_S: Final = 3_600
"""No phone can have a message put off for longer; it registers anew by then."""


def outcome_of(status: int, reached: int, attempts: int = 0) -> Outcome:
    """Say what the final status of an attempt means for a stored message.

    Args:
        status: 200 to 699.
        reached: earlier attempts that a phone may have taken it by.
        attempts: all earlier attempts.
    """
    if status < 300:
        return Outcome.DELIVERED
    if status == 482 and reached:
        # A phone merges requests of the same Call-ID, CSeq and From tag: it has the message, and its answer was lost.
        return Outcome.DELIVERED
    if status >= 600 or status in _FOR_GOOD:
        return Outcome.REFUSED
    if status >= 500 and status not in _OVERLOADED and attempts + 1 >= ATTEMPTS_MAX:
        return Outcome.REFUSED
    return Outcome.FAILED


def hopeful_first(status: int, reached: int) -> int:
    """Rank failures of a stored message at several contacts: it is refused for good only if all refuse it so.

    Or if one says so for all: a 6xx is about the user (RFC 3261 section 21.6). A contact that has it comes before that.

    Args:
        status: 300 to 699.
        reached: as for :func:`outcome_of`.
    """
    outcome = outcome_of(status, reached)
    if outcome is Outcome.DELIVERED:
        return -1
    if status >= 600:
        return 0
    return 2 if outcome is Outcome.REFUSED else 1


class Backoff:
    """When to try again what failed: each time after twice the pause, somewhat more or less.

    Args:
        config: the shortest pause and the longest.
        entropy: for the somewhat, so that what failed together does not come back together.
    """

    def __init__(self, config: DeliveryConfig, entropy: Entropy) -> None:
        self._min_ms = 1000 * config.retry_min_s
        self._max_ms = 1000 * config.retry_max_s
        self._entropy = entropy

    def next_time_s(self, attempts: int, response: Response | None, now: Moment) -> int:
        """Return when to try again, in Unix s, not before a phone's Retry-After (RFC 3261 section 20.33).

        Args:
            attempts: earlier attempts.
            response: what the last was answered, or None.
            now: the present.
        """
        pause_ms = min(self._min_ms << min(attempts, 32), self._max_ms)
        pause_ms = pause_ms * 3 // 4 + self._entropy.below(pause_ms // 2 + 1)
        asked_ms = 0
        if response is not None:
            try:
                retry_after = response.retry_after
            except PeerError:
                retry_after = None
            if retry_after is not None:
                asked_ms = 1000 * min(retry_after.delay_s, RETRY_AFTER_MAX_S)
        return (now.unix_ms + max(pause_ms, asked_ms) + 999) // 1000


# Statuses that say something about the message, or about the contact, that another try will not change.
# Not of the message, but of who is on its way.
_OVERLOADED: Final = frozenset({503, 504})
_FOR_GOOD: Final = frozenset(
    {400, 402, 403, 404, 405, 406, 410, 413, 414, 415, 416, 420, 421, 423, 428, 436, 437, 438, 439, 440, 470, 481, 482,
     483, 484, 485, 488, 489, 493, 494, 501, 505, 513}
)  # fmt: skip
