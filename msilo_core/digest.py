"""Digest authentication (RFC 7616, RFC 8760, RFC 3261 section 22) as functions of what is in the headers.

A server asks with :func:`challenges` and a nonce of its :class:`Nonces`. Of what comes back :func:`select` takes the
value that is for it; the caller looks the user's HA1 up; :func:`admit` says what it is worth. Everything that can be
told from the header alone is told before the look-up, and a nonce is spent only after its response was right, so that
nobody uses up another's.

A client picks with :func:`choose` and computes with :func:`answer`; :class:`msilo_core.keyring.Keyring` does both and
remembers.

What is left out, and nobody is asked to use: the session variants of the algorithms (``MD5-sess``); a hashed user name
towards us (``userhash``, RFC 7616 section 3.4.4: a store would need a column for each algorithm), though as a client
we answer a server that wants one; Authentication-Info. Text is hashed as UTF-8, as it stands.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from typing import Final

from msilo_core.clock import Moment
from msilo_core.errors import LocalError, PeerError
from msilo_core.fields import Challenge, Credentials
from msilo_core.head import encode_head
from msilo_core.nonces import Nonces, NonceState
from msilo_core.uri import parse_uri

__all__ = [
    "SUPPORTED",
    "Algorithm",
    "Verdict",
    "admit",
    "answer",
    "challenges",
    "check",
    "choose",
    "ha1",
    "names_target",
    "request_digest",
    "select",
]

# -- Both ends ---------------------------------------------------------------------------------------------------------


class Algorithm(Enum):
    """A hash function under its name on the wire (RFC 7616 section 6.1)."""

    SHA_256 = "SHA-256"
    """Mandatory to implement."""
    SHA_512_256 = "SHA-512-256"
    """The backup; an OpenSSL may lack it."""
    MD5 = "MD5"
    """For old devices; not recommended (RFC 8760 section 3)."""

    @staticmethod
    def named(text: str) -> "Algorithm | None":
        """Return the algorithm of an ``algorithm`` parameter, in any case; None for one that is not in `SUPPORTED`.

        Empty, as where the parameter is missing, means MD5 (RFC 7616 section 3.3).
        """
        return _NAMED.get(text.lower())

    def digest(self, data: bytes) -> str:
        """Return the hash of `data` in hexadecimal digits, lower case (RFC 8760 section 2.2)."""
        return hashlib.new(_HASHES[self], data, usedforsecurity=False).hexdigest()


def ha1(algorithm: Algorithm, username: str, realm: str, password: str) -> str:
    """Return H(A1) of RFC 7616 section 3.4.2: all that a server needs to store, and as secret as the password."""
    return algorithm.digest(encode_head(f"{username}:{realm}:{password}"))


def request_digest(
    algorithm: Algorithm,
    ha1: str,
    *,
    method: str,
    uri: str,
    nonce: str,
    qop: str = "",
    nc: str = "",
    cnonce: str = "",
    body: bytes = b"",
) -> str:
    """Return the ``response`` of RFC 7616 section 3.4.1.

    Args:
        algorithm: of this response and of `ha1`.
        ha1: what :func:`ha1` returned.
        method: of the request.
        uri: the digest-uri.
        nonce: the server's.
        qop: ``auth``, ``auth-int``, or empty for the computation of RFC 2069, without `nc` and `cnonce`.
        nc: eight hexadecimal digits as they stand in the header.
        cnonce: the client's nonce.
        body: of the request; only ``auth-int`` looks at it.
    """
    a2 = f"{method}:{uri}"
    if qop.lower() == _AUTH_INT:
        # "the hash of the entity-body resolves to the hash of an empty string when the entity-body is empty" (RFC 8760
        # section 2.6, bullet 7).
        a2 = f"{a2}:{algorithm.digest(body)}"
    protection = f"{nc}:{cnonce}:{qop}:" if qop else ""
    return algorithm.digest(encode_head(f"{ha1}:{nonce}:{protection}{algorithm.digest(encode_head(a2))}"))


# -- The server --------------------------------------------------------------------------------------------------------


class Verdict(Enum):
    """What credentials are worth."""

    ADMITTED = "the user's own, and of this request"
    STALE = "the user's own, but the nonce is not to be used any more: challenge with ``stale=true``"
    DENIED = "wrong, or of nobody: challenge without ``stale``, or 403"


def challenges(realm: str, nonce: str, algorithms: Sequence[Algorithm], *, stale: bool = False) -> tuple[str, ...]:
    """Return the values of WWW-Authenticate or Proxy-Authenticate for one answer, to be sent in this order.

    RFC 8760 section 2.3: one for each algorithm, "in the order in which it would prefer to see them used".

    Args:
        realm: the protection domain.
        nonce: of :meth:`Nonces.issue` for this realm; all of them may use the same one.
        algorithms: each once, the preferred one first.
        stale: whether the user need not be asked for the password again.

    Raises:
        LocalError: no algorithm is given, or one twice.
    """
    if not algorithms or len(set(algorithms)) < len(algorithms):
        raise LocalError(f"challenges of {[algorithm.value for algorithm in algorithms]}: name each algorithm once")
    return tuple(
        str(Challenge(realm=realm, nonce=nonce, algorithm=algorithm.value, qop=(_AUTH,), stale=stale))
        for algorithm in algorithms
    )


def select(
    values: Iterable[Credentials], realm: str, algorithms: Collection[Algorithm], nonces: Nonces, now: Moment
) -> Credentials | None:
    """Return the value of Authorization, or of Proxy-Authorization, that is to be checked.

    Of several for the realm, as a request has for proxies that share it (RFC 3261 section 22.3), that with a nonce of
    ours counts, else the first.

    Args:
        values: as received, in their order.
        realm: ours.
        algorithms: those that we challenge with.
        nonces: those that we issue.
        now: the present.

    Returns:
        Credentials of a supported algorithm, to look up the user's HA1 for; or None where nobody has tried: the answer
        is a challenge, and no failed login. Not tried has who answers in another scheme, with a hashed user name, or
        without what the computation needs, such as a phone's first request with an empty response.
    """
    usable = [value for value in values if value.realm == realm and _algorithm_of(value) in algorithms]
    ours = (value for value in usable if nonces.judge(value.nonce, realm, now) is NonceState.FRESH)
    return next(ours, usable[0] if usable else None)


def check(credentials: Credentials, method: str, body: bytes, ha1: str | None) -> bool:
    """Say whether the response of credentials is right, whatever their nonce is worth.

    Args:
        credentials: those that :func:`select` returned; of others none is right.
        method: of the request.
        body: of the request.
        ha1: the user's, for the algorithm of the credentials; None if there is no such user, which takes as long.
    """
    algorithm = _algorithm_of(credentials)
    if algorithm is None:
        return False
    expected = request_digest(
        algorithm,
        _NOBODYS[algorithm] if ha1 is None else ha1,
        method=method,
        uri=credentials.uri,
        nonce=credentials.nonce,
        qop=credentials.qop,
        nc=credentials.nc,
        cnonce=credentials.cnonce,
        body=body,
    )
    right = hmac.compare_digest(expected.encode(), encode_head(credentials.response.lower()))
    return right and ha1 is not None


def admit(credentials: Credentials, method: str, body: bytes, ha1: str | None, nonces: Nonces, now: Moment) -> Verdict:
    """Say what credentials are worth, and spend their nonce if they are right.

    Whether the digest-uri may differ from the Request-URI is left to the caller; see :func:`names_target`.

    Args:
        credentials: those that :func:`select` returned, so of our realm.
        method: of the request.
        body: of the request.
        ha1: as in :func:`check`.
        nonces: those that we issue.
        now: the present.
    """
    if not check(credentials, method, body, ha1):
        return Verdict.DENIED
    # Without qop the response does not cover nc: whoever overheard one could count on with it.
    count = credentials.nonce_count if credentials.qop else None
    state = nonces.spend(credentials.nonce, credentials.realm, count, now)
    # A right response to a nonce that is not ours, as after a restart, comes from one who knows the password.
    return Verdict.ADMITTED if state is NonceState.FRESH else Verdict.STALE


def names_target(credentials: Credentials, request_uri: str) -> bool:
    """Say whether the digest-uri is the Request-URI, or equivalent to it (RFC 3261 section 19.1.4).

    If not, a proxy may have changed the latter: "it MAY still accept it if the two fields are not equivalent", but
    "MUST check if the Request-URI in the Authorization/Proxy-Authorization header field value corresponds to a user
    for whom the UAS is willing to accept forwarded or direct requests" (RFC 8760 section 2.6, bullet 6).
    """
    if credentials.uri == request_uri:
        return True
    try:
        return parse_uri(credentials.uri).equivalent(parse_uri(request_uri))
    except PeerError:
        return False


# -- The client --------------------------------------------------------------------------------------------------------


def choose(offered: Iterable[Challenge], algorithms: Collection[Algorithm] | None = None) -> tuple[Challenge, ...]:
    """Return the challenge to answer for each realm: the topmost that we can (RFC 8760 section 2.4).

    Args:
        offered: the challenges of one header in their order.
        algorithms: those to use; None for all of `SUPPORTED`.
    """
    chosen: dict[str, Challenge] = {}
    for challenge in offered:
        # "The client MUST ignore any challenge it does not understand."
        if challenge.is_digest and challenge.nonce and _qop_of(challenge) is not None:
            algorithm = Algorithm.named(challenge.algorithm)
            if algorithm is not None and (algorithms is None or algorithm in algorithms):
                chosen.setdefault(challenge.realm, challenge)
    return tuple(chosen.values())


def answer(
    challenge: Challenge,
    username: str,
    password: str,
    *,
    method: str,
    uri: str,
    body: bytes = b"",
    cnonce: str,
    nc: int = 1,
) -> Credentials:
    """Return what answers a challenge; of ``auth`` and ``auth-int`` the former if both are offered.

    A challenge without ``qop`` gets the answer of RFC 2069: servers that do not offer it do not compute with it. (RFC
    8760 section 2.6, bullet 8, reads as if ``auth`` were meant; a server of RFC 8760 "MUST always send" it.)

    Args:
        challenge: one that :func:`choose` returned.
        username: the user's name in the realm.
        password: the user's.
        method: of the request.
        uri: the Request-URI.
        body: of the request.
        cnonce: printable and not to be guessed.
        nc: how many requests used this nonce, this one included.

    Raises:
        LocalError: it cannot be answered.
    """
    algorithm, qop = Algorithm.named(challenge.algorithm), _qop_of(challenge)
    if algorithm is None or qop is None or not challenge.is_digest:
        raise LocalError(f"a challenge that cannot be answered: {challenge}")
    count = f"{nc:08x}" if qop else ""
    cnonce = cnonce if qop else ""
    response = request_digest(
        algorithm,
        ha1(algorithm, username, challenge.realm, password),
        method=method,
        uri=uri,
        nonce=challenge.nonce,
        qop=qop,
        nc=count,
        cnonce=cnonce,
        body=body,
    )
    if challenge.userhash:
        # RFC 7616 section 3.4.4: "after any other hash calculation".
        username = algorithm.digest(encode_head(f"{username}:{challenge.realm}"))
    return Credentials(
        username=username,
        realm=challenge.realm,
        nonce=challenge.nonce,
        uri=uri,
        response=response,
        algorithm=challenge.algorithm,
        cnonce=cnonce,
        opaque=challenge.opaque,
        qop=qop,
        nc=count,
        userhash=challenge.userhash,
    )


# -- Below the surface -------------------------------------------------------------------------------------------------

_AUTH: Final = "auth"
_AUTH_INT: Final = "auth-int"

_HASHES: Final = {Algorithm.SHA_256: "sha256", Algorithm.SHA_512_256: "sha512_256", Algorithm.MD5: "md5"}


def _available(new: Callable[..., object] = hashlib.new) -> tuple[Algorithm, ...]:
    found: list[Algorithm] = []
    for algorithm, name in _HASHES.items():
        try:
            new(name, usedforsecurity=False)
        except ValueError:
            continue
        found.append(algorithm)
    return tuple(found)


SUPPORTED: Final = _available()
"""What this machine can compute, in the order of preference of RFC 7616 section 3.7."""

_NAMED: Final = {"": Algorithm.MD5} | {algorithm.value.lower(): algorithm for algorithm in SUPPORTED}

# H(A1) of nobody. It need not be secret: a response that is right for it is refused.
_NOBODYS: Final = {algorithm: algorithm.digest(b"") for algorithm in SUPPORTED}


def _algorithm_of(credentials: Credentials) -> Algorithm | None:
    """Return the algorithm of credentials that can be checked, or None."""
    if not credentials.is_digest or credentials.userhash or not credentials.response:
        return None
    # With qop there are nc and cnonce: RFC 7616 section 3.4 has each of them "used by all implementations".
    if credentials.qop and not (
        credentials.qop.lower() in (_AUTH, _AUTH_INT) and credentials.nc and credentials.cnonce
    ):
        return None
    return Algorithm.named(credentials.algorithm)


def _qop_of(challenge: Challenge) -> str | None:
    """Return the qop to answer a challenge with, empty if it has none; None if it has only unknown ones."""
    if not challenge.qop:
        return ""
    return next((qop for qop in (_AUTH, _AUTH_INT) if qop in challenge.qop), None)
