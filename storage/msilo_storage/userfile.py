"""Users in a file, for whoever has no table of them: the format of Apache's ``htdigest``, with a column more.

::

    # name:realm:HA1, for MD5
    alice:example.com:1a2b…
    # name:realm:algorithm:HA1
    alice:example.com:SHA-256:3c4d…

The realm is the domain of the address of record. A line that is empty or begins with ``#`` says nothing, and is kept
when the file is changed. A change of the file, by whatever program, is seen at the next look.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import anyio.to_thread
import msgspec

from msilo_core.actions import FindUser, StorageFailed, UserFound
from msilo_core.errors import PeerError, SchemaError, StorageError, Unavailable
from msilo_core.uri import Aor, parse_aor
from msilo_core.users import User
from msilo_storage.rules import page_of_users

__all__ = ["UserFile"]

T = TypeVar("T")

logger = logging.getLogger(__name__)


class UserFile:
    """See the module.

    Args:
        path: the file; adding a user makes it where it is missing, for nobody else to read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._users: dict[Aor, User] = {}
        self._seen: object = None

    def load(self) -> None:
        """Read the file.

        Raises:
            SchemaError: it cannot be read, or a line is not understood; the text says which and what to give.
        """
        seen = _state_of(self._path)
        self._users = _parsed(self._path, self._text())
        self._seen = seen

    async def find_users(self, finds: Sequence[FindUser]) -> list[UserFound | StorageFailed]:
        """See :meth:`msilo_storage.Users.find_users`."""
        await self._in_thread(self._look)
        return [UserFound(find.token, self._users.get(find.owner)) for find in finds]

    async def add_user(self, user: User) -> bool:
        """See :meth:`msilo_storage.Users.add_user`; the change is whole or not at all."""
        return await self._in_thread(self._add, user)

    async def remove_user(self, owner: Aor) -> bool:
        """See :meth:`msilo_storage.Users.remove_user`."""
        return await self._in_thread(self._remove, owner)

    async def list_users(self, *, after: Aor | None = None, limit: int = 100) -> list[User]:
        """See :meth:`msilo_storage.Users.list_users`."""
        await self._in_thread(self.load)
        return page_of_users(self._users.values(), after, limit)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await anyio.to_thread.run_sync(function, *args)

    def _look(self) -> None:
        # What was right is served on when a change is not: a slip of the pen must not lock everybody out.
        if (seen := _state_of(self._path)) == self._seen:
            return
        try:
            self.load()
        except StorageError as error:
            self._seen = seen
            logger.error("users stay as they were: %s", error)

    def _add(self, user: User) -> bool:
        if ":" in user.owner.username:
            raise SchemaError(f"{user.owner}: a name with a colon cannot stand in a file: use a storage URL")
        if self._path.exists():
            self.load()
        self._write([*self._lines_without(user.owner), *_lines_of(user)])
        return user.owner not in self._users

    def _remove(self, owner: Aor) -> bool:
        self.load()
        if owner not in self._users:
            return False
        self._write(self._lines_without(owner))
        return True

    def _lines_without(self, owner: Aor) -> list[str]:
        lines = self._text().splitlines() if self._path.exists() else []
        return [line for line in lines if (entry := _entry(line)) is None or entry[0] != owner]

    def _text(self) -> str:
        try:
            return self._path.read_text("utf-8")
        except OSError as error:
            raise SchemaError(f"users file {self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SchemaError(f"users file {self._path}: not a text in UTF-8") from None

    def _write(self, lines: Sequence[str]) -> None:
        """Put a new file in the place of the old one, with its rights; a crash leaves one of the two."""
        path = self._path
        try:
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in lines)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    os.fsync(file.fileno())
                os.replace(name, path)
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            raise Unavailable(f"users file {path}: {error.strerror}") from error


# Names of the algorithms as columns of the file, and as attributes of a user.
_ATTRIBUTES: Final = {"SHA-256": "ha1_sha256", "SHA-512-256": "ha1_sha512_256", "MD5": "ha1"}
_DIGITS: Final = {"SHA-256": 64, "SHA-512-256": 64, "MD5": 32}
_FORM: Final = "give NAME:REALM:HA1 or NAME:REALM:ALGORITHM:HA1"


def _state_of(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _parsed(path: Path, text: str) -> dict[Aor, User]:
    users: dict[Aor, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = _entry(line)
        except ValueError as error:
            raise SchemaError(f"users file {path}, line {number}: {error}: {_FORM}") from None
        if entry is not None:
            owner, attribute, ha1 = entry
            known = users.get(owner, User(owner=owner))
            users[owner] = msgspec.structs.replace(known, **{attribute: ha1})
    return users


def _entry(line: str) -> tuple[Aor, str, str] | None:
    """Return whose line it is, and which HA1; None for one that says nothing.

    Raises:
        ValueError: it is not understood.
    """
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    # A realm may hold colons, if it is an IPv6 address; nothing else may.
    name, _, rest = line.partition(":")
    realm, _, ha1 = rest.rpartition(":")
    before, _, algorithm = realm.rpartition(":")
    if algorithm.upper() in _ATTRIBUTES:
        realm, algorithm = before, algorithm.upper()
    else:
        algorithm = "MD5"
    try:
        owner = parse_aor(str(Aor(name, realm)))
    except PeerError:
        raise ValueError(f"{name}:{realm} is no user of a domain") from None
    if len(ha1) != _DIGITS[algorithm] or set(ha1.lower()) - set("0123456789abcdef"):
        raise ValueError(f"the HA1 is not one of {algorithm}")
    return owner, _ATTRIBUTES[algorithm], ha1.lower()


def _lines_of(user: User) -> list[str]:
    owner = user.owner
    lines = [(algorithm, getattr(user, attribute)) for algorithm, attribute in _ATTRIBUTES.items()]
    return [f"{owner.username}:{owner.domain}:{algorithm}:{ha1}" for algorithm, ha1 in lines if ha1]
