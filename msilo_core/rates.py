"""How often: token buckets on told time, in whole numbers.

A bucket is one number, as in the generic cell rate algorithm: the instant at which it would be full again, on a scale
of 1/rate ms on which each event costs 1000 and nothing is ever rounded. One that is full again is as good as none.
"""

from typing import Final

from msilo_core.clock import Deadlines, Moment
from msilo_core.entropy import Entropy
from msilo_core.errors import PeerError
from msilo_core.flow import Flow
from msilo_core.identity import asserted_identity
from msilo_core.limits import Limits
from msilo_core.message import Request
from msilo_core.uri import Aor

__all__ = ["RegistrationRate", "SenderRates", "sender_of"]

# Of an event, on the scale of a bucket.
_COST: Final = 1000


class SenderRates:
    """A bucket for each sender, of ``sender_rate`` a second and ``sender_burst`` at once.

    Args:
        limits: these, and ``senders_max``; ``sender_rate`` is not 0.
    """

    def __init__(self, limits: Limits) -> None:
        self._rate = limits.sender_rate
        self._depth = (limits.sender_burst - 1) * _COST
        self._senders_max = limits.senders_max
        self._full_at: Deadlines[str] = Deadlines()

    def wait_ms(self, sender: str, now: Moment) -> int:
        """Take a token of a sender, and return 0; or return in how many milliseconds there is one."""
        at = now.mono_ms * self._rate
        for _ in self._full_at.pop_due(at):
            pass
        full_at = self._full_at.due_ms(sender)
        if full_at is None:
            full_at = at
        short = full_at - at - self._depth
        if short > 0:
            return -(-short // self._rate)
        self._full_at.arm(sender, full_at + _COST)
        if len(self._full_at) > self._senders_max:
            nearest = self._full_at.next_ms()
            assert nearest is not None, "there is one more than there may be"
            next(self._full_at.pop_due(nearest))
        return 0

    def __len__(self) -> int:
        """Return how many senders are remembered."""
        return len(self._full_at)


class RegistrationRate:
    """One bucket for all REGISTERs, of ``registrations_per_s`` and ``registrations_burst``; 0: any number.

    Those that come when it is empty are told when to come back, as if they stood in a line that moves on at the rate: a
    hundred thousand phones that lost a server at the same instant come back one after the other. Chance, an eighth to
    either side, keeps those apart that several servers refused. The line is no longer than ``retry_after_max_s``, and
    behind it any time up to that is as good as another.

    Args:
        limits: these.
        entropy: for the chance.
        now: the present.
    """

    def __init__(self, limits: Limits, entropy: Entropy, now: Moment) -> None:
        self._rate = limits.registrations_per_s
        self._depth = (limits.registrations_burst - 1) * _COST
        self._retry_after_s = limits.retry_after_s
        self._retry_after_max_s = limits.retry_after_max_s
        self._entropy = entropy
        # When the bucket is full again, and the next place in the line.
        self._full_at = self._line_at = now.mono_ms * self._rate

    def is_spent(self, now: Moment) -> bool:
        """Say whether there is no token."""
        return self._full_at - now.mono_ms * self._rate > self._depth

    def take(self, now: Moment) -> None:
        """Take a token, which there is."""
        if self._rate:
            self._full_at = max(self._full_at, now.mono_ms * self._rate) + _COST

    def retry_after_s(self, now: Moment) -> int:
        """Return in how many seconds a REGISTER that there is no token or no room for is to come back, at least 1."""
        if not self._rate:
            return self._retry_after_s + self._entropy.below(self._retry_after_s + 1)
        at = now.mono_ms * self._rate
        place = max(self._line_at, self._full_at - self._depth, at)
        wait_s = -(-(place - at) // (self._rate * _COST)) or 1
        if wait_s > self._retry_after_max_s:
            return 1 + self._entropy.below(self._retry_after_max_s)
        self._line_at = place + _COST
        spread_s = wait_s // 8
        return wait_s - spread_s + self._entropy.below(2 * spread_s + 1)


def sender_of(request: Request, flow: Flow, user: Aor | None) -> str:
    """Return what tells one sender of MESSAGEs from another.

    Args:
        request: the MESSAGE.
        flow: what it came by: from a trusted peer, if `user` is None.
        user: who proved to have sent it.

    Returns:
        The address of record of the user, or that which a trusted peer asserts (RFC 3325). Where neither says, what
        From says at the host that it came from: whoever is believed may write anything there, but for itself alone.
    """
    known = user if user is not None else asserted_identity(request)
    if known is not None:
        return str(known)
    try:
        written = str(request.from_.uri.aor())
    except PeerError:
        written = request.from_.uri_text
    return f"{flow.remote[0]} {written}"
