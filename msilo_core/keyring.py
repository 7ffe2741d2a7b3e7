"""What a client of Digest authentication remembers, so that it answers later challenges before they are made."""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from msilo_core.digest import Algorithm, answer, choose
from msilo_core.entropy import Entropy
from msilo_core.fields import Challenge, Credentials

__all__ = ["Answer", "Keyring"]

Answer = tuple[str, Credentials]
"""Name and value of a header: ``Authorization`` or ``Proxy-Authorization``."""


class Keyring:
    """What a client knows of those that challenge it: for each realm the last nonce, and how often it was used.

    It is for one account, and for the servers that the account is known to: a response shows whoever asked for it
    what a guess of the password can be tried on.
    """

    __slots__ = ("_algorithms", "_entropy", "_password", "_sessions", "_username")

    def __init__(
        self, username: str, password: str, entropy: Entropy, algorithms: Collection[Algorithm] | None = None
    ) -> None:
        """Begin without sessions.

        Args:
            username: the user's name in each realm.
            password: the user's.
            entropy: cnonces come from here.
            algorithms: those to answer with; None for all of `SUPPORTED`.
        """
        self._username = username
        self._password = password
        self._entropy = entropy
        self._algorithms = algorithms
        self._sessions: dict[tuple[str, str], _Session] = {}

    def challenged(
        self, www_authenticate: Iterable[Challenge], proxy_authenticate: Iterable[Challenge], sent: Iterable[Answer]
    ) -> bool:
        """Take the challenges of a 401 or a 407 to a request of ours.

        Args:
            www_authenticate: those of that header, in their order.
            proxy_authenticate: those of that header.
            sent: what :meth:`answers` gave for that request; empty if it went without.

        Returns:
            Whether to send the request again, with the :meth:`answers` that there are now. False where no challenge
            can be answered, or the answer was just refused: "a UAC MUST NOT re-attempt requests with the credentials
            that have just been rejected (though the request may be retried if the nonce was stale)" (RFC 3261 section
            22.1). A server that says ``stale`` for ever is for the caller to leave.
        """
        sent = list(sent)
        retry = False
        for name, offered in ((_AUTHORIZATION, www_authenticate), (_PROXY_AUTHORIZATION, proxy_authenticate)):
            for challenge in choose(offered, self._algorithms):
                refused = next((value for key, value in sent if key == name and value.realm == challenge.realm), None)
                if refused is not None and _is_rejection(refused, challenge):
                    self._sessions.pop((name, challenge.realm), None)
                else:
                    self._begin(name, challenge)
                    retry = True
        return retry

    def answers(self, method: str, uri: str, body: bytes = b"") -> tuple[Answer, ...]:
        """Return what a request carries for each realm that is known, each value counted as a use of its nonce.

        Args:
            method: of the request.
            uri: its Request-URI.
            body: of the request.
        """
        answers: list[Answer] = []
        for (name, _), session in self._sessions.items():
            # Without qop a nonce cannot be counted, and a server may refuse it the second time: better to be asked.
            if session.count and not session.challenge.qop:
                continue
            session.count += 1
            cnonce = self._entropy.octets(_CNONCE_BYTES).hex()
            credentials = answer(
                session.challenge,
                self._username,
                self._password,
                method=method,
                uri=uri,
                body=body,
                cnonce=cnonce,
                nc=session.count,
            )
            answers.append((name, credentials))
        return tuple(answers)

    def _begin(self, name: str, challenge: Challenge) -> None:
        key = (name, challenge.realm)
        known = self._sessions.pop(key, None)
        if len(self._sessions) >= _SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        # A nonce may come twice, as to requests that were sent side by side, but each of its counts is used once.
        count = known.count if known is not None and known.challenge.nonce == challenge.nonce else 0
        self._sessions[key] = _Session(challenge, count)


_AUTHORIZATION: Final = "Authorization"
_PROXY_AUTHORIZATION: Final = "Proxy-Authorization"

# 64 bits, as hexadecimal digits: nobody prepares tables for them.
_CNONCE_BYTES: Final = 8

# Realms and headers remembered by a client: a registrar's and a few proxies'. Each costs a header line in every
# request, and servers choose how many there are.
_SESSIONS_MAX: Final = 8


class _Session(msgspec.Struct):
    """The last challenge of a realm, and how many requests have answered it."""

    challenge: Challenge
    count: int


def _is_rejection(refused: Credentials, challenge: Challenge) -> bool:
    """Say whether a challenge refuses user and password, and not only the nonce."""
    if refused.nonce == challenge.nonce:
        return True
    # Not every server says stale where it should. A nonce that was used before had been good once, and the fresh one
    # settles it, for it is used the first time then.
    return not challenge.stale and (refused.nonce_count or 1) == 1
