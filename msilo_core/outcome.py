"""What the final status of an attempt means for a stored message (RFC 3428 section 7, RFC 3261 section 8.1.3)."""

from typing import Final

from msilo_core.actions import Outcome

__all__ = ["hopeful_first", "outcome_of"]


def outcome_of(status: int, attempts: int) -> Outcome:
    """Say what the final status of an attempt means for a stored message.

    Args:
        status: 200 to 699.
        attempts: earlier attempts.
    """
    if status < 300:
        return Outcome.DELIVERED
    if status == 482 and attempts:
        # A phone merges requests of the same Call-ID, CSeq and From tag: it has the message, and its answer was lost.
        return Outcome.DELIVERED
    if status >= 600 or status in _FOR_GOOD:
        return Outcome.REFUSED
    return Outcome.FAILED


def hopeful_first(status: int) -> int:
    """Rank failures of a stored message at several contacts: it is refused for good only if all refuse it so.

    Or if one says so for all: a 6xx is about the user (RFC 3261 section 21.6).
    """
    if status >= 600:
        return 0
    return 2 if outcome_of(status, 0) is Outcome.REFUSED else 1


# Statuses that say something about the message, or about the contact, that another try will not change.
_FOR_GOOD: Final = frozenset(
    {400, 402, 403, 404, 405, 406, 410, 413, 414, 415, 416, 420, 421, 423, 428, 436, 437, 438, 439, 440, 470, 481, 482,
     483, 484, 485, 488, 489, 493, 494, 501, 505, 513}
)  # fmt: skip
