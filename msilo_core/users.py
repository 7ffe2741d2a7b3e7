"""Users as a store keeps them: no password, but what Digest computes with in its place."""

from typing import Final, Self

import msgspec

from msilo_core.digest import SUPPORTED, Algorithm, ha1
from msilo_core.uri import Aor

__all__ = ["User"]


class User(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A user: a row of the table ``subscriber``.

    Each HA1 is the hash of name, realm and password (RFC 7616 section 3.4.2) in lower-case hexadecimal digits, or empty
    where there is none; whoever has it can log in. None of them shows in a repr.

    Attributes:
        owner: name and realm: the address of record that the user may register and send from (columns ``username``,
            ``domain``).
        ha1: for MD5; a Kamailio that hashes with SHA-256 keeps that here (64 digits).
        ha1b: as `ha1`, of somebody who gives ``alice@example.com`` for a name. Kamailio may ask for it; we do not.
        ha1_sha256: for SHA-256.
        ha1_sha512_256: for SHA-512-256.
    """

    owner: Aor
    ha1: str = ""
    ha1b: str = ""
    ha1_sha256: str = ""
    ha1_sha512_256: str = ""

    @classmethod
    def with_password(cls, owner: Aor, password: str) -> Self:
        """Return a user who logs in with a password, by every algorithm that this machine can compute."""
        hashes = {algorithm: ha1(algorithm, owner.username, owner.domain, password) for algorithm in SUPPORTED}
        columns = {_COLUMNS[algorithm]: value for algorithm, value in hashes.items()}
        name = f"{owner.username}@{owner.domain}"
        ha1b = ha1(Algorithm.MD5, name, owner.domain, password) if Algorithm.MD5 in hashes else ""
        return cls(owner=owner, ha1b=ha1b, **columns)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Names of the algorithms that the user can log in by, the strongest first."""
        return tuple(algorithm.value for algorithm in Algorithm if self.ha1_for(algorithm))

    def ha1_for(self, algorithm: Algorithm) -> str | None:
        """Return the HA1 for an algorithm, or None."""
        value: str = getattr(self, _COLUMNS[algorithm])
        if algorithm is Algorithm.SHA_256 and not value and len(self.ha1) == _SHA256_DIGITS:
            value = self.ha1
        return value.lower() or None

    def __repr__(self) -> str:
        """Return who it is."""
        return f"User(owner={self.owner!r}, algorithms={self.algorithms!r})"


_COLUMNS: Final = {
    Algorithm.SHA_256: "ha1_sha256",
    Algorithm.SHA_512_256: "ha1_sha512_256",
    Algorithm.MD5: "ha1",
}
_SHA256_DIGITS: Final = 64
