"""The timers of non-INVITE transactions, and the statuses that stand for what is no response."""

from enum import IntEnum
from typing import Final

__all__ = ["TIMED_OUT", "TRANSPORT_FAILED", "Timer"]

# RFC 3261 section 8.1.3.1: a time-out "MUST be treated as if a 408 (Request Timeout) status code has been received",
# a fatal transport error as a 503.
TIMED_OUT: Final = 408
TRANSPORT_FAILED: Final = 503


class Timer(IntEnum):
    """Timers of RFC 3261 table 4 that a non-INVITE transaction has, and one of RFC 4320."""

    E = 0
    """Non-INVITE request retransmit interval, UDP only: T1, doubling up to T2."""
    F = 1
    """Non-INVITE transaction timeout: 64*T1."""
    J = 2
    """Wait time for retransmissions of a non-INVITE request: 64*T1 on UDP, 0 on streams."""
    K = 3
    """Wait time for response retransmissions: T4 on UDP, 0 on streams."""
    TRYING = 4
    """RFC 4320 section 4.1: when a 100 is due, the time that Timer E takes to reach T2. It has no letter."""
