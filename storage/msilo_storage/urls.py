"""From a storage URL to a store."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from msilo_core.errors import LocalError
from msilo_storage.inspection import Examination
from msilo_storage.memory import MemoryStorage
from msilo_storage.protocol import Storage
from msilo_storage.sqlite import SqliteStorage
from msilo_storage.tables import DEFAULT_NAMES, TableNames

if TYPE_CHECKING:
    from msilo_storage.postgres import PostgresStorage

__all__ = ["create_schema", "examine", "open_store", "redact", "upgrade_schema"]


def open_store(url: str, *, node: str = "", create: bool = True, names: TableNames = DEFAULT_NAMES) -> Storage:
    """Return the store of a URL; entering it opens it, in the event loop, asyncio's or trio's, that runs then.

    Args:
        url: ``memory:``, ``sqlite:///relative.db``, ``sqlite:////absolute/path.db``, or ``postgresql://…`` in any form
            that asyncpg knows. Of several hosts the first that answers is taken; where one of them may be a standby,
            ``target_session_attrs=read-write`` passes it over.
        node: name of this server, for those who look at the database; PostgreSQL shows it in pg_stat_activity.
        create: whether an SQLite file that is missing is made. PostgreSQL's tables are only made by
            :func:`create_schema`.
        names: of the table and its columns, where they are not Kamailio's own.

    Raises:
        LocalError: the URL is none of these, or what its database needs is not installed; the text says what to do.
    """
    return _database(url, node, create, names) or MemoryStorage()


async def create_schema(url: str, *, names: TableNames = DEFAULT_NAMES) -> None:
    """Make the tables that are missing, and in a table of Kamailio's our columns; what is there stays as it is.

    Raises:
        LocalError: see :func:`open_store`.
        SchemaError: what is there is not Kamailio's table of version 8, or may not be changed.
        Unavailable: the database cannot be reached, or other programs hold the table.
    """
    store = _database(url, "", True, names)
    if store is not None:
        await store.create_schema()


async def upgrade_schema(
    url: str, *, names: TableNames = DEFAULT_NAMES, progress: Callable[[float], None] | None = None
) -> None:
    """Bring a table that Kamailio made, or an older one of ours, to what this release works with; or change nothing.

    All is one transaction. On PostgreSQL others can read the table until the first half of the indexes is made, and
    then not until the end; Kamailio waits, and goes on using the table afterwards. It is given up where another program
    does not let go of the table within 5 s.

    Args:
        url: see :func:`open_store`.
        names: of the table and its columns, where they are not Kamailio's own.
        progress: told how much is done, from 0 to 1; perhaps by another thread.

    Raises: as :func:`create_schema`; SchemaError also where there is no table.
    """
    store = _database(url, "", False, names)
    if store is not None:
        await store.create_schema(progress=progress, only_existing=True)


async def examine(url: str, *, names: TableNames = DEFAULT_NAMES) -> Examination:
    """Say what a database has, also where it is not ready.

    Raises:
        LocalError: see :func:`open_store`; or there is nothing to examine in ``memory:``.
        SchemaError: there is no such database, or we may not enter it.
        Unavailable: the database cannot be reached.
    """
    store = _database(url, "", False, names)
    if store is None:
        raise LocalError(f"{url} is gone when its program ends: give the URL of a database")
    return await store.examine()


def redact(url: str) -> str:
    """Return a storage URL with ``***`` in place of a password, for a log or an error message.

    What looks like a password only because the URL is malformed is hidden as well.
    """
    head, slashes, rest = url.partition("://")
    userinfo, at, hosts = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    if colon:
        rest = f"{user}:***{at}{hosts}"
    return head + slashes + _PASSWORD_PARAMETER.sub(r"\1***", rest)


_POSTGRESQL: Final = ("postgresql://", "postgres://")
_FORMS: Final = "memory:, sqlite:///relative.db, sqlite:////absolute/path.db or postgresql://user@host/database"
_PASSWORD_PARAMETER: Final = re.compile(r"(?<=[?&])((?:ssl)?password=)[^&]*", re.IGNORECASE)


def _database(url: str, node: str, create: bool, names: TableNames) -> "SqliteStorage | PostgresStorage | None":
    """Return the store of a URL; None for the one in memory."""
    if url == "memory:":
        return None
    if url.startswith("sqlite:"):
        return SqliteStorage(_sqlite_path(url), create=create, names=names)
    if url.startswith(_POSTGRESQL):
        return _postgres_storage(url, node, names)
    raise LocalError(f"{redact(url)!r} is not a storage URL: give {_FORMS}")


def _sqlite_path(url: str) -> str:
    path = url.removeprefix("sqlite:///")
    if path == url or not path:
        raise LocalError(f"{url!r} names no file: give sqlite:///relative.db or sqlite:////absolute/path.db")
    if path == ":memory:":
        raise LocalError("SQLite's :memory: is not shared between connections: give memory:")
    return path


def _postgres_storage(url: str, node: str, names: TableNames) -> "PostgresStorage":
    if find_spec("asyncpg") is None:
        raise LocalError("PostgreSQL needs asyncpg: run `pip install 'msilo[postgres]'`")
    # Imported where it is needed: asyncpg is an extra, and takes a while to load.
    from msilo_storage.postgres import PostgresStorage

    return PostgresStorage(url, node=node, names=names)
