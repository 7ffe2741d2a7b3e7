"""The timers of non-INVITE transactions, and the statuses that stand for what is no response.

Of RFC 3261 table 4 such a transaction has

* E, until the request is sent again, on UDP only: T1, doubling up to T2;
* F, until there will be no answer: 64*T1;
* J, in which the request may come again: 64*T1 on UDP, 0 on streams;
* K, in which the response may come again: T4 on UDP, 0 on streams;

and of RFC 4320 section 4.1 one without a letter, until a 100 is due: the time that Timer E takes to reach T2.
"""

from typing import Final

__all__ = ["TIMED_OUT", "TRANSPORT_FAILED"]

# RFC 3261 section 8.1.3.1: a time-out "MUST be treated as if a 408 (Request Timeout) status code has been received",
# a fatal transport error as a 503.
TIMED_OUT: Final = 408
TRANSPORT_FAILED: Final = 503
