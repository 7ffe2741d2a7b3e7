"""From a storage URL to a store."""

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from msilo_core.errors import LocalError
from msilo_storage.memory import MemoryStorage
from msilo_storage.protocol import Storage
from msilo_storage.sqlite import SqliteStorage

if TYPE_CHECKING:
    from msilo_storage.postgres import PostgresStorage

__all__ = ["create_schema", "open_store", "redact"]


def open_store(url: str, *, node: str = "", create: bool = True) -> Storage:
    """Return the store of a URL; entering it opens it, in the event loop, asyncio's or trio's, that runs then.

    Args:
        url: ``memory:``, ``sqlite:///relative.db``, ``sqlite:////absolute/path.db``, or ``postgresql://…`` in any form
            that asyncpg knows. Of several hosts the first that answers is taken; where one of them may be a standby,
            ``target_session_attrs=read-write`` passes it over.
        node: name of this server, for those who look at the database; PostgreSQL shows it in pg_stat_activity.
        create: whether an SQLite file that is missing is made. PostgreSQL's tables are only made by
            :func:`create_schema`.

    Raises:
        LocalError: the URL is none of these, or what its database needs is not installed; the text says what to do.
    """
    if url == "memory:":
        return MemoryStorage()
    if url.startswith("sqlite:"):
        return SqliteStorage(_sqlite_path(url), create=create)
    if url.startswith(_POSTGRESQL):
        return _postgres_storage(url, node)
    raise LocalError(f"{redact(url)!r} is not a storage URL: give {_FORMS}")


async def create_schema(url: str) -> None:
    """Make the tables that are missing, and in a table of Kamailio's our columns; what is there stays as it is.

    Raises:
        LocalError: see :func:`open_store`.
        SchemaError: what is there is not Kamailio's table of version 8, or may not be changed.
        Unavailable: the database cannot be reached.
    """
    if url.startswith(_POSTGRESQL):
        await _postgres_storage(url).create_schema()
    else:
        async with open_store(url):
            pass


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


def _sqlite_path(url: str) -> str:
    path = url.removeprefix("sqlite:///")
    if path == url or not path:
        raise LocalError(f"{url!r} names no file: give sqlite:///relative.db or sqlite:////absolute/path.db")
    if path == ":memory:":
        raise LocalError("SQLite's :memory: is not shared between connections: give memory:")
    return path


def _postgres_storage(url: str, node: str = "") -> "PostgresStorage":
    if find_spec("asyncpg") is None:
        raise LocalError("PostgreSQL needs asyncpg: run `pip install 'msilo[postgres]'`")
    # Imported where it is needed: asyncpg is an extra, and takes a while to load.
    from msilo_storage.postgres import PostgresStorage

    return PostgresStorage(url, node=node)
