"""Users in a file, for whoever has no table of them: the format of Apache's ``htdigest``, with a column more.

::

    # name:realm:HA1, for MD5
    alice:example.com:1a2b…
    # name:realm:algorithm:HA1
    alice:example.com:SHA-256:3c4d…

The realm is the domain of the address of record. A line that is empty or begins with ``#`` says nothing, and is kept
when the file is changed. A change of the file, by whatever program, is seen at the next look. A user's ``ha1b``, which
only Kamailio reads, has no place in it.
"""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
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
        busy_timeout_s: how long a change waits for another one, of this program or any, before Unavailable.
    """

    def __init__(self, path: str | Path, *, busy_timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._busy_timeout_s = busy_timeout_s
        # The users, and the state of the file that they were read from: replaced together, for threads are many.
        self._known: tuple[dict[Aor, User], object] = ({}, None)

    def load(self) -> None:
        """Read the file.

        Raises:
            SchemaError: it cannot be read, or a line is not understood; the text says which and what to give.
        """
        state = _state_of(self._path)
        self._known = _parsed(self._path, self._text()), state

    async def find_users(self, finds: Sequence[FindUser]) -> list[UserFound | StorageFailed]:
        """See :meth:`msilo_storage.Users.find_users`."""
        await self._in_thread(self._look)
        users, _ = self._known
        return [UserFound(find.token, users.get(find.owner)) for find in finds]

    async def add_user(self, user: User) -> bool:
        """See :meth:`msilo_storage.Users.add_user`; the change is whole or not at all."""
        return await self._in_thread(self._add, user)

    async def remove_user(self, owner: Aor) -> bool:
        """See :meth:`msilo_storage.Users.remove_user`."""
        return await self._in_thread(self._remove, owner)

    async def list_users(self, *, after: Aor | None = None, limit: int = 100) -> list[User]:
        """See :meth:`msilo_storage.Users.list_users`."""
        await self._in_thread(self.load)
        users, _ = self._known
        return page_of_users(users.values(), after, limit)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await anyio.to_thread.run_sync(function, *args)

    def _look(self) -> None:
        # What was right is served on when a change is not: a slip of the pen must not lock everybody out.
        users, seen = self._known
        if (state := _state_of(self._path)) == seen:
            return
        try:
            self.load()
        except StorageError as error:
            self._known = users, state
            logger.error("users stay as they were: %s", error)

    def _add(self, user: User) -> bool:
        if not _can_stand(user):
            raise SchemaError(f"{user.owner}: such a name cannot stand in a file: use a storage URL")
        with self._locked(os.O_RDWR | os.O_CREAT):
            text = self._text()
            users = _parsed(self._path, text)
            self._write([*_lines_without(user.owner, text), *_lines_of(user)])
        return user.owner not in users

    def _remove(self, owner: Aor) -> bool:
        with self._locked(os.O_RDWR):
            text = self._text()
            if owner not in _parsed(self._path, text):
                return False
            self._write(_lines_without(owner, text))
        return True

    @contextmanager
    def _locked(self, flags: int) -> Generator[None]:
        """Keep others, in this program and any, from changing the file.

        Raises:
            SchemaError: it cannot be opened.
            Unavailable: another one is changing it, and goes on doing so.
        """
        deadline_s = time.monotonic() + self._busy_timeout_s
        while (descriptor := self._lock(flags)) is None:
            if time.monotonic() >= deadline_s:
                raise Unavailable(f"users file {self._path}: another program is changing it: try again")
            time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            os.close(descriptor)

    def _lock(self, flags: int) -> int | None:
        """Open and lock the file, if nobody else has."""
        try:
            descriptor = os.open(self._path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SchemaError(f"users file {self._path}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had the lock before may have put another file in the place of the one that was opened.
            if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:
            os.close(descriptor)
            raise Unavailable(f"users file {self._path}: it cannot be locked: {error.strerror}") from error
        os.close(descriptor)
        return None

    def _text(self) -> str:
        try:
            return self._path.read_text("utf-8")
        except OSError as error:
            raise SchemaError(f"users file {self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SchemaError(f"users file {self._path}: not a text in UTF-8") from None

    def _write(self, lines: Sequence[str]) -> None:
        """Put a new file in the place of the old one, with its owner and rights; a crash leaves one of the two."""
        # A link stays one: it is what it leads to that is replaced.
        path = Path(os.path.realpath(self._path))
        try:
            before = path.stat()
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in lines)
                    file.flush()
                    _give(descriptor, before.st_uid, before.st_gid)
                    os.fchmod(descriptor, before.st_mode & 0o777)
                    os.fsync(descriptor)
                os.replace(name, path)
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            raise Unavailable(f"users file {self._path}: {error.strerror}") from error


# Names of the algorithms as columns of the file, and as attributes of a user.
_ATTRIBUTES: Final = {"SHA-256": "ha1_sha256", "SHA-512-256": "ha1_sha512_256", "MD5": "ha1"}
_DIGITS: Final = {"SHA-256": 64, "SHA-512-256": 64, "MD5": 32}
_LOCK_POLL_S: Final = 0.01
"""How often a change looks whether another one has ended: that takes some milliseconds."""

_FORM: Final = "give NAME:REALM:HA1 or NAME:REALM:ALGORITHM:HA1"


def _give(descriptor: int, user: int, group: int) -> None:
    """Give a file to its owner and group, or to the group alone, or to neither: as far as this user may."""
    for owner in (user, -1):
        try:
            os.fchown(descriptor, owner, group)
        except PermissionError:
            continue
        return


def _lines_without(owner: Aor, text: str) -> list[str]:
    return [line for line in text.splitlines() if (entry := _entry(line)) is None or entry[0] != owner]


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


def _can_stand(user: User) -> bool:
    """Say whether the lines of a user are read as what they are: not for a name with a colon, or after a ``#``."""
    lines = _lines_of(user)
    try:
        entries = [_entry(line) for line in "\n".join(lines).splitlines()]
    except ValueError:
        return False
    return len(entries) == len(lines) and all(entry is not None and entry[0] == user.owner for entry in entries)


def _lines_of(user: User) -> list[str]:
    owner = user.owner
    lines = [(algorithm, getattr(user, attribute)) for algorithm, attribute in _ATTRIBUTES.items()]
    return [f"{owner.username}:{owner.domain}:{algorithm}:{ha1}" for algorithm, ha1 in lines if ha1]
