"""The store in one SQLite file: no server, and every commit on the disk before it is answered.

One thread owns the connection that writes, and makes each batch one transaction; a second owns one that only
reads. In write-ahead mode readers see the last commit and never wait for the next, so that finding out where
a user is registered costs no more while messages are being stored. A third answers an operator, whose questions may
take long. ``synchronous=FULL`` is the only setting:
with a batch to each commit it costs little, and without it a commit is not durable.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Concatenate, Final, Literal, ParamSpec, Self, TypeVar

import anyio

from msilo_core.actions import (
    Bind,
    Bound,
    Due,
    Dump,
    Dumped,
    Expire,
    Expired,
    FindUser,
    LookedUp,
    LookUp,
    Message,
    Refused,
    Remind,
    Renew,
    Renewed,
    Retry,
    Settle,
    Settled,
    StorageAction,
    StorageFailed,
    Store,
    Stored,
    Unbind,
    Unbound,
    UserFound,
)
from msilo_core.errors import Full, LocalError, SchemaError, StorageError, Unavailable
from msilo_core.uri import Aor, parse_aor
from msilo_core.users import User
from msilo_storage import sqlite_operators as operators
from msilo_storage import sqlite_work as work
from msilo_storage.bridge import Worker
from msilo_storage.inspection import Examination, Progress, check_schema, examination_of, remedy
from msilo_storage.operators import SWEEP_ROWS_MAX, Entry, Sweep, Totals
from msilo_storage.protocol import StorageReport
from msilo_storage.rules import (
    RowError,
    isolating_bad_rows,
)
from msilo_storage.sqlite_schema import found_in, make_schema
from msilo_storage.tables import DEFAULT_NAMES, SCHEMA_VERSION, Sql, TableNames

__all__ = ["SqliteStorage"]

A = TypeVar("A", bound=StorageAction)
C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")

_BUSY_POLL_S: Final = 0.005


class SqliteStorage:
    """Messages and bindings in one file.

    Args:
        path: the file; its directory must exist.
        create: make the file, for nobody else to read, and its tables where they are missing; otherwise entering
            raises SchemaError then.
        busy_timeout_s: how long a batch waits for another program that writes to the file, before Unavailable.
        names: of the table and its columns.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = True,
        busy_timeout_s: float = 5.0,
        names: TableNames = DEFAULT_NAMES,
    ) -> None:
        self._path = Path(path)
        self._create = create
        self._busy_timeout_s = busy_timeout_s
        self._sql = Sql(names)
        self._writer = _Connection("msilo-sqlite-write", "IMMEDIATE")
        self._reader = _Connection("msilo-sqlite-read", "DEFERRED")
        self._operators = _Connection("msilo-sqlite-ask", "DEFERRED")

    async def __aenter__(self) -> Self:
        try:
            await self._writer.open(partial(self._open_writer, self._create))
            await self._reader.open(self._open_reader)
            await self._operators.open(self._open_reader)
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

    async def create_schema(self, *, progress: Progress | None = None, only_existing: bool = False) -> None:
        """Make what is missing, in one transaction; the store must not be open.

        Args:
            progress: told how far it is, in another thread.
            only_existing: there must be a table of Kamailio's already.

        Raises:
            SchemaError: what is there is not Kamailio's table of version 8, or may not be changed.
            Unavailable: other programs hold the file.
        """
        try:
            await self._writer.open(partial(self._open_writer, True, only_existing, progress))
        finally:
            await self._close()

    async def examine(self) -> Examination:
        """Say what the file has; the store must not be open.

        Raises:
            SchemaError: there is no such file, or it is no database.
        """
        try:
            await self._reader.open(self._open_reader)
            return await self._reader.run(self._examination)
        finally:
            await self._close()

    async def append(self, stores: Sequence[Store]) -> list[Stored | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.append`."""
        return await self._writer.carry_out(partial(work.append, sql=self._sql), stores)

    async def look_up(self, lookups: Sequence[LookUp]) -> list[LookedUp | StorageFailed]:
        """See :meth:`msilo_storage.Storage.look_up`."""
        return await self._reader.carry_out(partial(work.look_up, sql=self._sql), lookups)

    async def bind(self, binds: Sequence[Bind]) -> list[Bound | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.bind`."""
        return await self._writer.carry_out(partial(work.bind, sql=self._sql), binds)

    async def unbind(self, unbinds: Sequence[Unbind]) -> list[Unbound | StorageFailed]:
        """See :meth:`msilo_storage.Storage.unbind`."""
        return await self._writer.carry_out(partial(work.unbind, sql=self._sql), unbinds)

    async def dump(self, dumps: Sequence[Dump]) -> list[Dumped | StorageFailed]:
        """See :meth:`msilo_storage.Storage.dump`."""
        return await self._writer.carry_out(partial(work.dump, sql=self._sql), dumps)

    async def renew(self, renewals: Sequence[Renew]) -> list[Renewed | StorageFailed]:
        """See :meth:`msilo_storage.Storage.renew`."""
        return await self._writer.carry_out(partial(work.renew, sql=self._sql), renewals)

    async def settle(self, settles: Sequence[Settle]) -> list[Settled | StorageFailed]:
        """See :meth:`msilo_storage.Storage.settle`."""
        return await self._writer.carry_out(partial(work.settle, sql=self._sql), settles)

    async def expire(self, expires: Sequence[Expire]) -> list[Expired | StorageFailed]:
        """See :meth:`msilo_storage.Storage.expire`."""
        return await self._writer.carry_out(partial(work.expire, sql=self._sql), expires)

    async def remind(self, reminds: Sequence[Remind]) -> list[Due | StorageFailed]:
        """See :meth:`msilo_storage.Storage.remind`."""
        return await self._writer.carry_out(partial(work.remind, sql=self._sql), reminds)

    async def retry(self, retries: Sequence[Retry]) -> list[Due | StorageFailed]:
        """See :meth:`msilo_storage.Storage.retry`."""
        return await self._writer.carry_out(partial(work.retry, sql=self._sql), retries)

    async def find_users(self, finds: Sequence[FindUser]) -> list[UserFound | StorageFailed]:
        """See :meth:`msilo_storage.Users.find_users`."""
        return await self._reader.carry_out(work.find_users, finds)

    async def add_user(self, user: User) -> bool:
        """See :meth:`msilo_storage.Users.add_user`."""
        return await self._writer.run(work.add_user, user)

    async def remove_user(self, owner: Aor) -> bool:
        """See :meth:`msilo_storage.Users.remove_user`."""
        return await self._writer.run(work.remove_user, owner)

    async def list_users(self, *, after: Aor | None = None, limit: int = 100) -> list[User]:
        """See :meth:`msilo_storage.Users.list_users`."""
        return await self._reader.run(work.list_users, after, limit)

    async def list(
        self, owner: str | None = None, *, after: int = 0, limit: int = 100, dead: bool = False
    ) -> list[Message]:
        """See :meth:`msilo_storage.Storage.list`."""
        aor = None if owner is None else parse_aor(owner)
        return await self._operators.run(operators.list_messages, self._sql, aor, after, limit, dead)

    async def find(self, message_id: int) -> Entry | None:
        """See :meth:`msilo_storage.Storage.find`."""
        return await self._operators.run(operators.find, self._sql, message_id)

    async def requeue(
        self,
        message_ids: Sequence[int] | None = None,
        *,
        owner: str | None = None,
        after: int = 0,
        limit: int = SWEEP_ROWS_MAX,
    ) -> Sweep:
        """See :meth:`msilo_storage.Storage.requeue`."""
        aor = None if owner is None else parse_aor(owner)
        return await self._writer.run(operators.requeue, self._sql, message_ids, aor, after, limit)

    async def purge(
        self,
        message_ids: Sequence[int] | None = None,
        *,
        owner: str | None = None,
        received_before_s: int | None = None,
        waiting: bool = False,
        after: int = 0,
        limit: int = SWEEP_ROWS_MAX,
    ) -> Sweep:
        """See :meth:`msilo_storage.Storage.purge`."""
        aor = None if owner is None else parse_aor(owner)
        return await self._writer.run(
            operators.purge, self._sql, message_ids, aor, received_before_s, waiting, after, limit
        )

    async def stats(self, owner: str | None = None, *, owners_max: int = 10) -> Totals:
        """See :meth:`msilo_storage.Storage.stats`."""
        aor = None if owner is None else parse_aor(owner)
        return await self._operators.run(operators.stats, self._sql, aor, owners_max)

    async def check(self) -> StorageReport:
        """See :meth:`msilo_storage.Storage.check`."""
        return await self._operators.run(self._report)

    def _open_writer(
        self, make: bool, only_existing: bool = False, progress: Progress | None = None
    ) -> sqlite3.Connection:
        connection = self._connect()
        with _closed_on_error(connection):
            self._write_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL")
            try:
                self._check_schema(connection)
            except SchemaError:
                if not make:
                    raise
                with _transaction(connection, "IMMEDIATE"):
                    make_schema(connection, self._url, self._sql, only_existing, progress)
                self._check_schema(connection)
        return connection

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait here, where two that do the same would wait for each other.
        deadline_s = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.DatabaseError as error:
                # Extended result codes keep the primary one in the low octet.
                code = error.sqlite_errorcode & 0xFF
                if code in _UNUSABLE:
                    raise SchemaError(f"{self._path} {_UNUSABLE[code]}") from error
                if code != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline_s:
                    raise
                time.sleep(_BUSY_POLL_S)
            else:
                return

    def _open_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        with _closed_on_error(connection):
            connection.execute("PRAGMA query_only = ON")
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            self._look_for_file()
        except OSError as error:
            raise SchemaError(f"{self._path} cannot be written: {error.strerror}") from error
        try:
            connection = sqlite3.connect(self._path, timeout=self._busy_timeout_s, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise SchemaError(f"{self._path} {_UNUSABLE[sqlite3.SQLITE_CANTOPEN]}") from error
        # A row that another program wrote may hold any octets.
        connection.text_factory = _decoded
        return connection

    def _look_for_file(self) -> None:
        path = self._path
        if not path.parent.is_dir():
            raise SchemaError(f"the directory {path.parent} does not exist: create it")
        if path.is_dir():
            raise SchemaError(f"{path} cannot be written: it is a directory")
        if self._create:
            # What people write to each other is nobody else's business; SQLite itself would ask the umask. A file that
            # is there must not be opened: closing it would drop the locks that this process holds on it for SQLite,
            # and another program would take away the log under us.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        elif not path.exists():
            raise SchemaError(f"there is no {path}: {remedy('init', self._url, self._sql.names)}")

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        check_schema(self._url, "sqlite", self._sql, found_in(connection, self._sql.names))

    @property
    def _url(self) -> str:
        return f"sqlite:///{self._path}"

    def _report(self, connection: sqlite3.Connection) -> StorageReport:
        self._check_schema(connection)
        return self._count(connection)

    def _count(self, connection: sqlite3.Connection) -> StorageReport:
        messages, deferred, dead, bindings, users = connection.execute(self._sql(_COUNT)).fetchone()
        return StorageReport(
            url=self._url,
            version=SCHEMA_VERSION,
            messages=messages,
            deferred=deferred,
            dead=dead,
            bindings=bindings,
            users=users,
        )

    def _examination(self, connection: sqlite3.Connection) -> Examination:
        found = found_in(connection, self._sql.names)
        content, complaint = None, ""
        try:
            check_schema(self._url, "sqlite", self._sql, found)
            content = self._count(connection)
        except SchemaError as error:
            complaint = str(error)
        return examination_of(self._url, "sqlite", self._sql, found, content, complaint)

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._operators.close()
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


_COUNT: Final = (
    "SELECT count(*) FILTER (WHERE {status} = 0), count(*) FILTER (WHERE {status} = 0 AND {snd_time} > 0),"
    " count(*) FILTER (WHERE {status} <> 0 AND {status} <> 200),"
    " (SELECT count(*) FROM {silo_location}), (SELECT count(*) FROM subscriber)"
    " FROM {silo}"
)


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


# What is wrong with a file that is opened, by the primary result code.
_NOT_WRITABLE: Final = "cannot be written: let the user that this runs as write it, and its directory"
_UNUSABLE: Final = {
    sqlite3.SQLITE_NOTADB: "is not an SQLite database: give the name of one, or of a file that is not there",
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
}

_ERRORS: Final[dict[int, type[StorageError]]] = {
    sqlite3.SQLITE_FULL: Full,
    sqlite3.SQLITE_CORRUPT: SchemaError,
    sqlite3.SQLITE_NOTADB: SchemaError,
    # "no such table" and the like: somebody changed the file under us.
    sqlite3.SQLITE_ERROR: SchemaError,
}


def _decoded(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
