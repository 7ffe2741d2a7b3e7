"""What an operator asks the store in SQLite for, on a connection and inside a transaction."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from msilo_core.actions import Message
from msilo_core.uri import Aor
from msilo_storage.operators import SWEEP_ROWS_MAX, Entry, Sweep, Totals, swept, totals
from msilo_storage.rows import READ_MESSAGE, message_from
from msilo_storage.sqlite_work import LOOKED_FOR, hand_on
from msilo_storage.tables import Sql

__all__ = ["find", "list_messages", "purge", "requeue", "stats"]

_DEAD: Final = "silo.{status} <> 0 AND silo.{status} <> 200"
_OF_OWNER: Final = "silo.{username} = :username AND silo.{domain} = :domain"

_LIST: Final = f"SELECT {READ_MESSAGE} FROM {{silo}} AS silo WHERE silo.{{id}} > :after AND "


def list_messages(
    connection: sqlite3.Connection, sql: Sql, owner: Aor | None, after: int, limit: int, dead: bool
) -> list[Message]:
    state = _DEAD if dead else "silo.{status} = 0"
    conditions, values = _of_owner(owner)
    query = sql(_LIST + " AND ".join((state, *conditions)) + " ORDER BY silo.{id} LIMIT :limit")
    rows = connection.execute(query, {"after": after, "limit": limit, **values})
    return [message_from(row) for row in rows]


_FIND: Final = (
    f"SELECT {READ_MESSAGE}, silo.last_status, silo.repeats, silo.lease_node, silo.lease_until"
    " FROM {silo} AS silo WHERE silo.{id} = ?"
)


def find(connection: sqlite3.Connection, sql: Sql, message_id: int) -> Entry | None:
    row = connection.execute(sql(_FIND), (message_id,)).fetchone()
    if row is None:
        return None
    *message, last_status, repeats, node, until_ms = row
    is_leased = until_ms > _clock()
    return Entry(
        message=message_from(message),
        last_status=last_status,
        repeats=repeats,
        lease_node=node if is_leased else "",
        lease_until_ms=until_ms if is_leased else 0,
    )


_REQUEUE: Final = (
    "UPDATE {silo} AS silo SET {status} = 0, attempts = 0, reached = 0, next_time = iif(EXISTS ("
    "SELECT 1 FROM {silo_location} AS location WHERE location.username = silo.{username}"
    " AND location.domain = silo.{domain} AND location.expires > :now_s"
    "), :now_s, 0) WHERE silo.{id} = :id"
)


def requeue(
    connection: sqlite3.Connection,
    sql: Sql,
    message_ids: Sequence[int] | None,
    owner: Aor | None,
    after: int,
    limit: int,
) -> Sweep:
    limit = min(limit, SWEEP_ROWS_MAX)
    now_ms = _clock()
    now_s = now_ms // 1000
    conditions, values = _meant(message_ids, owner)
    may_be = "silo.{exp_time} > :now_s AND silo.lease_until <= :now_ms"
    given = {**values, "now_s": now_s, "now_ms": now_ms}
    rows = _page(connection, sql, may_be, [_DEAD, *conditions], given, after, limit)
    connection.executemany(sql(_REQUEUE), [{"id": number, "now_s": now_s} for number, is_free in rows if is_free])
    return swept(rows, is_last=len(rows) < limit)


_PURGE: Final = f"DELETE FROM {{silo}} WHERE {{id}} = ? RETURNING {LOOKED_FOR}"


def purge(
    connection: sqlite3.Connection,
    sql: Sql,
    message_ids: Sequence[int] | None,
    owner: Aor | None,
    received_before_s: int | None,
    waiting: bool,
    after: int,
    limit: int,
) -> Sweep:
    limit = min(limit, SWEEP_ROWS_MAX)
    conditions, values = _meant(message_ids, owner)
    given = {**values, "now_ms": _clock(), "before_s": received_before_s}
    if received_before_s is not None:
        conditions.append("silo.{inc_time} < :before_s")
    if not waiting:
        conditions.append(_DEAD)
    rows = _page(connection, sql, "silo.lease_until <= :now_ms", conditions, given, after, limit)
    gone: list[tuple[str, str, int]] = []
    for number, is_free in rows:
        if is_free:
            gone += connection.execute(sql(_PURGE), (number,))
    hand_on(connection, sql, gone)
    return swept(rows, is_last=len(rows) < limit)


_COUNT: Final = (
    "SELECT silo.{status}, count(*), sum(silo.{snd_time} > 0), sum(silo.lease_until > :now_ms),"
    " min(silo.{inc_time}) FILTER (WHERE silo.{snd_time} = 0),"
    " coalesce(sum(length(silo.{body})), 0) FROM {silo} AS silo"
)
_CROWD: Final = "SELECT silo.{username}, silo.{domain}, count(*) AS number FROM {silo} AS silo"
_MOST: Final = (
    " GROUP BY silo.{username}, silo.{domain} ORDER BY number DESC, silo.{username}, silo.{domain} LIMIT :owners_max"
)


def stats(connection: sqlite3.Connection, sql: Sql, owner: Aor | None, owners_max: int) -> Totals:
    conditions, values = _of_owner(owner)
    where = "".join(f" WHERE {condition}" for condition in conditions)
    given = {**values, "now_ms": _clock(), "owners_max": owners_max}
    counts = connection.execute(sql(_COUNT + where + " GROUP BY silo.{status}"), given)
    return totals(counts.fetchall(), connection.execute(sql(_CROWD + where + _MOST), given))


_PAGE: Final = "SELECT silo.{id}, %s FROM {silo} AS silo WHERE silo.{id} > :after%s ORDER BY silo.{id} LIMIT :limit"


def _page(
    connection: sqlite3.Connection,
    sql: Sql,
    may_be: str,
    conditions: Sequence[str],
    values: Mapping[str, Any],
    after: int,
    limit: int,
) -> list[tuple[int, bool]]:
    """Return the numbers of the rows that are meant, ascending, and whether it may be done to them."""
    query = sql(_PAGE % (may_be, "".join(f" AND {condition}" for condition in conditions)))
    rows = connection.execute(query, {**values, "after": after, "limit": limit})
    return [(number, bool(is_free)) for number, is_free in rows]


def _meant(message_ids: Sequence[int] | None, owner: Aor | None) -> tuple[list[str], dict[str, Any]]:
    conditions, values = _of_owner(owner)
    if message_ids is None:
        return conditions, values
    chosen = "silo.{id} IN (SELECT value FROM json_each(:chosen))"
    return [chosen, *conditions], {**values, "chosen": msgspec.json.encode(message_ids).decode()}


def _of_owner(owner: Aor | None) -> tuple[list[str], dict[str, Any]]:
    if owner is None:
        return [], {}
    return [_OF_OWNER], {"username": owner.username, "domain": owner.domain}


def _clock() -> int:
    """The present in Unix ms, by the clock that leases run by."""
    return time.time_ns() // 1_000_000
