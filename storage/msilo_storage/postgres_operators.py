"""What an operator asks the store in PostgreSQL for, on a connection.

What changes rows does so by the page, each one a statement and a commit of its own, and passes over rows that are
locked at the moment (SKIP LOCKED): no delivery waits for it.
"""

from collections.abc import Sequence
from typing import Final

from msilo_core.actions import Message
from msilo_core.uri import Aor
from msilo_storage.lanes import Connection, transaction
from msilo_storage.operators import SWEEP_ROWS_MAX, Entry, Sweep, Totals, swept, totals
from msilo_storage.postgres_delivery import LOOKED_FOR, NOW_MS, hand_on, message_of
from msilo_storage.rows import READ_MESSAGE, aor_values
from msilo_storage.tables import Sql

__all__ = ["find", "list_messages", "purge", "requeue", "stats"]

_DEAD: Final = "silo.{status} <> 0 AND silo.{status} <> 200"
_NOW_S: Final = f"({NOW_MS} / 1000)"


class _Meant:
    """Rows that are meant, so many behind one: the end of a query, and the values of its parameters."""

    def __init__(self, after: int, limit: int, *, owner: Aor | None, message_ids: Sequence[int] | None = None) -> None:
        self.limit = limit
        self.values: list[object] = [after, limit]
        self._conditions = ["silo.{id} > $1"]
        # The long order leaves but one index to choose, that of the owner's rows, whatever the statistics say.
        self._order = "silo.{id}" if owner is None else "silo.{username}, silo.{domain}, silo.{id}"
        if owner is not None:
            self.narrow("silo.{username} = $%d AND silo.{domain} = $%d", *aor_values(owner))
        if message_ids is not None:
            self.narrow("silo.{id} = ANY($%d::bigint[])", message_ids)

    def narrow(self, condition: str, *values: object) -> None:
        """Mean only those that `condition` holds for; ``$%d`` in it are the `values`."""
        count = len(self.values)
        self._conditions.append(condition % tuple(range(count + 1, count + len(values) + 1)))
        self.values += values

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._conditions)} ORDER BY {self._order} LIMIT $2"


async def list_messages(
    connection: Connection, sql: Sql, owner: Aor | None, after: int, limit: int, dead: bool
) -> list[Message]:
    meant = _Meant(after, limit, owner=owner)
    meant.narrow(_DEAD if dead else "silo.{status} = 0")
    rows = await connection.fetch(sql(f"SELECT {READ_MESSAGE} FROM {{silo}} AS silo {meant}"), *meant.values)
    return [message_of(tuple(row)) for row in rows]


_FIND: Final = f"""
    SELECT
        silo.last_status, silo.repeats, silo.lease_node, silo.lease_until, silo.lease_until > {NOW_MS},
        {READ_MESSAGE}
    FROM {{silo}} AS silo WHERE silo.{{id}} = $1
"""


async def find(connection: Connection, sql: Sql, message_id: int) -> Entry | None:
    row = await connection.fetchrow(sql(_FIND), message_id)
    if row is None:
        return None
    last_status, repeats, node, until_ms, is_leased, *message = row
    return Entry(
        message=message_of(message),
        last_status=last_status,
        repeats=repeats,
        lease_node=node if is_leased else "",
        lease_until_ms=until_ms if is_leased else 0,
    )


_REQUEUE: Final = f"""
    UPDATE {{silo}} AS silo SET {{status}} = 0, attempts = 0, reached = 0, next_time = CASE WHEN EXISTS (
        SELECT FROM {{silo_location}} AS location
        WHERE location.username = silo.{{username}} AND location.domain = silo.{{domain}}
            AND location.expires > {_NOW_S}
    ) THEN {_NOW_S} ELSE 0 END
    FROM meant
"""
_PURGE: Final = "DELETE FROM {silo} AS silo USING meant"


async def requeue(
    connection: Connection, sql: Sql, message_ids: Sequence[int] | None, owner: Aor | None, after: int, limit: int
) -> Sweep:
    meant = _Meant(after, min(limit, SWEEP_ROWS_MAX), owner=owner, message_ids=message_ids)
    meant.narrow(_DEAD)
    is_free = f"silo.{{exp_time}} > {_NOW_S} AND silo.lease_until <= {NOW_MS}"
    return await _sweep(connection, sql, meant, is_free, _REQUEUE)


async def purge(
    connection: Connection,
    sql: Sql,
    message_ids: Sequence[int] | None,
    owner: Aor | None,
    received_before_s: int | None,
    waiting: bool,
    after: int,
    limit: int,
) -> Sweep:
    meant = _Meant(after, min(limit, SWEEP_ROWS_MAX), owner=owner, message_ids=message_ids)
    if not waiting:
        meant.narrow(_DEAD)
    if received_before_s is not None:
        meant.narrow("silo.{inc_time} < $%d", received_before_s)
    return await _sweep(
        connection, sql, meant, f"silo.lease_until <= {NOW_MS}", _PURGE, hand_on("is_free", "meant", changed="is_free")
    )


async def _sweep(connection: Connection, sql: Sql, meant: _Meant, is_free: str, change: str, more: str = "") -> Sweep:
    statement = f"""
        WITH meant AS MATERIALIZED (
            SELECT silo.{{username}} AS username, silo.{{domain}} AS domain, silo.{{id}} AS id, {is_free} AS is_free,
                {LOOKED_FOR}
            FROM {{silo}} AS silo {meant}
            FOR UPDATE SKIP LOCKED
        ), changed AS (
            {change}
            WHERE silo.{{username}} = meant.username AND silo.{{domain}} = meant.domain AND silo.{{id}} = meant.id
                AND meant.is_free
        ){f", {more}" if more else ""}
        SELECT id, is_free FROM meant ORDER BY id
    """
    page = [(row[0], row[1]) for row in await connection.fetch(sql(statement), *meant.values)]
    return swept(page, is_last=len(page) < meant.limit)


_COUNT: Final = f"""
    SELECT
        silo.{{status}}, count(*),
        count(*) FILTER (WHERE silo.{{snd_time}} > 0), count(*) FILTER (WHERE silo.lease_until > {NOW_MS}),
        min(silo.{{inc_time}}) FILTER (WHERE silo.{{snd_time}} = 0),
        coalesce(sum(octet_length(silo.{{body}})), 0)::bigint
    FROM {{silo}} AS silo
"""
_CROWD: Final = "SELECT silo.{username}, silo.{domain}, count(*) FROM {silo} AS silo"


async def stats(connection: Connection, sql: Sql, owner: Aor | None, owners_max: int) -> Totals:
    values = () if owner is None else aor_values(owner)
    where = "" if owner is None else " WHERE silo.{username} = $1 AND silo.{domain} = $2"
    most = f" GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT ${len(values) + 1}"
    async with transaction(connection):
        if owner is None:
            # Every row is read: as they lie, that is many times quicker than in the order of an index.
            await connection.execute("SET LOCAL enable_seqscan = on")
        counts = await connection.fetch(sql(f"{_COUNT}{where} GROUP BY 1"), *values)
        crowd = await connection.fetch(sql(_CROWD + where + most), *values, owners_max)
    return totals((tuple(row) for row in counts), (tuple(row) for row in crowd))
