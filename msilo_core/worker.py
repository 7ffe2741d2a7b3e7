"""Engines that share their sockets: whose a response is, and whose connection.

Of processes that share a port the system chooses one for each datagram, by the address that it comes from; so the
response to a request of one may come to another. The branch of the request says whose it is.
"""

import re
from typing import Final

import msgspec

from msilo_core.entropy import MAGIC_COOKIE
from msilo_core.errors import LocalError

__all__ = ["WORKERS_MAX", "Worker"]

WORKERS_MAX: Final = 999
"""Three digits: more than any machine has processors."""

# No branch of a lone engine is of this form: behind the cookie it has hexadecimal digits.
_MARK: Final = re.compile(rf"{MAGIC_COOKIE}(0|[1-9][0-9]{{0,2}})-")


class Worker(msgspec.Struct, frozen=True, gc=False):
    """One of the engines that share their sockets; by default there is no other.

    Attributes:
        number: which, from 0 on.
        count: how many there are, 1 to 999.
    """

    number: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count <= WORKERS_MAX:
            raise LocalError(
                f"worker {self.number} of {self.count} is out of range: give 1 to {WORKERS_MAX} of them, and a number "
                "below that"
            )

    @property
    def mark(self) -> str:
        """What branches of this engine have behind the magic cookie; empty where there is no other."""
        return f"{self.number}-" if self.count > 1 else ""

    def other(self, branch: str) -> int | None:
        """Return which other engine may have sent a request with this branch; None if none has.

        A peer chooses what it sends: what is returned is a number of one that there is.
        """
        found = _MARK.match(branch) if self.count > 1 else None
        if found is None:
            return None
        number = int(found[1])
        return number if number < self.count and number != self.number else None
