"""Branches, tags, Call-IDs and nonces from an injected source of randomness."""

import hashlib
import random

__all__ = ["MAGIC_COOKIE", "Entropy"]

# RFC 3261 section 8.1.1.7: "MUST always begin with the characters 'z9hG4bK'".
MAGIC_COOKIE = "z9hG4bK"


class Entropy:
    """Identifiers for one engine.

    A tag is a salt drawn once and a counter: unique in space and time as RFC 3261 section 19.3 asks, and three times
    cheaper than a draw for each. A branch or a Call-ID is drawn afresh, for nobody must guess it: a response with a
    guessed branch would be taken for the phone's answer.
    """

    def __init__(self, source: random.Random, mark: str = "") -> None:
        """Make identifiers from `source`; each branch has `mark` behind the magic cookie."""
        self._source = source
        self._cookie = MAGIC_COOKIE + mark
        self._salt = f"{source.getrandbits(64):016x}"
        self._count = 0

    def branch(self) -> str:
        """Return a branch parameter; 64 fresh bits, so that nobody off the path can answer for a phone."""
        self._count += 1
        return f"{self._cookie}{self._source.getrandbits(64):016x}{self._count:x}"

    def tag(self) -> str:
        """Return a From or To tag; RFC 3261 section 19.3 asks for at least 32 random bits."""
        self._count += 1
        return f"{self._salt}{self._count:x}"

    def call_id(self) -> str:
        """Return a Call-ID (RFC 3261 section 8.1.1.4)."""
        return f"{self._source.getrandbits(96):024x}"

    def octets(self, size: int) -> bytes:
        """Return so many fresh octets, as for a nonce."""
        return self._source.randbytes(size)

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1."""
        return self._source.randrange(bound)

    def stable_tag(self, key: str) -> str:
        """Return the tag that goes with `key`: always the same, and not to be guessed without the salt."""
        return hashlib.blake2s(
            key.encode("utf-8", "surrogateescape"), key=self._salt.encode(), digest_size=8
        ).hexdigest()
