"""What a server gives a client to hash: nonces that it knows again, and the uses that they have had."""

import binascii
import hashlib
import heapq
import hmac
import re
from enum import Enum
from typing import Final

from msilo_core.clock import Moment
from msilo_core.entropy import Entropy
from msilo_core.errors import LocalError
from msilo_core.head import encode_head
from msilo_core.limits import Limits

__all__ = ["NonceState", "Nonces"]


class NonceState(Enum):
    """What a nonce is worth."""

    FRESH = "of ours, and to be used"
    STALE = "of ours, and too old, from the future, or used up"
    FOREIGN = "not of ours: made up, for another realm, or under another secret"


class Nonces:
    """Nonces that need no memory until they are used.

    A nonce says when it was issued and carries a MAC over that, something unique, and its realm. Of those that were
    used, the highest ``nc`` is remembered and which of the 63 below it came: devices send requests side by side, and
    UDP turns them round. A request without ``nc`` uses its nonce up.

    Only `nonces_max` are remembered. Where one is forgotten before its time, and at the latest when that is over,
    everything issued no later than it is stale from then on, also what was never used: a *floor* that only rises. So
    whatever happens a used nonce is refused for good, and under load nonces merely live shorter. What was issued
    before this object was made lies below the floor, for nobody knows what was used of it.

    Time is that of the wall clock at the start and runs by the monotonic one. A clock that is set back would bring
    used nonces back to life, or keep new ones below the floor.

    Each process should have a secret of its own, a new one at each start. Then it refuses another's nonces as foreign;
    the device, whose response is right all the same, is told ``stale`` and comes back with one of its own. Where
    processes share a secret, a request can be replayed once to each of them.
    """

    __slots__ = ("_entropy", "_floor_ms", "_lifetime_ms", "_nonces_max", "_offset_ms", "_oldest", "_secret", "_used")

    def __init__(
        self, secret: bytes, *, lifetime_s: int, entropy: Entropy, now: Moment, limits: Limits | None = None
    ) -> None:
        """Begin without memory.

        Args:
            secret: 16 to 32 octets, known to nobody.
            lifetime_s: how long a nonce may be used, 1 or more.
            entropy: makes each nonce unique.
            now: the present.
            limits: how many nonces are remembered.

        Raises:
            LocalError: the secret or the lifetime is out of range.
        """
        if not _SECRET_BYTES_MIN <= len(secret) <= _SECRET_BYTES_MAX:
            raise LocalError(f"a secret of {len(secret)} octets: give {_SECRET_BYTES_MIN} to {_SECRET_BYTES_MAX}")
        if lifetime_s < 1:
            raise LocalError(f"lifetime_s = {lifetime_s} is out of range: give 1 or more")
        self._secret = secret
        self._lifetime_ms = lifetime_s * 1000
        self._entropy = entropy
        self._nonces_max = (limits if limits is not None else Limits()).nonces_max
        self._offset_ms = now.unix_ms - now.mono_ms
        self._floor_ms = now.unix_ms
        # For each used nonce: the highest nc, and bit i for whether nc - i was used.
        self._used: dict[str, tuple[int, int]] = {}
        # A heap of the same nonces by time of issue.
        self._oldest: list[tuple[int, str]] = []

    def __len__(self) -> int:
        """Return how many nonces are remembered."""
        return len(self._used)

    def issue(self, realm: str, now: Moment) -> str:
        """Return a new nonce for a realm: 40 characters of Base64."""
        issued_ms = max(self._time_ms(now), self._floor_ms + 1)
        stem = issued_ms.to_bytes(_TIME_BYTES, "big") + self._entropy.octets(_UNIQUE_BYTES)
        return binascii.b2a_base64(stem + self._mac(stem, realm), newline=False).decode("ascii")

    def judge(self, nonce: str, realm: str, now: Moment) -> NonceState:
        """Say what a nonce is worth by its own word; whether it was used is for :meth:`spend` to say."""
        return self._judged(nonce, realm, now)[0]

    def spend(self, nonce: str, realm: str, count: int | None, now: Moment) -> NonceState:
        """Use a nonce, for one request whose response was found to be right.

        Args:
            nonce: as received.
            realm: what it must have been issued for.
            count: the ``nc`` that the response covers, or None.
            now: the present.

        Returns:
            FRESH if this is its first use with this `count`; STALE also where nobody can tell any more.
        """
        state, issued_ms = self._judged(nonce, realm, now)
        if state is not NonceState.FRESH:
            return state
        used = self._used.get(nonce)
        if used is None:
            self._used[nonce] = _USED_UP if count is None else (count, 1)
            heapq.heappush(self._oldest, (issued_ms, nonce))
            self._forget(self._time_ms(now) - self._lifetime_ms)
            return NonceState.FRESH
        advanced = None if count is None else _advanced(used, count)
        if advanced is None:
            return NonceState.STALE
        self._used[nonce] = advanced
        return NonceState.FRESH

    def _judged(self, nonce: str, realm: str, now: Moment) -> tuple[NonceState, int]:
        if _NONCE.fullmatch(nonce) is None:
            return NonceState.FOREIGN, 0
        raw = binascii.a2b_base64(nonce)
        stem = raw[: _TIME_BYTES + _UNIQUE_BYTES]
        if not hmac.compare_digest(raw[len(stem) :], self._mac(stem, realm)):
            return NonceState.FOREIGN, 0
        issued_ms = int.from_bytes(stem[:_TIME_BYTES], "big")
        age_ms = self._time_ms(now) - issued_ms
        if issued_ms > self._floor_ms and -_SKEW_MS <= age_ms <= self._lifetime_ms:
            return NonceState.FRESH, issued_ms
        return NonceState.STALE, issued_ms

    def _forget(self, expired_ms: int) -> None:
        oldest = self._oldest
        while oldest and (
            len(oldest) > self._nonces_max or oldest[0][0] <= self._floor_ms or oldest[0][0] < expired_ms
        ):
            issued_ms, nonce = heapq.heappop(oldest)
            del self._used[nonce]
            self._floor_ms = max(self._floor_ms, issued_ms)

    def _time_ms(self, now: Moment) -> int:
        return now.mono_ms + self._offset_ms

    def _mac(self, stem: bytes, realm: str) -> bytes:
        return hashlib.blake2s(
            stem + encode_head(realm), digest_size=_MAC_BYTES, key=self._secret, person=b"nonce"
        ).digest()


# A nonce: milliseconds since 1970 (enough until the year 10889), what makes it unique, and the MAC. 30 octets are 40
# characters of Base64 without padding or spare bits, so that no two texts are one nonce.
_TIME_BYTES: Final = 6
_UNIQUE_BYTES: Final = 8
_MAC_BYTES: Final = 16
_NONCE: Final = re.compile(r"[A-Za-z0-9+/]{40}")

_SECRET_BYTES_MIN: Final = 16
_SECRET_BYTES_MAX: Final = hashlib.blake2s.MAX_KEY_SIZE

# How far the clocks of those that share a secret may be apart.
_SKEW_MS: Final = 5_000

# More requests than a device has under way at once, so none that was merely overtaken falls out of it.
_WINDOW: Final = 64
_WINDOW_MASK: Final = (1 << _WINDOW) - 1

# Above every nc by more than the window.
_USED_UP: Final = (2**33, 0)


def _advanced(used: tuple[int, int], count: int) -> tuple[int, int] | None:
    """Return what is used of a nonce after `count`; None if that was used before, or is too old to tell."""
    highest, seen = used
    ahead = count - highest
    if ahead > 0:
        return count, (seen << min(ahead, _WINDOW) | 1) & _WINDOW_MASK
    if -ahead >= _WINDOW or seen >> -ahead & 1:
        return None
    return highest, seen | 1 << -ahead
