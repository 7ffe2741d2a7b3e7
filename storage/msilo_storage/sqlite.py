"""The store in one SQLite file: no server, and every commit on the disk before it is answered.

One thread owns the connection that writes, and makes each batch one transaction; a second owns one that only
reads. In write-ahead mode readers see the last commit and never wait for the next, so that finding out where
a user is registered costs no more while messages are being stored. ``synchronous=FULL`` is the only setting:
with a batch to each commit it costs little, and without it a commit is not durable.
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Concatenate, Final, Literal, ParamSpec, Self, TypeVar

import anyio

from msilo_core.actions import (
    Bind,
    Binding,
    Bound,
    Dump,
    Dumped,
    Expire,
    Expired,
    FindUser,
    LookedUp,
    LookUp,
    Message,
    Outcome,
    Refused,
    Settle,
    Settled,
    StorageAction,
    StorageFailed,
    Store,
    Stored,
    UserFound,
)
from msilo_core.errors import Full, LocalError, SchemaError, StorageError, Unavailable
from msilo_core.registrar import Rejection, preferred
from msilo_core.uri import Aor, parse_aor
from msilo_core.users import User
from msilo_storage.bridge import Worker
from msilo_storage.protocol import StorageReport
from msilo_storage.rows import (
    BINDING_COLUMNS,
    MESSAGE_COLUMNS,
    NEW_MESSAGE_COLUMNS,
    NEW_USER_COLUMNS,
    USER_COLUMNS,
    aor_values,
    binding_from,
    binding_values,
    message_from,
    message_values,
    repeat_key,
    user_from,
    user_values,
)
from msilo_storage.rules import (
    EXPIRE_ROWS_MAX,
    Inventory,
    RowError,
    fold,
    isolating_bad_rows,
    leasable,
    legible,
    status_after,
)
from msilo_storage.tables import SCHEMA_VERSION, TABLES, check_schema, schema_script

__all__ = ["SqliteStorage"]

A = TypeVar("A", bound=StorageAction)
C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


class SqliteStorage:
    """Messages and bindings in one file.

    Args:
        path: the file; its directory must exist.
        create: make the file, for nobody else to read, and its tables where they are missing; otherwise entering
            raises SchemaError then.
        busy_timeout_s: how long a batch waits for another program that writes to the file, before Unavailable.
    """

    def __init__(self, path: str | Path, *, create: bool = True, busy_timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._create = create
        self._busy_timeout_s = busy_timeout_s
        self._writer = _Connection("msilo-sqlite-write", "IMMEDIATE")
        self._reader = _Connection("msilo-sqlite-read", "DEFERRED")

    async def __aenter__(self) -> Self:
        try:
            await self._writer.open(self._open_writer)
            await self._reader.open(self._open_reader)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def append(self, stores: Sequence[Store]) -> list[Stored | StorageFailed]:
        """See :meth:`msilo_storage.Storage.append`."""
        return await self._writer.carry_out(_append, stores)

    async def look_up(self, lookups: Sequence[LookUp]) -> list[LookedUp | StorageFailed]:
        """See :meth:`msilo_storage.Storage.look_up`."""
        return await self._reader.carry_out(_look_up, lookups)

    async def bind(self, binds: Sequence[Bind]) -> list[Bound | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.bind`."""
        return await self._writer.carry_out(_bind, binds)

    async def dump(self, dumps: Sequence[Dump]) -> list[Dumped | StorageFailed]:
        """See :meth:`msilo_storage.Storage.dump`."""
        return await self._writer.carry_out(_dump, dumps)

    async def settle(self, settles: Sequence[Settle]) -> list[Settled | StorageFailed]:
        """See :meth:`msilo_storage.Storage.settle`."""
        return await self._writer.carry_out(_settle, settles)

    async def expire(self, expires: Sequence[Expire]) -> list[Expired | StorageFailed]:
        """See :meth:`msilo_storage.Storage.expire`."""
        return await self._writer.carry_out(_expire, expires)

    async def find_users(self, finds: Sequence[FindUser]) -> list[UserFound | StorageFailed]:
        """See :meth:`msilo_storage.Users.find_users`."""
        return await self._reader.carry_out(_find_users, finds)

    async def add_user(self, user: User) -> bool:
        """See :meth:`msilo_storage.Users.add_user`."""
        return await self._writer.run(_add_user, user)

    async def remove_user(self, owner: Aor) -> bool:
        """See :meth:`msilo_storage.Users.remove_user`."""
        return await self._writer.run(_remove_user, owner)

    async def list_users(self, *, after: Aor | None = None, limit: int = 100) -> list[User]:
        """See :meth:`msilo_storage.Users.list_users`."""
        return await self._reader.run(_list_users, after, limit)

    async def list(
        self, owner: str | None = None, *, after: int = 0, limit: int = 100, dead: bool = False
    ) -> list[Message]:
        """See :meth:`msilo_storage.Storage.list`."""
        aor = None if owner is None else parse_aor(owner)
        return await self._reader.run(_list, aor, after, limit, dead)

    async def check(self) -> StorageReport:
        """See :meth:`msilo_storage.Storage.check`."""
        return await self._reader.run(self._report)

    def _open_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        with _closed_on_error(connection):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            try:
                self._check_schema(connection)
            except SchemaError:
                if not self._create:
                    raise
                with _transaction(connection, "IMMEDIATE"):
                    _create_schema(connection)
                self._check_schema(connection)
        return connection

    def _open_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        with _closed_on_error(connection):
            connection.execute("PRAGMA query_only = ON")
        return connection

    def _connect(self) -> sqlite3.Connection:
        path = self._path
        if not path.parent.is_dir():
            raise SchemaError(f"the directory {path.parent} does not exist: create it")
        if path.is_dir():
            raise SchemaError(f"{path} cannot be written: it is a directory")
        if self._create:
            try:
                # What people write to each other is nobody else's business; SQLite itself would ask the umask. A
                # file that is there must not be opened: closing it would drop the locks that this process holds
                # on it for SQLite, and another program would take away the log under us.
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            except FileExistsError:
                pass
            except OSError as error:
                raise SchemaError(f"{path} cannot be written: {error.strerror}") from error
        elif not path.exists():
            raise SchemaError(f"there is no {path}: run `msilo db init --storage {self._url}`")
        connection = sqlite3.connect(path, timeout=self._busy_timeout_s, isolation_level=None)
        # A row that another program wrote may hold any octets.
        connection.text_factory = _decoded
        return connection

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        columns = {table: [name for name, _ in _columns(connection, table)] for table in TABLES}
        row = connection.execute(_VERSION).fetchone() if columns["version"] else None
        check_schema(self._url, columns, row and row[0])

    @property
    def _url(self) -> str:
        return f"sqlite:///{self._path}"

    def _report(self, connection: sqlite3.Connection) -> StorageReport:
        self._check_schema(connection)
        messages, dead = connection.execute(
            "SELECT count(*) FILTER (WHERE status = 0), count(*) FILTER (WHERE status <> 0) FROM silo"
        ).fetchone()
        (bindings,) = connection.execute("SELECT count(*) FROM silo_location").fetchone()
        (users,) = connection.execute("SELECT count(*) FROM subscriber").fetchone()
        return StorageReport(
            url=self._url, version=SCHEMA_VERSION, messages=messages, dead=dead, bindings=bindings, users=users
        )

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._reader.close()
            # The last connection to close folds the write-ahead log into the file: that needs one that may write.
            await self._writer.close()


_Mode = Literal["DEFERRED", "IMMEDIATE"]


class _Connection:
    """A connection and the thread that alone uses it.

    Args:
        name: of the thread.
        mode: how transactions begin: IMMEDIATE for those that write.
    """

    def __init__(self, name: str, mode: _Mode) -> None:
        self._name = name
        self._mode: Final[_Mode] = mode
        self._worker: Worker | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._worker = Worker(self._name)
        await self._worker.run(self._open, connect)

    async def carry_out(
        self, function: Callable[[sqlite3.Connection, Sequence[A]], list[C]], batch: Sequence[A]
    ) -> list[C | StorageFailed]:
        """Call `function` with the batch, in one transaction unless a row of it is bad."""

        async def carry_out(part: Sequence[A]) -> list[C]:
            return await self.run(function, part)

        return await isolating_bad_rows(carry_out, batch)

    async def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call ``function(connection, *args, **kwargs)`` in a transaction."""
        if self._worker is None:
            raise LocalError("the store is not open")
        return await self._worker.run(self._transact, lambda connection: function(connection, *args, **kwargs))

    async def close(self) -> None:
        if self._worker is not None:
            await self._worker.run(self._close)
            self._worker.close()
            self._worker = None

    def _open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        with _mapped_errors():
            self._connection = connect()

    def _transact(self, function: Callable[[sqlite3.Connection], T]) -> T:
        assert self._connection is not None
        with _mapped_errors(), _transaction(self._connection, self._mode):
            return function(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


# What a batch does, inside its transaction


_INSERT: Final = (
    f"INSERT INTO silo ({', '.join(NEW_MESSAGE_COLUMNS)}) VALUES ({', '.join('?' * len(NEW_MESSAGE_COLUMNS))})"
    " ON CONFLICT DO NOTHING"
)
_COUNT_REPEAT: Final = (
    "UPDATE silo SET repeats = repeats + 1"
    " WHERE username = ? AND domain = ? AND callid = ? AND cseq = ? AND from_tag = ? AND cseq >= 0"
    " RETURNING id"
)


def _append(connection: sqlite3.Connection, stores: Sequence[Store]) -> list[Stored]:
    answers: list[Stored] = []
    for store in stores:
        message = store.message
        # Measured: one execute for each row costs what executemany does, and says which row was there before.
        cursor = connection.execute(_INSERT, message_values(message))
        if cursor.rowcount:
            assert cursor.lastrowid is not None
            answers.append(Stored(store.token, cursor.lastrowid))
        else:
            key = repeat_key(message)
            assert key is not None
            (message_id,) = connection.execute(_COUNT_REPEAT, key).fetchone()
            answers.append(Stored(store.token, message_id, repeated=True))
    return answers


def _look_up(connection: sqlite3.Connection, lookups: Sequence[LookUp]) -> list[LookedUp]:
    answers: list[LookedUp] = []
    for lookup in lookups:
        known = _bindings(connection, lookup.owner)
        alive = tuple(sorted((b for b in known if b.expires_s > lookup.now_s), key=preferred))
        waiting = bool(alive) and _has_waiting(connection, lookup.owner, lookup.now_s)
        answers.append(LookedUp(lookup.token, alive, waiting))
    return answers


_REPLACE_BINDING: Final = (
    f"INSERT OR REPLACE INTO silo_location ({', '.join(BINDING_COLUMNS)})"
    f" VALUES ({', '.join('?' * len(BINDING_COLUMNS))})"
)
_DELETE_BINDING: Final = "DELETE FROM silo_location WHERE username = ? AND domain = ? AND contact = ?"


def _bind(connection: sqlite3.Connection, binds: Sequence[Bind]) -> list[Bound | Refused]:
    inventory: Inventory = {}
    for bind in binds:
        if bind.owner not in inventory:
            inventory[bind.owner] = {b.contact: b for b in _bindings(connection, bind.owner)}
    changes = fold(inventory, binds)
    connection.executemany(
        _REPLACE_BINDING,
        [binding_values(owner, binding) for owner, binding in changes.written],
    )
    connection.executemany(_DELETE_BINDING, [(*aor_values(owner), contact) for owner, contact in changes.removed])
    answers: list[Bound | Refused] = []
    for bind, result in zip(binds, changes.results, strict=True):
        if isinstance(result, Rejection):
            answers.append(Refused(bind.token, result.status, result.reason))
        else:
            waiting = bool(result.bindings) and _has_waiting(connection, bind.owner, bind.now_s)
            answers.append(Bound(bind.token, result.bindings, waiting))
    return answers


_SELECT_MESSAGE: Final = f"SELECT {', '.join(MESSAGE_COLUMNS)}"
_WAITING: Final = " FROM silo WHERE username = ? AND domain = ? AND status = 0 AND snd_time = 0 AND exp_time > ?"
_OLDEST_WAITING: Final = f"{_SELECT_MESSAGE}, lease_node, lease_until{_WAITING} ORDER BY id LIMIT ?"
_LEASE: Final = "UPDATE silo SET lease_node = ?, lease_until = ? WHERE username = ? AND domain = ? AND id = ?"


def _dump(connection: sqlite3.Connection, dumps: Sequence[Dump]) -> list[Dumped]:
    answers: list[Dumped] = []
    for dump in dumps:
        owner = aor_values(dump.owner)
        rows = connection.execute(_OLDEST_WAITING, (*owner, dump.now_ms // 1000, dump.messages_max)).fetchall()
        count, busy_until_ms = leasable(((row[-2], row[-1]) for row in rows), dump)
        messages = tuple(map(message_from, rows[:count]))
        connection.executemany(
            _LEASE, [(dump.node, dump.lease_until_ms, *owner, message.message_id) for message in messages]
        )
        answers.append(Dumped(dump.token, messages, busy_until_ms))
    return answers


_ROW: Final = "WHERE username = ? AND domain = ? AND id = ?"
_HELD_ROW: Final = f"{_ROW} AND lease_node = ? AND status = 0"
_WITHDRAW: Final = f"DELETE FROM silo {_ROW}"
_DELIVER: Final = f"DELETE FROM silo {_HELD_ROW}"
_RELEASE: Final = f"UPDATE silo SET lease_node = '', lease_until = 0 {_HELD_ROW}"
_GIVE_BACK: Final = (
    "UPDATE silo SET lease_node = '', lease_until = 0, attempts = attempts + 1,"
    f" status = ?, last_status = ?, reason = ? {_HELD_ROW}"
)


def _settle(connection: sqlite3.Connection, settles: Sequence[Settle]) -> list[Settled]:
    answers: list[Settled] = []
    for settle in settles:
        row = (*aor_values(settle.owner), settle.message_id)
        match settle.outcome:
            case Outcome.WITHDRAWN:
                cursor = connection.execute(_WITHDRAW, row)
            case Outcome.DELIVERED:
                cursor = connection.execute(_DELIVER, (*row, settle.node))
            case Outcome.RELEASED:
                cursor = connection.execute(_RELEASE, (*row, settle.node))
            case Outcome.REFUSED | Outcome.FAILED:
                noted = (status_after(settle), settle.status, legible(settle.reason))
                cursor = connection.execute(_GIVE_BACK, (*noted, *row, settle.node))
        answers.append(Settled(settle.token, lost=cursor.rowcount == 0))
    return answers


_DELETE_EXPIRED: Final = (
    "DELETE FROM silo WHERE id IN (SELECT id FROM silo"
    " WHERE exp_time <= :now_s AND snd_time <= :now_s AND lease_until <= :now_ms ORDER BY exp_time LIMIT :rows_max)"
)
_DELETE_EXPIRED_BINDINGS: Final = "DELETE FROM silo_location WHERE expires <= :now_s"


def _expire(connection: sqlite3.Connection, expires: Sequence[Expire]) -> list[Expired]:
    answers: list[Expired] = []
    for expire in expires:
        values = {"now_ms": expire.now_ms, "now_s": expire.now_ms // 1000, "rows_max": EXPIRE_ROWS_MAX}
        deleted = connection.execute(_DELETE_EXPIRED, values).rowcount
        connection.execute(_DELETE_EXPIRED_BINDINGS, values)
        answers.append(Expired(expire.token, deleted))
    return answers


_LIST: Final = f"{_SELECT_MESSAGE} FROM silo WHERE id > ? AND (status <> 0) = ? ORDER BY id LIMIT ?"
_LIST_OF_OWNER: Final = _LIST.replace("WHERE", "WHERE username = ? AND domain = ? AND")


def _list(connection: sqlite3.Connection, owner: Aor | None, after: int, limit: int, dead: bool) -> list[Message]:
    if owner is None:
        rows = connection.execute(_LIST, (after, dead, limit))
    else:
        rows = connection.execute(_LIST_OF_OWNER, (*aor_values(owner), after, dead, limit))
    return [message_from(row) for row in rows]


_BINDINGS: Final = f"SELECT {', '.join(BINDING_COLUMNS)} FROM silo_location WHERE username = ? AND domain = ?"
_ONE_WAITING: Final = f"SELECT 1{_WAITING} LIMIT 1"


def _bindings(connection: sqlite3.Connection, owner: Aor) -> list[Binding]:
    return [binding_from(row) for row in connection.execute(_BINDINGS, aor_values(owner))]


def _has_waiting(connection: sqlite3.Connection, owner: Aor, now_s: int) -> bool:
    return connection.execute(_ONE_WAITING, (*aor_values(owner), now_s)).fetchone() is not None


_FIND_USER: Final = f"SELECT {', '.join(USER_COLUMNS)} FROM subscriber WHERE username = ? AND domain = ?"
_ADD_USER: Final = (
    f"INSERT INTO subscriber ({', '.join(NEW_USER_COLUMNS)}) VALUES ({', '.join('?' * len(NEW_USER_COLUMNS))})"
    " ON CONFLICT (username, domain) DO UPDATE SET"
    f" {', '.join(f'{column} = excluded.{column}' for column in NEW_USER_COLUMNS[2:])}"
)
_REMOVE_USER: Final = "DELETE FROM subscriber WHERE username = ? AND domain = ?"
_LIST_USERS: Final = (
    f"SELECT {', '.join(USER_COLUMNS)} FROM subscriber WHERE (domain, username) > (?, ?)"
    " ORDER BY domain, username LIMIT ?"
)


def _find_users(connection: sqlite3.Connection, finds: Sequence[FindUser]) -> list[UserFound]:
    return [UserFound(find.token, _find_user(connection, find.owner)) for find in finds]


def _find_user(connection: sqlite3.Connection, owner: Aor) -> User | None:
    row = connection.execute(_FIND_USER, aor_values(owner)).fetchone()
    return None if row is None else user_from(row)


def _add_user(connection: sqlite3.Connection, user: User) -> bool:
    is_new = _find_user(connection, user.owner) is None
    connection.execute(_ADD_USER, user_values(user))
    return is_new


def _remove_user(connection: sqlite3.Connection, owner: Aor) -> bool:
    return connection.execute(_REMOVE_USER, aor_values(owner)).rowcount > 0


def _list_users(connection: sqlite3.Connection, after: Aor | None, limit: int) -> list[User]:
    place = ("", "") if after is None else (after.domain, after.username)
    return [user_from(row) for row in connection.execute(_LIST_USERS, (*place, limit))]


# The schema


_VERSION: Final = "SELECT table_version FROM version WHERE table_name = 'silo'"


def _create_schema(connection: sqlite3.Connection) -> None:
    """Create what is missing; tables of Kamailio's get the columns that are ours."""
    script = schema_script("sqlite")
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(script)
        for table in ("silo", "subscriber"):
            present = {name for name, _ in _columns(connection, table)}
            for name, definition in _columns(model, table) if present else ():
                if name not in present:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {definition}")
    # Not `executescript`, which would commit first.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    """Return (name, definition) of each column; none if there is no such table."""
    columns: list[tuple[str, str]] = []
    for _, name, kind, not_null, default, *_ in connection.execute(f"PRAGMA table_info({table})"):
        definition = f"{name} {kind}"
        if not_null:
            definition += " NOT NULL"
        if default is not None:
            definition += f" DEFAULT {default}"
        columns.append((name, definition))
    return columns


# Transactions and errors


@contextmanager
def _transaction(connection: sqlite3.Connection, mode: _Mode) -> Generator[None]:
    connection.execute(f"BEGIN {mode}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Generator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


@contextmanager
def _mapped_errors() -> Generator[None]:
    try:
        yield
    except (UnicodeEncodeError, OverflowError, sqlite3.DataError, sqlite3.IntegrityError) as error:
        raise RowError(f"SQLite does not take it: {error}") from error
    except sqlite3.Error as error:
        # Extended result codes keep the primary one in the low octet.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise _ERRORS.get(code, Unavailable)(f"SQLite: {error}") from error


_ERRORS: Final[dict[int, type[StorageError]]] = {
    sqlite3.SQLITE_FULL: Full,
    sqlite3.SQLITE_CORRUPT: SchemaError,
    sqlite3.SQLITE_NOTADB: SchemaError,
    # "no such table" and the like: somebody changed the file under us.
    sqlite3.SQLITE_ERROR: SchemaError,
}


def _decoded(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
