"""The tables in PostgreSQL: what is there, and making what is missing of it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg

from msilo_core.errors import SchemaError, StorageError, Unavailable
from msilo_storage.inspection import Found, Progress, check_upgradable, remedy, statements_needed
from msilo_storage.lanes import Connection, Connector, transaction
from msilo_storage.tables import Sql, TableNames, columns_of_tables

__all__ = ["Upgrade", "found_in"]

# How often the server is asked how far it is.
_POLL_S: Final = 0.2


_DATABASE: Final = "SELECT split_part(version(), ' on ', 1)"
_KIND: Final = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass(quote_ident($1))"
# A length limit is kept as the limit and 4.
_COLUMNS: Final = """
    SELECT attname, atttypid = 'varchar'::regtype AND atttypmod <> -1
    FROM pg_attribute WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
"""
_INDEXES: Final = """
    SELECT index.relname FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
    WHERE indrelid IN (to_regclass(quote_ident($1)), to_regclass(quote_ident($2))) AND indisvalid
"""
_VERSION: Final = "SELECT table_version FROM version WHERE table_name = $1"
_DENIED: Final = """
    SELECT name || ' on ' || $1 FROM unnest($2::text[]) AS name
    WHERE NOT has_table_privilege(to_regclass(quote_ident($1)), name)
"""
_DENIED_NUMBERS: Final = """
    SELECT 'USAGE on ' || sequence FROM pg_get_serial_sequence(quote_ident($1), $2) AS sequence
    WHERE NOT has_sequence_privilege(sequence, 'USAGE')
"""
_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")


async def found_in(connection: Connection, names: TableNames) -> Found:
    """Return what a database has."""
    columns: dict[str, list[str]] = {}
    narrow: list[str] = []
    views: list[str] = []
    denied: list[str] = []
    for table in columns_of_tables(names):
        kind = await connection.fetchval(_KIND, table)
        # An ordinary one, or one in partitions.
        if kind not in (None, "r", "p"):
            views.append(table)
        rows = await connection.fetch(_COLUMNS, table)
        columns[table] = [name for name, _ in rows]
        if rows:
            rights = _RIGHTS if table in (names.table, names.location) else ("SELECT",)
            denied += [row[0] for row in await connection.fetch(_DENIED, table, rights)]
        if table in (names.table, "subscriber"):
            widened = {"username", "domain"} if table == "subscriber" else {*columns[table]}
            narrow += [f"{table}.{name}" for name, is_narrow in rows if is_narrow and name in widened]
    if names.id in columns[names.table] and not views:
        denied += [row[0] for row in await connection.fetch(_DENIED_NUMBERS, names.table, names.id)]
    version = None
    if columns["version"] and "SELECT on version" not in denied:
        version = await connection.fetchval(_VERSION, names.table)
    return Found(
        database=await connection.fetchval(_DATABASE),
        columns=columns,
        narrow=tuple(narrow),
        indexes=[row[0] for row in await connection.fetch(_INDEXES, names.table, names.location)],
        views=tuple(views),
        version=version,
        denied=tuple(denied),
    )


class Upgrade:
    """Makes what is missing, in one transaction.

    Args:
        url: the storage URL without a password, for complaints.
        sql: names of the table and its columns.
        connector: for a second connection, which sees how far the first is.
        progress: told how far it is; nobody if None.
        only_existing: there must be a table of Kamailio's already.
        lock_timeout_ms: how long to wait for other programs to let go of the table.
    """

    def __init__(
        self,
        url: str,
        sql: Sql,
        connector: Connector,
        progress: Progress | None,
        only_existing: bool,
        lock_timeout_ms: int,
    ) -> None:
        self._url = url
        self._sql = sql
        self._connector = connector
        self._progress = progress
        self._only_existing = only_existing
        self._lock_timeout_ms = lock_timeout_ms
        # What is done before the statement that runs, its share of all, and the most that was told.
        self._done = self._share = self._told = 0.0

    async def run(self, connection: Connection) -> None:
        """Do it; to be given to a lane.

        Raises:
            SchemaError: what is there is not Kamailio's table of version 8, or may not be changed.
            Unavailable: other programs hold the table.
        """
        names = self._sql.names
        found = await found_in(connection, names)
        if self._only_existing and not found.columns[names.table]:
            raise SchemaError(f"{self._url} lacks table {names.table}: {remedy('init', self._url, names)}")
        check_upgradable(self._url, names, found)
        statements = statements_needed("postgres", self._sql, found)
        if not statements:
            return
        try:
            async with transaction(connection):
                await connection.execute(f"SET LOCAL lock_timeout = {self._lock_timeout_ms}")
                if found.columns[names.table]:
                    # Two upgrades take turns; later locks of one then meet no lock of the other.
                    await connection.execute(self._sql("LOCK TABLE {silo} IN SHARE ROW EXCLUSIVE MODE"))
                    statements += await self._superfluous(connection)
                async with self._watched(connection):
                    for place, statement in enumerate(statements):
                        self._step(place / len(statements), 1 / len(statements))
                        await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError as error:
            reason, *_ = str(error).splitlines()
            command = "upgrade" if self._only_existing else "init"
            raise SchemaError(
                f"PostgreSQL: {reason}: run `msilo db {command}` once as a user who may do that"
            ) from error
        except asyncpg.LockNotAvailableError as error:
            raise Unavailable(
                f"another program has held table {names.table} of {self._url} for {self._lock_timeout_ms / 1000:g} s, "
                "nothing was changed: try again when its transaction has ended"
            ) from error
        self._step(1, 0)

    async def _superfluous(self, connection: Connection) -> list[str]:
        names = self._sql.names
        rows = await connection.fetch(_ACCOUNT_INDEXES, names.table, [names.username, names.domain])
        return [f"DROP INDEX {name}" for (name,) in rows]

    def _step(self, done: float, share: float) -> None:
        self._done, self._share = done, share
        self._tell(0)

    def _tell(self, part: float) -> None:
        # What is said of a statement may come when the next has begun.
        self._told = max(self._told, self._done + self._share * part)
        if self._progress is not None:
            self._progress(self._told)

    @asynccontextmanager
    async def _watched(self, connection: Connection) -> AsyncGenerator[None]:
        if self._progress is None:
            yield
            return
        watch = asyncio.create_task(self._watch(connection.get_server_pid()))
        try:
            yield
        finally:
            watch.cancel()
            # What it has to say is worth nothing now, and no reason to fail.
            with suppress(asyncio.CancelledError, OSError, StorageError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await watch

    async def _watch(self, pid: int) -> None:
        connection = await self._connector.connect(_WATCH_TIMEOUT_S)
        try:
            while True:
                part = await connection.fetchval(_INDEX_PROGRESS, pid)
                if part is not None:
                    self._tell(part)
                await asyncio.sleep(_POLL_S)
        finally:
            connection.terminate()


_WATCH_TIMEOUT_S: Final = 5.0

# Kamailio's index of (username, domain), whatever it is called.
_ACCOUNT_INDEXES: Final = """
    SELECT indexrelid::regclass::text FROM pg_index
    WHERE indrelid = to_regclass(quote_ident($1)) AND NOT indisunique AND indpred IS NULL AND indexprs IS NULL
        AND $2::text[] = ARRAY(
            SELECT attname::text FROM unnest(indkey) WITH ORDINALITY AS key (number, n)
            JOIN pg_attribute ON attrelid = indrelid AND attnum = number
            ORDER BY n
        )
"""
# Reading the table is about half of it, sorting and writing the rest.
_INDEX_PROGRESS: Final = """
    SELECT (
        coalesce(blocks_done::float / nullif(blocks_total, 0), 0)
        + coalesce(tuples_done::float / nullif(tuples_total, 0), 0)
    ) / 2
    FROM pg_stat_progress_create_index WHERE pid = $1
"""
