"""The store in PostgreSQL, in Kamailio's own table, for any number of servers at a time.

Calls of different kinds go by different connections (:class:`msilo_storage.lanes.Lane`), so that none waits
for what it has nothing to do with:

========  =================  =================================================================
lane      calls              why alone
========  =================  =================================================================
append    append             a sender waits for its commit
look_up   look_up,           on the way of every message, and waits for no commit
          find_users
bind      bind               may wait for another server that changes the same user's bindings
deliver   dump, settle       in turn: what is settled is not leased again at the same moment
care      expire, list,      may take long; the connection is made at the first use
          check, users
========  =================  =================================================================

Two servers meet only in the rows of one user. Each statement that locks several rows does so in the order of owner and
number, on every server alike, so that they wait for each other but never in a circle; should one come about after all,
PostgreSQL breaks it and the call is made again. The statements are in :mod:`msilo_storage.postgres_work`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import anyio
import asyncpg

from msilo_core.actions import (
    Bind,
    Bound,
    Dump,
    Dumped,
    Expire,
    Expired,
    FindUser,
    LookedUp,
    LookUp,
    Message,
    Refused,
    Settle,
    Settled,
    StorageAction,
    StorageFailed,
    Store,
    Stored,
    UserFound,
)
from msilo_core.errors import LocalError, SchemaError
from msilo_core.uri import Aor, parse_aor
from msilo_core.users import User
from msilo_storage import postgres_work as work
from msilo_storage.bridge import AsyncioHost
from msilo_storage.lanes import Connection, Connector, Lane
from msilo_storage.protocol import StorageReport
from msilo_storage.rules import isolating_bad_rows
from msilo_storage.tables import SCHEMA_VERSION, TABLES, check_schema, schema_script
from msilo_storage.urls import redact

__all__ = ["PostgresStorage"]

A = TypeVar("A", bound=StorageAction)
C = TypeVar("C")

# Expiry and an operator's questions may take this much longer than a call that somebody waits for.
_CARE_PATIENCE: Final = 6

# An index of a table that Kamailio has filled for years takes its time.
_CREATE_TIMEOUT_S: Final = 3600.0


class PostgresStorage:
    """Messages and bindings in a PostgreSQL database whose tables exist.

    Args:
        url: as asyncpg takes it.
        node: name of this server, shown in ``pg_stat_activity``.
        connect_timeout_s: for a connection to one host.
        timeout_s: for a call. With `connect_timeout_s` it should stay within the engine's ``Limits.storage_ms``, so
            that the log gets the reason rather than a timeout.
    """

    def __init__(self, url: str, *, node: str = "", connect_timeout_s: float = 3.0, timeout_s: float = 5.0) -> None:
        self._url = url
        self._connector = Connector(url, name=f"msilo {node}".rstrip(), timeout_s=connect_timeout_s)
        self._timeout_s = timeout_s
        self._host = AsyncioHost()
        self._open_lanes: _Lanes | None = None

    async def __aenter__(self) -> Self:
        self._host.open()
        self._open_lanes = _Lanes(
            append=Lane(self._connector, self._timeout_s),
            look_up=Lane(self._connector, self._timeout_s),
            bind=Lane(self._connector, self._timeout_s),
            deliver=Lane(self._connector, self._timeout_s),
            care=Lane(self._connector, _CARE_PATIENCE * self._timeout_s),
        )
        try:
            await self._host.run(self._lane.look_up.run, self._check_schema)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lanes, self._open_lanes = self._lane, None
        await self._close(*lanes)

    async def create_schema(self) -> None:
        """Make what is missing, in one transaction; the store must not be open.

        Raises:
            SchemaError: what is there is not Kamailio's table of version 8, or may not be changed.
            Unavailable: the database cannot be reached.
        """
        lane = Lane(self._connector, _CREATE_TIMEOUT_S)
        self._host.open()
        try:
            await self._host.run(lane.run, _create_schema)
            await self._host.run(lane.run, self._check_schema)
        finally:
            await self._close(lane)

    async def append(self, stores: Sequence[Store]) -> list[Stored | StorageFailed]:
        """See :meth:`msilo_storage.Storage.append`."""
        return await self._host.run(_carry_out, self._lane.append, work.append, stores)

    async def look_up(self, lookups: Sequence[LookUp]) -> list[LookedUp | StorageFailed]:
        """See :meth:`msilo_storage.Storage.look_up`."""
        return await self._host.run(_carry_out, self._lane.look_up, work.look_up, lookups)

    async def bind(self, binds: Sequence[Bind]) -> list[Bound | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.bind`."""
        return await self._host.run(_carry_out, self._lane.bind, work.bind, binds)

    async def dump(self, dumps: Sequence[Dump]) -> list[Dumped | StorageFailed]:
        """See :meth:`msilo_storage.Storage.dump`."""
        return await self._host.run(_carry_out, self._lane.deliver, work.dump, dumps)

    async def settle(self, settles: Sequence[Settle]) -> list[Settled | StorageFailed]:
        """See :meth:`msilo_storage.Storage.settle`."""
        return await self._host.run(_carry_out, self._lane.deliver, work.settle, settles)

    async def expire(self, expires: Sequence[Expire]) -> list[Expired | StorageFailed]:
        """See :meth:`msilo_storage.Storage.expire`."""
        return await self._host.run(_carry_out, self._lane.care, work.expire, expires)

    async def find_users(self, finds: Sequence[FindUser]) -> list[UserFound | StorageFailed]:
        """See :meth:`msilo_storage.Users.find_users`."""
        return await self._host.run(_carry_out, self._lane.look_up, work.find_users, finds)

    async def add_user(self, user: User) -> bool:
        """See :meth:`msilo_storage.Users.add_user`."""
        return await self._host.run(self._lane.care.run, partial(work.add_user, user=user))

    async def remove_user(self, owner: Aor) -> bool:
        """See :meth:`msilo_storage.Users.remove_user`."""
        return await self._host.run(self._lane.care.run, partial(work.remove_user, owner=owner))

    async def list_users(self, *, after: Aor | None = None, limit: int = 100) -> list[User]:
        """See :meth:`msilo_storage.Users.list_users`."""
        return await self._host.run(self._lane.care.run, partial(work.list_users, after=after, limit=limit))

    async def list(
        self, owner: str | None = None, *, after: int = 0, limit: int = 100, dead: bool = False
    ) -> list[Message]:
        """See :meth:`msilo_storage.Storage.list`."""
        aor = None if owner is None else parse_aor(owner)
        ask = partial(work.list_messages, owner=aor, after=after, limit=limit, dead=dead)
        return await self._host.run(self._lane.care.run, ask)

    async def check(self) -> StorageReport:
        """See :meth:`msilo_storage.Storage.check`."""
        return await self._host.run(self._lane.care.run, self._report)

    @property
    def _lane(self) -> "_Lanes":
        if self._open_lanes is None:
            raise LocalError("the store is not open")
        return self._open_lanes

    async def _close(self, *lanes: Lane) -> None:
        with anyio.CancelScope(shield=True):
            await self._host.run(_close_all, lanes)
            await self._host.close()

    async def _check_schema(self, connection: Connection) -> None:
        columns = {table: [row[0] for row in await connection.fetch(_COLUMNS, table)] for table in TABLES}
        version = await connection.fetchval(_VERSION) if columns["version"] else None
        check_schema(redact(self._url), columns, version)

    async def _report(self, connection: Connection) -> StorageReport:
        await self._check_schema(connection)
        row = await connection.fetchrow(_COUNT)
        assert row is not None
        return StorageReport(
            url=redact(self._url), version=SCHEMA_VERSION, messages=row[0], dead=row[1], bindings=row[2], users=row[3]
        )


class _Lanes(NamedTuple):
    append: Lane
    look_up: Lane
    bind: Lane
    deliver: Lane
    care: Lane


async def _close_all(lanes: Iterable[Lane]) -> None:
    await asyncio.gather(*(lane.close() for lane in lanes))


async def _carry_out(
    lane: Lane, function: Callable[[Connection, Sequence[A]], Awaitable[list[C]]], batch: Sequence[A]
) -> list[C | StorageFailed]:
    return await isolating_bad_rows(lambda part: lane.run(lambda connection: function(connection, part)), batch)


# The schema


_COLUMNS: Final = """
    SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""
_VERSION: Final = "SELECT table_version FROM version WHERE table_name = 'silo'"
_COUNT: Final = """
    SELECT count(*) FILTER (WHERE status = 0), count(*) FILTER (WHERE status <> 0),
        (SELECT count(*) FROM silo_location), (SELECT count(*) FROM subscriber)
    FROM silo
"""


async def _create_schema(connection: Connection) -> None:
    # Statements in one string are one transaction.
    try:
        await connection.execute(schema_script("postgres"))
    except asyncpg.InsufficientPrivilegeError as error:
        reason, *_ = str(error).splitlines()
        raise SchemaError(f"PostgreSQL: {reason}: run `msilo db init` once as a user who may do that") from error
