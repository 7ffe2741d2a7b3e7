"""The store in PostgreSQL, in Kamailio's own table, for any number of servers at a time.

Calls of different kinds go by different connections (:class:`msilo_storage.lanes.Lane`), so that none waits
for what it has nothing to do with:

========  =================  =================================================================
lane      calls              why alone
========  =================  =================================================================
append    append             a sender waits for its commit
look_up   look_up            on the way of every message, and waits for no commit
bind      bind               may wait for another server that changes the same user's bindings
deliver   dump, settle       in turn: what is settled is not leased again at the same moment
care      expire, list,      may take long; the connection is made at the first use
          check
========  =================  =================================================================

Two servers meet only in the rows of one user. Each statement that locks several rows does so in the order of
owner and number, on every server alike, so that they wait for each other but never in a circle; should one
come about after all, PostgreSQL breaks it and the call is made again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import anyio
import msgspec

from msilo_core.actions import (
    Bind,
    Binding,
    Bound,
    Dump,
    Dumped,
    Expire,
    Expired,
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
)
from msilo_core.errors import LocalError
from msilo_core.registrar import Rejection, preferred
from msilo_core.uri import Aor, parse_aor
from msilo_storage.bridge import AsyncioHost
from msilo_storage.lanes import Connection, Connector, Lane, transaction
from msilo_storage.protocol import StorageReport
from msilo_storage.rows import (
    BINDING_COLUMNS,
    MESSAGE_COLUMNS,
    NEW_MESSAGE_COLUMNS,
    binding_from,
    binding_values,
    message_from,
    message_values,
    repeat_key,
    text_of,
)
from msilo_storage.rules import (
    EXPIRE_ROWS_MAX,
    Inventory,
    fold,
    isolating_bad_rows,
    legible,
    status_after,
)
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
        return await self._host.run(_carry_out, self._lane.append, _append, stores)

    async def look_up(self, lookups: Sequence[LookUp]) -> list[LookedUp | StorageFailed]:
        """See :meth:`msilo_storage.Storage.look_up`."""
        return await self._host.run(_carry_out, self._lane.look_up, _look_up, lookups)

    async def bind(self, binds: Sequence[Bind]) -> list[Bound | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.bind`."""
        return await self._host.run(_carry_out, self._lane.bind, _bind, binds)

    async def dump(self, dumps: Sequence[Dump]) -> list[Dumped | StorageFailed]:
        """See :meth:`msilo_storage.Storage.dump`."""
        return await self._host.run(_carry_out, self._lane.deliver, _dump, dumps)

    async def settle(self, settles: Sequence[Settle]) -> list[Settled | StorageFailed]:
        """See :meth:`msilo_storage.Storage.settle`."""
        return await self._host.run(_carry_out, self._lane.deliver, _settle, settles)

    async def expire(self, expires: Sequence[Expire]) -> list[Expired | StorageFailed]:
        """See :meth:`msilo_storage.Storage.expire`."""
        return await self._host.run(_carry_out, self._lane.care, _expire, expires)

    async def list(
        self, owner: str | None = None, *, after: int = 0, limit: int = 100, dead: bool = False
    ) -> list[Message]:
        """See :meth:`msilo_storage.Storage.list`."""
        aor = None if owner is None else parse_aor(owner)
        ask = partial(_list, owner=aor, after=after, limit=limit, dead=dead)
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
            url=redact(self._url), version=SCHEMA_VERSION, messages=row[0], dead=row[1], bindings=row[2]
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


# What a batch does


# Parameters: a column of each of NEW_MESSAGE_COLUMNS, then the value of each of _OFTEN_SHARED if the rows share it; its
# column is then empty, which the driver encodes a third quicker. A repeat is counted in the row that is there, which is
# how the number of that comes back from the same statement. `extra_hdrs` is written as Kamailio's blob encoder does.
_NEW_COLUMNS: Final = ", ".join(NEW_MESSAGE_COLUMNS)
_OFTEN_SHARED: Final = ("domain", "inc_time", "exp_time", "snd_time", "ctype", "cseq", "date_hdr", "attempts")
_INSERT: Final = rf"""
    INSERT INTO silo ({_NEW_COLUMNS})
    SELECT
        username, coalesce(domain, $18), src_addr, dst_addr, coalesce(inc_time, $19), coalesce(exp_time, $20),
        coalesce(snd_time, $21), coalesce(ctype, $22), body, '\x' || encode(extra_hdrs, 'hex'),
        callid, coalesce(cseq, $23), from_tag, from_hdr, to_hdr, coalesce(date_hdr, $24), coalesce(attempts, $25)
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
        $7::bigint[], $8::text[], $9::bytea[], $10::bytea[],
        $11::text[], $12::int[], $13::text[], $14::bytea[], $15::bytea[], $16::bytea[], $17::int[]
    ) WITH ORDINALITY AS given ({_NEW_COLUMNS}, n)
    ORDER BY n
    ON CONFLICT (username, domain, callid, cseq, from_tag) WHERE cseq >= 0
    DO UPDATE SET repeats = silo.repeats + 1
    RETURNING id, repeats > 0
"""
_OFTEN_SHARED_PLACES: Final = [NEW_MESSAGE_COLUMNS.index(column) for column in _OFTEN_SHARED]


async def _append(connection: Connection, stores: Sequence[Store]) -> list[Stored]:
    # One statement cannot change a row twice: each message goes once, for all places of the batch that it has.
    places: dict[object, list[int]] = {}
    for place, store in enumerate(stores):
        places.setdefault(repeat_key(store.message) or place, []).append(place)
    columns = list(zip(*(message_values(stores[first].message) for first, *_ in places.values()), strict=True))
    shared: list[object] = []
    for number in _OFTEN_SHARED_PLACES:
        value, *_ = values = columns[number]
        is_shared = values.count(value) == len(values)
        shared.append(value if is_shared else None)
        if is_shared:
            columns[number] = ()
    # They come back in the order in which they went, and so do the numbers of those that are new.
    rows = await connection.fetch(_INSERT, *columns, *shared)
    answers: dict[int, Stored] = {}
    for (first, *others), (number, is_repeat) in zip(places.values(), rows, strict=True):
        answers[first] = Stored(stores[first].token, number, is_repeat)
        for other in others:
            answers[other] = Stored(stores[other].token, number, repeated=True)
    return [answers[place] for place in range(len(stores))]


_BINDING: Final = ", ".join(BINDING_COLUMNS)
_IS_WAITING: Final = """EXISTS (
        SELECT FROM silo WHERE silo.username = given.username AND silo.domain = given.domain
        AND silo.status = 0 AND silo.snd_time = 0 AND silo.exp_time + 0 > given.now_s
    )"""
_LOOK_UP: Final = f"""
    SELECT n, {_IS_WAITING}, {_BINDING}
    FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS given (username, domain, now_s, n)
    JOIN silo_location USING (username, domain)
    WHERE expires > now_s
"""


async def _look_up(connection: Connection, lookups: Sequence[LookUp]) -> list[LookedUp]:
    usernames, domains = _owners(lookups)
    found: dict[int, list[Binding]] = {}
    waiting: dict[int, bool] = {}
    for n, is_waiting, *row in await connection.fetch(_LOOK_UP, usernames, domains, [a.now_s for a in lookups]):
        found.setdefault(n, []).append(binding_from(row))
        waiting[n] = is_waiting
    return [
        LookedUp(lookup.token, tuple(sorted(found.get(n, ()), key=preferred)), waiting.get(n, False))
        for n, lookup in enumerate(lookups, start=1)
    ]


_LOCK_BINDINGS: Final = """
    SELECT FROM silo_location
    JOIN unnest($1::text[], $2::text[]) AS given (username, domain) USING (username, domain)
    ORDER BY username, domain, contact
    FOR UPDATE OF silo_location
"""
_READ_BINDINGS: Final = f"""
    SELECT n, {_IS_WAITING}, {_BINDING}
    FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS given (username, domain, now_s, n)
    LEFT JOIN silo_location USING (username, domain)
"""
_WRITE_BINDING: Final = f"""
    INSERT INTO silo_location ({_BINDING})
    VALUES ({", ".join(f"${n}" for n in range(1, len(BINDING_COLUMNS) + 1))})
    ON CONFLICT (username, domain, contact) DO UPDATE SET
        {", ".join(f"{column} = excluded.{column}" for column in BINDING_COLUMNS[3:])}
"""
_DELETE_BINDING: Final = "DELETE FROM silo_location WHERE username = $1 AND domain = $2 AND contact = $3"


async def _bind(connection: Connection, binds: Sequence[Bind]) -> list[Bound | Refused]:
    latest = {bind.owner: bind for bind in binds}
    usernames, domains = _owners(latest.values())
    inventory: Inventory = {}
    waiting: dict[Aor, bool] = {}
    async with transaction(connection):
        # Two statements: the second sees what those wrote that the first waited for. Two servers that bind the first
        # contacts of a user at the same moment find no row to lock; each then knows of the other's contact one
        # REGISTER later, which is harmless.
        await connection.execute(_LOCK_BINDINGS, usernames, domains)
        now_s = [bind.now_s for bind in latest.values()]
        for _, is_waiting, *row in await connection.fetch(_READ_BINDINGS, usernames, domains, now_s):
            owner = Aor(row[0], row[1])
            waiting[owner] = is_waiting
            if row[2] is not None:
                binding = binding_from(row)
                inventory.setdefault(owner, {})[binding.contact] = binding
        changes = fold(inventory, binds)
        if changes.written:
            await connection.executemany(_WRITE_BINDING, [binding_values(*change) for change in changes.written])
        if changes.removed:
            await connection.executemany(
                _DELETE_BINDING, [(owner.username, owner.domain, contact) for owner, contact in changes.removed]
            )
    answers: list[Bound | Refused] = []
    for bind, result in zip(binds, changes.results, strict=True):
        if isinstance(result, Rejection):
            answers.append(Refused(bind.token, result.status, result.reason))
        else:
            answers.append(Bound(bind.token, result.bindings, bool(result.bindings) and waiting[bind.owner]))
    return answers


_MESSAGE: Final = ", ".join(MESSAGE_COLUMNS)
# `exp_time + 0` and the long order leave but one index to choose, silo_waiting_idx, whatever the statistics say.
_DUMP: Final = f"""
    WITH given AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::bigint[])
            WITH ORDINALITY AS given (username, domain, messages_max, now_ms, node, until_ms, n)
    ), waiting AS MATERIALIZED (
        SELECT n, now_ms, node, until_ms, message.*
        FROM given CROSS JOIN LATERAL (
            SELECT {_MESSAGE}, lease_node, lease_until
            FROM silo
            WHERE silo.username = given.username AND silo.domain = given.domain
                AND status = 0 AND snd_time = 0 AND exp_time + 0 > now_ms / 1000
            ORDER BY username, domain, id
            LIMIT messages_max
            FOR UPDATE
        ) AS message
    ), judged AS (
        SELECT *, bool_and(lease_until <= now_ms OR lease_node = node) OVER (PARTITION BY n ORDER BY id) AS is_free
        FROM waiting
    ), leased AS (
        UPDATE silo SET lease_node = judged.node, lease_until = judged.until_ms
        FROM judged
        WHERE silo.username = judged.username AND silo.domain = judged.domain AND silo.id = judged.id
            AND is_free
    )
    SELECT is_free, lease_until, {_MESSAGE} FROM judged ORDER BY n, id
"""


async def _dump(connection: Connection, dumps: Sequence[Dump]) -> list[Dumped]:
    # Rows are locked in the order of this array.
    ordered: list[Dump] = sorted(dumps, key=lambda dump: dump.owner)
    rows = await connection.fetch(
        _DUMP,
        *_owners(ordered),
        [dump.messages_max for dump in ordered],
        [dump.now_ms for dump in ordered],
        [dump.node for dump in ordered],
        [dump.lease_until_ms for dump in ordered],
    )
    taken: dict[Aor, list[Message]] = {dump.owner: [] for dump in dumps}
    busy_until_ms: dict[Aor, int] = {}
    for is_free, lease_until, *row in rows:
        if is_free:
            message = _message_from(row)
            taken[message.owner].append(message)
        else:
            busy_until_ms.setdefault(Aor(row[0], row[1]), lease_until)
    return [
        Dumped(
            dump.token,
            tuple(taken[dump.owner]),
            0 if taken[dump.owner] else busy_until_ms.get(dump.owner, 0),
        )
        for dump in dumps
    ]


_SETTLE: Final = """
    WITH given AS (
        SELECT * FROM unnest(
            $1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::int[], $7::int[], $8::text[]
        ) WITH ORDINALITY AS given (username, domain, id, node, outcome, new_status, response, why, n)
    ), held AS MATERIALIZED (
        SELECT given.*
        FROM given JOIN silo USING (username, domain, id)
        WHERE outcome = 'withdrawn' OR (silo.lease_node = node AND silo.status = 0)
        ORDER BY username, domain, id
        FOR UPDATE OF silo
    ), deleted AS (
        DELETE FROM silo USING held
        WHERE silo.username = held.username AND silo.domain = held.domain AND silo.id = held.id
            AND outcome IN ('delivered', 'withdrawn')
    ), released AS (
        UPDATE silo SET lease_node = '', lease_until = 0
        FROM held
        WHERE silo.username = held.username AND silo.domain = held.domain AND silo.id = held.id
            AND outcome = 'released'
    ), given_back AS (
        UPDATE silo SET lease_node = '', lease_until = 0, attempts = attempts + 1,
            status = new_status, last_status = response, reason = why
        FROM held
        WHERE silo.username = held.username AND silo.domain = held.domain AND silo.id = held.id
            AND outcome IN ('failed', 'refused')
    )
    SELECT n FROM held
"""


async def _settle(connection: Connection, settles: Sequence[Settle]) -> list[Settled]:
    answers: list[Settled] = []
    for part in _without_repeats(settles):
        rows = await connection.fetch(
            _SETTLE,
            *_owners(part),
            [settle.message_id for settle in part],
            [settle.node for settle in part],
            [settle.outcome for settle in part],
            [status_after(settle) for settle in part],
            [settle.status for settle in part],
            [legible(settle.reason) for settle in part],
        )
        held = {row[0] for row in rows}
        answers += [Settled(settle.token, lost=n not in held) for n, settle in enumerate(part, start=1)]
    return answers


def _without_repeats(settles: Sequence[Settle]) -> Iterator[Sequence[Settle]]:
    """Cut before each settle of a row that was settled since the last cut: one statement changes a row once."""
    start = 0
    seen: set[tuple[Aor, int]] = set()
    for n, settle in enumerate(settles):
        row = (settle.owner, settle.message_id)
        if row in seen:
            yield settles[start:n]
            start = n
            seen.clear()
        seen.add(row)
    yield settles[start:]


_DELETE_EXPIRED: Final = """
    WITH expired AS MATERIALIZED (
        SELECT username, domain, id
        FROM silo
        WHERE exp_time <= $1 AND snd_time <= $1 AND lease_until <= $2
        ORDER BY exp_time
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM silo USING expired
    WHERE silo.username = expired.username AND silo.domain = expired.domain AND silo.id = expired.id
"""
_DELETE_EXPIRED_BINDINGS: Final = """
    WITH expired AS MATERIALIZED (
        SELECT username, domain, contact
        FROM silo_location
        WHERE expires <= $1
        ORDER BY expires
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM silo_location AS location USING expired
    WHERE location.username = expired.username AND location.domain = expired.domain
        AND location.contact = expired.contact
"""


async def _expire(connection: Connection, expires: Sequence[Expire]) -> list[Expired]:
    answers: list[Expired] = []
    for expire in expires:
        now_s = expire.now_ms // 1000
        done = await connection.execute(_DELETE_EXPIRED, now_s, expire.now_ms, EXPIRE_ROWS_MAX)
        await connection.execute(_DELETE_EXPIRED_BINDINGS, now_s, EXPIRE_ROWS_MAX)
        # The command's tag: "DELETE 42".
        answers.append(Expired(expire.token, int(done.rpartition(" ")[2])))
    return answers


_LIST: Final = f"""
    SELECT {_MESSAGE} FROM silo
    WHERE id > $1 AND (status <> 0) = $2
    ORDER BY id LIMIT $3
"""
_LIST_OF_OWNER: Final = _LIST.replace("ORDER", "AND username = $4 AND domain = $5 ORDER")


async def _list(connection: Connection, owner: Aor | None, after: int, limit: int, dead: bool) -> list[Message]:
    if owner is None:
        rows = await connection.fetch(_LIST, after, dead, limit)
    else:
        rows = await connection.fetch(_LIST_OF_OWNER, after, dead, limit, owner.username, owner.domain)
    return [_message_from(tuple(row)) for row in rows]


def _owners(actions: Iterable[LookUp | Bind | Dump | Settle]) -> tuple[list[str], list[str]]:
    """Columns ``username`` and ``domain``."""
    owners = [action.owner for action in actions]
    return [owner.username for owner in owners], [owner.domain for owner in owners]


def _message_from(row: Sequence[Any]) -> Message:
    message = message_from(row)
    if not message.extra_hdrs.startswith("\\x"):
        return message
    try:
        octets = bytes.fromhex(message.extra_hdrs[2:])
    except ValueError:
        # Not from an encoder that we know: as it is.
        return message
    return msgspec.structs.replace(message, extra_hdrs=text_of(octets))


# The schema


_COLUMNS: Final = """
    SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""
_VERSION: Final = "SELECT table_version FROM version WHERE table_name = 'silo'"
_COUNT: Final = """
    SELECT count(*) FILTER (WHERE status = 0), count(*) FILTER (WHERE status <> 0),
        (SELECT count(*) FROM silo_location)
    FROM silo
"""


async def _create_schema(connection: Connection) -> None:
    # Statements in one string are one transaction.
    await connection.execute(schema_script("postgres"))
