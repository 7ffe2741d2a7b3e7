"""The store in PostgreSQL, in Kamailio's own table, for any number of servers at a time.

Calls of different kinds go by different connections (:class:`msilo_storage.lanes.Lane`), so that none waits
for what it has nothing to do with:

========  =================  =================================================================
lane      calls              why alone
========  =================  =================================================================
append    append             a sender waits for its commit
look_up   look_up,           on the way of every message, and waits for no commit
          find_users
bind      bind, unbind       may wait for another server that changes the same user's bindings
deliver   dump, renew,       in turn: what is settled is not leased again at the same moment
          settle
care      expire, remind,    may take long; the connection is made at the first use
          retry, list, find,
          requeue, purge, stats,
          check, users
========  =================  =================================================================

Two servers meet only in the rows of one user. Each statement that locks several rows does so in the order of owner,
those that are not deferred first, and number, on every server alike, so that they wait for each other but never in a
circle, or passes over what is locked; should a circle come about after all, PostgreSQL breaks it and the call is made
again. The statements are in :mod:`msilo_storage.postgres_work`, :mod:`msilo_storage.postgres_bindings`,
:mod:`msilo_storage.postgres_delivery` and :mod:`msilo_storage.postgres_operators`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

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
from msilo_core.errors import LocalError, SchemaError
from msilo_core.uri import Aor, parse_aor
from msilo_core.users import User
from msilo_storage import postgres_bindings as bindings
from msilo_storage import postgres_delivery as delivery
from msilo_storage import postgres_operators as operators
from msilo_storage import postgres_work as work
from msilo_storage.bridge import AsyncioHost
from msilo_storage.inspection import Examination, Progress, check_schema, examination_of
from msilo_storage.lanes import Connection, Connector, Lane
from msilo_storage.operators import SWEEP_ROWS_MAX, Entry, Sweep, Totals
from msilo_storage.postgres_schema import Upgrade, found_in
from msilo_storage.protocol import StorageReport
from msilo_storage.rules import isolating_bad_rows
from msilo_storage.tables import DEFAULT_NAMES, SCHEMA_VERSION, Sql, TableNames
from msilo_storage.urls import redact

__all__ = ["PostgresStorage"]

A = TypeVar("A", bound=StorageAction)
C = TypeVar("C")
R = TypeVar("R")

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
        names: of the table and its columns.
    """

    def __init__(
        self,
        url: str,
        *,
        node: str = "",
        connect_timeout_s: float = 3.0,
        timeout_s: float = 5.0,
        names: TableNames = DEFAULT_NAMES,
    ) -> None:
        self._url = url
        self._connector = Connector(url, name=f"msilo {node}".rstrip(), timeout_s=connect_timeout_s)
        self._timeout_s = timeout_s
        self._sql = Sql(names)
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

    async def create_schema(
        self, *, progress: Progress | None = None, only_existing: bool = False, lock_timeout_s: float = 5.0
    ) -> None:
        """Make what is missing, in one transaction; the store must not be open.

        Args:
            progress: told how far it is.
            only_existing: there must be a table of Kamailio's already.
            lock_timeout_s: how long to wait for other programs to let go of the table.

        Raises:
            SchemaError: what is there is not Kamailio's table of version 8, or may not be changed.
            Unavailable: the database cannot be reached, or other programs hold the table.
        """
        upgrade = Upgrade(
            redact(self._url), self._sql, self._connector, progress, only_existing, round(1000 * lock_timeout_s)
        )
        await self._alone(_CREATE_TIMEOUT_S, upgrade.run)
        await self._alone(_CREATE_TIMEOUT_S, self._check_schema)

    async def examine(self) -> Examination:
        """Say what the database has; the store must not be open.

        Raises:
            SchemaError: there is no such database, or we may not enter it.
            Unavailable: the database cannot be reached.
        """
        return await self._alone(_CARE_PATIENCE * self._timeout_s, self._examination)

    async def _alone(self, timeout_s: float, function: Callable[[Connection], Awaitable[R]]) -> R:
        lane = Lane(self._connector, timeout_s)
        self._host.open()
        try:
            return await self._host.run(lane.run, function)
        finally:
            await self._close(lane)

    async def append(self, stores: Sequence[Store]) -> list[Stored | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.append`."""
        return await self._host.run(_carry_out, self._lane.append, partial(work.append, sql=self._sql), stores)

    async def look_up(self, lookups: Sequence[LookUp]) -> list[LookedUp | StorageFailed]:
        """See :meth:`msilo_storage.Storage.look_up`."""
        return await self._host.run(_carry_out, self._lane.look_up, partial(bindings.look_up, sql=self._sql), lookups)

    async def bind(self, binds: Sequence[Bind]) -> list[Bound | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.bind`."""
        return await self._host.run(_carry_out, self._lane.bind, partial(bindings.bind, sql=self._sql), binds)

    async def unbind(self, unbinds: Sequence[Unbind]) -> list[Unbound | StorageFailed]:
        """See :meth:`msilo_storage.Storage.unbind`."""
        return await self._host.run(_carry_out, self._lane.bind, partial(bindings.unbind, sql=self._sql), unbinds)

    async def dump(self, dumps: Sequence[Dump]) -> list[Dumped | StorageFailed]:
        """See :meth:`msilo_storage.Storage.dump`."""
        return await self._host.run(_carry_out, self._lane.deliver, partial(delivery.dump, sql=self._sql), dumps)

    async def renew(self, renewals: Sequence[Renew]) -> list[Renewed | StorageFailed]:
        """See :meth:`msilo_storage.Storage.renew`."""
        return await self._host.run(_carry_out, self._lane.deliver, partial(delivery.renew, sql=self._sql), renewals)

    async def settle(self, settles: Sequence[Settle]) -> list[Settled | StorageFailed]:
        """See :meth:`msilo_storage.Storage.settle`."""
        return await self._host.run(_carry_out, self._lane.deliver, partial(delivery.settle, sql=self._sql), settles)

    async def expire(self, expires: Sequence[Expire]) -> list[Expired | StorageFailed]:
        """See :meth:`msilo_storage.Storage.expire`."""
        return await self._host.run(_carry_out, self._lane.care, partial(work.expire, sql=self._sql), expires)

    async def remind(self, reminds: Sequence[Remind]) -> list[Due | StorageFailed]:
        """See :meth:`msilo_storage.Storage.remind`."""
        return await self._host.run(_carry_out, self._lane.care, partial(work.remind, sql=self._sql), reminds)

    async def retry(self, retries: Sequence[Retry]) -> list[Due | StorageFailed]:
        """See :meth:`msilo_storage.Storage.retry`."""
        return await self._host.run(_carry_out, self._lane.care, partial(delivery.retry, sql=self._sql), retries)

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
        ask = partial(operators.list_messages, sql=self._sql, owner=aor, after=after, limit=limit, dead=dead)
        return await self._host.run(self._lane.care.run, ask)

    async def find(self, message_id: int) -> Entry | None:
        """See :meth:`msilo_storage.Storage.find`."""
        ask = partial(operators.find, sql=self._sql, message_id=message_id)
        return await self._host.run(self._lane.care.run, ask)

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
        ask = partial(operators.requeue, sql=self._sql, message_ids=message_ids, owner=aor, after=after, limit=limit)
        return await self._host.run(self._lane.care.run, ask)

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
        ask = partial(
            operators.purge,
            sql=self._sql,
            message_ids=message_ids,
            owner=None if owner is None else parse_aor(owner),
            received_before_s=received_before_s,
            waiting=waiting,
            after=after,
            limit=limit,
        )
        return await self._host.run(self._lane.care.run, ask)

    async def stats(self, owner: str | None = None, *, owners_max: int = 10) -> Totals:
        """See :meth:`msilo_storage.Storage.stats`."""
        aor = None if owner is None else parse_aor(owner)
        ask = partial(operators.stats, sql=self._sql, owner=aor, owners_max=owners_max)
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
        check_schema(redact(self._url), "postgres", self._sql, await found_in(connection, self._sql.names))

    async def _report(self, connection: Connection) -> StorageReport:
        await self._check_schema(connection)
        return await self._count(connection)

    async def _count(self, connection: Connection) -> StorageReport:
        row = await connection.fetchrow(self._sql(_COUNT))
        assert row is not None
        return StorageReport(
            url=redact(self._url),
            version=SCHEMA_VERSION,
            messages=row[0],
            deferred=row[1],
            dead=row[2],
            bindings=row[3],
            users=row[4],
        )

    async def _examination(self, connection: Connection) -> Examination:
        url = redact(self._url)
        found = await found_in(connection, self._sql.names)
        content, complaint = None, ""
        try:
            check_schema(url, "postgres", self._sql, found)
            content = await self._count(connection)
        except SchemaError as error:
            complaint = str(error)
        return examination_of(url, "postgres", self._sql, found, content, complaint)


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


_COUNT: Final = """
    SELECT
        count(*) FILTER (WHERE silo.{status} = 0),
        count(*) FILTER (WHERE silo.{status} = 0 AND silo.{snd_time} > 0),
        count(*) FILTER (WHERE silo.{status} <> 0 AND silo.{status} <> 200),
        (SELECT count(*) FROM {silo_location}), (SELECT count(*) FROM subscriber)
    FROM {silo} AS silo
"""
