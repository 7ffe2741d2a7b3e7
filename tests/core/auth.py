"""A realm, a user of it, and time, for the tests of authentication."""

import random
from collections.abc import Sequence

from msilo_core.clock import Moment
from msilo_core.digest import Algorithm, answer, challenges, ha1
from msilo_core.entropy import Entropy
from msilo_core.fields import Challenge, Credentials, parse_challenge
from msilo_core.limits import Limits
from msilo_core.nonces import Nonces

__all__ = [
    "LIFETIME_S",
    "PASSWORD",
    "REALM",
    "SECRET",
    "URI",
    "USER",
    "at",
    "bobs_ha1",
    "entropy",
    "issuer",
    "offer",
    "signed",
]

REALM = "biloxi.com"
USER = "bob"
PASSWORD = "zanzibar"
URI = "sip:biloxi.com"
SECRET = bytes(range(32))
LIFETIME_S = 300


def at(ms: int) -> Moment:
    """Return the instant so many milliseconds after the start of the test."""
    return Moment(77_000 + ms, 1_790_000_000_000 + ms)


def entropy(seed: int = 1) -> Entropy:
    """Return randomness that is always the same."""
    return Entropy(random.Random(seed))


def issuer(
    secret: bytes = SECRET, *, now: Moment | None = None, nonces_max: int = Limits().nonces_max, seed: int = 1
) -> Nonces:
    """Return a server's nonces, made at the start of the test or at another instant."""
    return Nonces(
        secret,
        lifetime_s=LIFETIME_S,
        entropy=entropy(seed),
        now=at(0) if now is None else now,
        limits=Limits(nonces_max=nonces_max),
    )


def bobs_ha1(algorithm: Algorithm) -> str:
    """Return what the server has stored for the user."""
    return ha1(algorithm, USER, REALM, PASSWORD)


def offer(
    nonce: str, algorithms: Sequence[Algorithm] = (Algorithm.SHA_256,), *, stale: bool = False
) -> tuple[Challenge, ...]:
    """Return the challenges of the realm as the client reads them."""
    return tuple(parse_challenge(value) for value in challenges(REALM, nonce, algorithms, stale=stale))


def signed(nonce: str, nc: int = 1, *, password: str = PASSWORD, method: str = "REGISTER") -> Credentials:
    """Return the user's credentials for a nonce, with SHA-256 and qop=auth."""
    (challenge,) = offer(nonce)
    return answer(challenge, USER, password, method=method, uri=URI, cnonce="0a4f113b", nc=nc)
