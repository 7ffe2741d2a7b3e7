"""What the store in PostgreSQL does for messages under delivery: leases, their ends, and what became of the messages.

Leases run by the clock of the database, so that those of the nodes need not agree. Nobody waits for a row that another
node has locked: to lease it passes over what is locked (SKIP LOCKED) and takes no more than what is before that, for
nothing may overtake it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from msilo_core.actions import Due, Dump, Dumped, Message, Outcome, Renew, Renewed, Retry, Settle, Settled
from msilo_core.uri import Aor
from msilo_storage.lanes import Connection, transaction
from msilo_storage.postgres_given import Given
from msilo_storage.rows import MESSAGE_COLUMNS, READ_MESSAGE, message_from, text_of
from msilo_storage.rules import (
    PAUSE_DOUBLED_MAX,
    RETRY_ROWS_MAX,
    legible,
    look_again_s,
    status_after,
    without_repeats,
)
from msilo_storage.tables import Sql

__all__ = ["LOOKED_FOR", "NOW_MS", "dump", "hand_on", "message_of", "renew", "retry", "settle", "where_is_owner"]

NOW_MS: Final = "(extract(epoch FROM statement_timestamp()) * 1000)::bigint"
"""The clock that leases run by, in Unix ms."""

# How long to leave a row to whoever has it locked: to settle it, or to lease it.
_LOCKED_MS: Final = 100

_MESSAGE: Final = ", ".join(MESSAGE_COLUMNS)
# As rules.taken_over has it.
_TAKEN_OVER: Final = ", ".join(f"locked.{column}" for column in MESSAGE_COLUMNS).replace(
    "locked.reached", "locked.reached + CASE locked.lease_node WHEN '' THEN 0 ELSE 1 END AS reached"
)


# `exp_time + 0` and the long order leave but one index to choose, silo_waiting_idx, whatever the statistics say.
def _dump_statement(
    given: Given,
    more_rows: str = "",
    oldest_time: str = "first_value(next_time) OVER inbox",
    more_windows: str = "",
) -> str:
    return f"""
    WITH waiting AS MATERIALIZED (
        SELECT given.*, candidate.id
        FROM {given.rows} CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT silo.{{id}} AS id
                FROM {{silo}} AS silo
                WHERE silo.{{username}} = given.owner AND silo.{{domain}} = given.host
                    AND silo.{{status}} = 0 AND silo.{{snd_time}} = 0 AND silo.{{exp_time}} + 0 > given.now_s
                ORDER BY silo.{{username}}, silo.{{domain}}, silo.{{id}}
                LIMIT given.messages_max + 1
            ) AS ordinary
            UNION ALL
            SELECT * FROM (
                SELECT silo.{{id}} AS id
                FROM {{silo}} AS silo
                WHERE silo.{{username}} = given.owner AND silo.{{domain}} = given.host
                    AND silo.{{status}} = 0 AND silo.{{snd_time}} > 0 AND silo.{{snd_time}} <= given.now_s
                    AND silo.{{exp_time}} + 0 > given.now_s
                ORDER BY silo.{{id}} + 0
                LIMIT given.messages_max + 1
            ) AS due
            {more_rows}
        ) AS candidate
    ), locked AS MATERIALIZED (
        -- One at a time: a join would be planned as a walk over the whole table, where that was small.
        SELECT
            waiting.n, waiting.id AS number, waiting.owner, waiting.host, waiting.asker, waiting.lease_ms,
            waiting.look_again_s, waiting.messages_max, waiting.is_early, waiting.now_s, message.*
        FROM waiting LEFT JOIN LATERAL (
            SELECT {READ_MESSAGE}, silo.lease_node AS lease_node, silo.lease_until AS lease_until
            FROM {{silo}} AS silo
            WHERE silo.{{username}} = waiting.owner AND silo.{{domain}} = waiting.host AND silo.{{id}} = waiting.id
                AND silo.{{status}} IN (0, 200)
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS message ON true
    ), judged AS (
        SELECT n, number, owner, host, asker, lease_ms, look_again_s, lease_until, {_TAKEN_OVER},
            row_number() OVER inbox AS place,
            row_number() OVER inbox <= messages_max AS is_asked_for,
            row_number() OVER inbox = messages_max + 1 AS is_next,
            NOT is_early AND {oldest_time} > now_s AS is_too_early,
            bool_and(id IS NOT NULL AND (lease_until <= {NOW_MS} OR lease_node = asker)) OVER inbox AS is_free
        FROM locked
        WINDOW inbox AS (PARTITION BY n ORDER BY number){more_windows}
    ), page AS (
        SELECT *, number = max(number) OVER (PARTITION BY n) AS is_last
        FROM judged WHERE is_free AND (is_asked_for OR is_next) AND NOT is_too_early
    ), leased AS (
        UPDATE {{silo}} AS silo SET
            reached = page.reached, lease_node = page.asker, lease_until = {NOW_MS} + page.lease_ms,
            next_time = CASE WHEN page.is_last THEN page.look_again_s ELSE 0 END
        FROM page
        WHERE page.is_asked_for AND silo.{{username}} = page.owner AND silo.{{domain}} = page.host
            AND silo.{{id}} = page.number
    ), behind AS (
        UPDATE {{silo}} AS silo SET next_time = page.look_again_s
        FROM page
        WHERE page.is_next AND silo.{{username}} = page.owner AND silo.{{domain}} = page.host
            AND silo.{{id}} = page.number
    )
    SELECT n, is_free, is_too_early, lease_until - {NOW_MS}, {_MESSAGE} FROM judged
    WHERE is_asked_for AND (place = 1 OR (is_free AND NOT is_too_early))
    ORDER BY n, number
"""


_DUMPED: Final = {
    "owner": "text", "host": "text", "messages_max": "int", "now_s": "bigint", "asker": "text", "lease_ms": "bigint",
    "is_early": "bool", "look_again_s": "bigint",
}  # fmt: skip
_OFTEN_SHARED: Final = ("host", "messages_max", "now_s", "asker", "lease_ms", "is_early", "look_again_s")
_GIVEN_DUMPS: Final = Given(_DUMPED, _OFTEN_SHARED)
_GIVEN_EACH: Final = Given({**_DUMPED, "devices": "text"}, _OFTEN_SHARED)
_DUMP: Final = _dump_statement(_GIVEN_DUMPS)
# With what was taken and one of some devices lacks. Too early is all if the oldest is that nobody took.
_DUMP_EACH: Final = _dump_statement(
    _GIVEN_EACH,
    """UNION ALL
            SELECT * FROM (
                SELECT silo.{id} AS id
                FROM {silo} AS silo
                WHERE silo.{username} = given.owner AND silo.{domain} = given.host
                    AND silo.{status} = 200 AND silo.{exp_time} + 0 > given.now_s
                    AND (
                        NOT string_to_array(given.devices, ' ') <@ string_to_array(silo.taken_by, ' ')
                        OR (silo.next_time > 0 AND silo.next_time <= given.now_s)
                    )
                ORDER BY silo.{username}, silo.{domain}, silo.{id}
                LIMIT given.messages_max + 1
            ) AS taken""",
    "first_value(CASE status WHEN 0 THEN next_time ELSE 0 END) OVER oldest",
    ", oldest AS (PARTITION BY n ORDER BY status, number)",
)


async def dump(connection: Connection, dumps: Sequence[Dump], sql: Sql) -> list[Dumped]:
    each = [dump for dump in dumps if dump.devices]
    if not each:
        return await _dump(connection, dumps, sql(_DUMP), _GIVEN_DUMPS)
    devices = [" ".join(dump.devices) for dump in each]
    answers_to_each = iter(await _dump(connection, each, sql(_DUMP_EACH), _GIVEN_EACH, devices))
    plain = [dump for dump in dumps if not dump.devices]
    answers = iter(await _dump(connection, plain, sql(_DUMP), _GIVEN_DUMPS) if plain else ())
    return [next(answers_to_each if dump.devices else answers) for dump in dumps]


async def _dump(
    connection: Connection, dumps: Sequence[Dump], statement: str, given: Given, *more: Sequence[str]
) -> list[Dumped]:
    taken: list[list[Message]] = [[] for _ in dumps]
    busy_ms = [0] * len(dumps)
    is_early = [False] * len(dumps)
    parameters = given.parameters(
        *_owners(dumps),
        [dump.messages_max for dump in dumps],
        [dump.now_ms // 1000 for dump in dumps],
        [dump.lease for dump in dumps],
        [dump.lease_ms for dump in dumps],
        [dump.is_early for dump in dumps],
        [look_again_s(dump) for dump in dumps],
        *more,
    )
    rows = await connection.fetch(statement, *parameters)
    n: int
    for n, is_free, is_too_early, remaining_ms, *row in rows:
        if not is_free:
            busy_ms[n - 1] = max(remaining_ms or 0, _LOCKED_MS)
        elif is_too_early:
            is_early[n - 1] = True
        else:
            taken[n - 1].append(message_of(row))
    return [
        Dumped(dump.token, tuple(messages), busy, early)
        for dump, messages, busy, early in zip(dumps, taken, busy_ms, is_early, strict=True)
    ]


_RENEWED: Final = Given(
    {
        "owner": "text", "host": "text", "number": "bigint", "asker": "text", "lease_ms": "bigint", "place": "int",
    },
    often_shared=("owner", "host", "asker", "lease_ms", "place"),
)  # fmt: skip
_RENEW: Final = f"""
    WITH held AS MATERIALIZED (
        SELECT given.*
        FROM {_RENEWED.rows}
        JOIN {{silo}} AS silo
            ON silo.{{username}} = given.owner AND silo.{{domain}} = given.host AND silo.{{id}} = given.number
        WHERE silo.lease_node = given.asker AND silo.{{status}} IN (0, 200)
        ORDER BY given.owner, given.host, silo.{{snd_time}} > 0, given.number
        FOR UPDATE OF silo
    )
    UPDATE {{silo}} AS silo SET lease_until = {NOW_MS} + held.lease_ms
    FROM held
    WHERE silo.{{username}} = held.owner AND silo.{{domain}} = held.host AND silo.{{id}} = held.number
    RETURNING held.place, held.number
"""


async def renew(connection: Connection, renewals: Sequence[Renew], sql: Sql) -> list[Renewed]:
    asked = [(n, renewal, number) for n, renewal in enumerate(renewals) for number in renewal.message_ids]
    parameters = _RENEWED.parameters(
        *_owners([renewal for _, renewal, _ in asked]),
        [number for _, _, number in asked],
        [renewal.lease for _, renewal, _ in asked],
        [renewal.lease_ms for _, renewal, _ in asked],
        [n for n, _, _ in asked],
    )
    rows = await connection.fetch(sql(_RENEW), *parameters)
    kept: list[set[int]] = [set[int]() for _ in renewals]
    place: int
    for place, number in rows:
        kept[place].add(number)
    return [
        Renewed(renewal.token, tuple(number for number in renewal.message_ids if number in held))
        for renewal, held in zip(renewals, kept, strict=True)
    ]


def hand_on(gone: str, rows: str, *, changed: str = "true", others: str = "true") -> str:
    """Return common table expressions that let others look for the oldest that waits where one has left.

    What is locked is passed over: whoever has it locked sees to its ``next_time``, or deletes it.

    Args:
        gone: condition on `rows` of those that leave.
        rows: common table expression with ``username``, ``domain``, ``id``, ``looked_for`` (``next_time``; 0 where it
            did not wait).
        changed: condition on `rows` of those that the statement changes or deletes.
        others: condition on ``silo`` of those that stay, of which the statement changes none.
    """
    return f"""heir AS MATERIALIZED (
        SELECT gone.username, gone.domain, gone.looked_for, oldest.id
        FROM (
            -- An array, for a join would look at all rows for each owner.
            SELECT username, domain, min(looked_for) FILTER (WHERE {gone} AND looked_for > 0) AS looked_for,
                coalesce(array_agg(id) FILTER (WHERE {changed}), '{{{{}}}}') AS changed
            FROM {rows}
            GROUP BY username, domain
        ) AS gone CROSS JOIN LATERAL (
            SELECT silo.{{id}} AS id
            FROM {{silo}} AS silo
            WHERE silo.{{username}} = gone.username AND silo.{{domain}} = gone.domain
                AND silo.{{status}} = 0 AND silo.{{snd_time}} = 0 AND silo.{{id}} <> ALL (gone.changed) AND {others}
            ORDER BY silo.{{username}}, silo.{{domain}}, silo.{{id}}
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS oldest
        WHERE gone.looked_for IS NOT NULL
    ), handed_on AS (
        UPDATE {{silo}} AS silo SET next_time = heir.looked_for
        FROM heir
        WHERE silo.{{username}} = heir.username AND silo.{{domain}} = heir.domain AND silo.{{id}} = heir.id
            AND silo.next_time = 0
    )"""


LOOKED_FOR: Final = "CASE WHEN silo.{status} IN (0, 200) THEN silo.next_time ELSE 0 END AS looked_for"
"""What :func:`hand_on` is to know of a row that leaves."""

_IS_OVER: Final = "outcome IN ('delivered', 'withdrawn', 'refused')"
_SETTLED: Final = Given(
    {
        "username": "text", "domain": "text", "id": "bigint", "node": "text", "outcome": "text", "new_status": "int",
        "response": "int", "why": "text", "next_time": "bigint",
    },
    often_shared=("domain", "node", "outcome", "new_status", "response", "why", "next_time"),
)  # fmt: skip
_SETTLE: Final = f"""
    WITH held AS MATERIALIZED (
        SELECT given.*, {LOOKED_FOR}
        FROM {_SETTLED.rows} JOIN {{silo}} AS silo
            ON silo.{{username}} = given.username AND silo.{{domain}} = given.domain AND silo.{{id}} = given.id
        WHERE given.outcome IN ('delivered', 'withdrawn')
            OR (silo.lease_node = given.node AND silo.{{status}} IN (0, 200))
        ORDER BY given.username, given.domain, silo.{{snd_time}} > 0, given.id
        FOR UPDATE OF silo
    ), deleted AS (
        DELETE FROM {{silo}} AS silo USING held
        WHERE silo.{{username}} = held.username AND silo.{{domain}} = held.domain AND silo.{{id}} = held.id
            AND held.outcome IN ('delivered', 'withdrawn')
    ), released AS (
        UPDATE {{silo}} AS silo SET lease_node = '', lease_until = 0, next_time = held.next_time,
            {{snd_time}} = CASE held.outcome WHEN 'missed' THEN 0 ELSE silo.{{snd_time}} END
        FROM held
        WHERE silo.{{username}} = held.username AND silo.{{domain}} = held.domain AND silo.{{id}} = held.id
            AND held.outcome IN ('released', 'missed')
    ), given_back AS (
        UPDATE {{silo}} AS silo SET lease_node = '', lease_until = 0, attempts = silo.attempts + 1,
            reached = silo.reached + CASE held.outcome WHEN 'unreached' THEN 0 ELSE 1 END, next_time = held.next_time,
            -- Who says that of what a device has did not know it.
            {{status}} = CASE silo.{{status}} WHEN 0 THEN held.new_status ELSE silo.{{status}} END,
            last_status = held.response, reason = held.why,
            {{snd_time}} = CASE held.outcome WHEN 'refused' THEN silo.{{snd_time}} ELSE 0 END,
            imdn = CASE held.outcome WHEN 'refused' THEN 0 ELSE silo.imdn END
        FROM held
        WHERE silo.{{username}} = held.username AND silo.{{domain}} = held.domain AND silo.{{id}} = held.id
            AND held.outcome IN ('failed', 'unreached', 'refused')
    ), {hand_on(_IS_OVER, "held")}
    SELECT n FROM held
"""


async def settle(connection: Connection, settles: Sequence[Settle], sql: Sql) -> list[Settled]:
    answers: list[Settled] = []
    for part in without_repeats(settles):
        taken = [settle for settle in part if settle.outcome is Outcome.TAKEN]
        if not taken:
            answers += await _settle(connection, part, sql)
            continue
        answers_to_taken = iter(await _take(connection, taken, sql))
        others = [settle for settle in part if settle.outcome is not Outcome.TAKEN]
        rest = iter(await _settle(connection, others, sql) if others else ())
        answers += [next(answers_to_taken if settle.outcome is Outcome.TAKEN else rest) for settle in part]
    return answers


async def _settle(connection: Connection, settles: Sequence[Settle], sql: Sql) -> list[Settled]:
    parameters = _SETTLED.parameters(
        *_owners(settles),
        [settle.message_id for settle in settles],
        [settle.lease for settle in settles],
        [settle.outcome for settle in settles],
        [status_after(settle) for settle in settles],
        [settle.status for settle in settles],
        [legible(settle.reason) for settle in settles],
        [settle.next_time_s for settle in settles],
    )
    rows = await connection.fetch(sql(_SETTLE), *parameters)
    held = {row[0] for row in rows}
    return [Settled(settle.token, lost=n not in held) for n, settle in enumerate(settles, start=1)]


# The latest devices first, and no more than 64.
_TAKEN: Final = Given(
    {
        "username": "text", "domain": "text", "id": "bigint", "node": "text", "devices": "text", "until_s": "bigint",
        "next_time": "bigint",
    },
    often_shared=("domain", "node", "until_s", "next_time"),
)  # fmt: skip
_TAKE: Final = f"""
    WITH held AS MATERIALIZED (
        SELECT given.*, coalesce(silo.lease_node = given.node, false) AND silo.{{status}} IN (0, 200) AS is_ours,
            CASE silo.{{status}} WHEN 0 THEN silo.next_time ELSE 0 END AS looked_for
        FROM {_TAKEN.rows} JOIN {{silo}} AS silo
            ON silo.{{username}} = given.username AND silo.{{domain}} = given.domain AND silo.{{id}} = given.id
        ORDER BY given.username, given.domain, silo.{{snd_time}} > 0, given.id
        FOR UPDATE OF silo
    ), taken AS (
        UPDATE {{silo}} AS silo SET
            {{status}} = 200, imdn = 0,
            taken_by = array_to_string(ARRAY(
                SELECT device
                FROM unnest(string_to_array(held.devices, ' ') || string_to_array(silo.taken_by, ' '))
                    WITH ORDINALITY AS taker (device, place)
                WHERE device <> ''
                GROUP BY device ORDER BY min(place) LIMIT 64
            ), ' '),
            {{exp_time}} = least(silo.{{exp_time}}, held.until_s),
            lease_node = CASE WHEN held.is_ours THEN '' ELSE silo.lease_node END,
            lease_until = CASE WHEN held.is_ours THEN 0 ELSE silo.lease_until END,
            next_time = CASE WHEN held.is_ours THEN held.next_time ELSE silo.next_time END,
            attempts = CASE
                WHEN NOT held.is_ours THEN silo.attempts WHEN held.next_time > 0 THEN silo.attempts + 1 ELSE 0
            END
        FROM held
        WHERE silo.{{username}} = held.username AND silo.{{domain}} = held.domain AND silo.{{id}} = held.id
    ), {hand_on("true", "held")}
    SELECT n FROM held
"""


async def _take(connection: Connection, settles: Sequence[Settle], sql: Sql) -> list[Settled]:
    parameters = _TAKEN.parameters(
        *_owners(settles),
        [settle.message_id for settle in settles],
        # No lease is nobody's.
        [None if settle.is_late else settle.lease for settle in settles],
        [settle.taken_by for settle in settles],
        [settle.until_s for settle in settles],
        [settle.next_time_s for settle in settles],
    )
    rows = await connection.fetch(sql(_TAKE), *parameters)
    held = {row[0] for row in rows}
    return [Settled(settle.token, lost=n not in held) for n, settle in enumerate(settles, start=1)]


def where_is_owner(now_s: str, node: str, unregistered: str) -> str:
    """Return columns ``is_registered`` and ``is_ours``, whether that `node` reaches him, of the owner of a row ``due``.

    Args:
        now_s: parameter with the present.
        node: that with the name of the node.
        unregistered: that which says whether owners without a binding count, too.
    """
    registered = f"""EXISTS (
                SELECT FROM {{silo_location}} AS location
                WHERE location.username = due.username AND location.domain = due.domain
                    AND location.expires > {now_s}"""
    return f"""{unregistered} OR {registered}) AS is_registered,
            {unregistered} OR {registered}
                    AND (location.node = {node} OR location.transport = 'udp')) AS is_ours"""


# Of another node's connection nothing is known here. Whatever that node has not taken goes behind the others, or a
# thousand of a node that is gone would hide all that others could deliver.
_RETRY: Final = f"""
    WITH due AS MATERIALIZED (
        SELECT silo.{{username}} AS username, silo.{{domain}} AS domain, silo.{{id}} AS id,
            silo.next_time AS next_time, silo.{{status}} AS status
        FROM {{silo}} AS silo
        WHERE silo.{{status}} + 0 IN (0, 200) AND silo.next_time > 0 AND silo.next_time <= $1
            AND silo.{{exp_time}} + 0 > $1 AND (silo.{{snd_time}} + 0 = 0 OR silo.{{status}} + 0 = 200)
            AND silo.lease_until <= {NOW_MS}
        ORDER BY silo.next_time
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ), known AS MATERIALIZED (
        SELECT due.*,
            {where_is_owner(now_s="$1", node="$3", unregistered="$6")},
            CASE due.status WHEN 0 THEN (
                SELECT greatest(
                    silo.next_time,
                    CASE WHEN silo.lease_until > {NOW_MS} THEN $1 + (silo.lease_until - {NOW_MS}) / 1000 + 1 ELSE 0 END
                )
                FROM {{silo}} AS silo
                WHERE silo.{{username}} = due.username AND silo.{{domain}} = due.domain
                    AND silo.{{status}} = 0 AND silo.{{snd_time}} = 0 AND silo.{{exp_time}} + 0 > $1
                ORDER BY silo.{{username}}, silo.{{domain}}, silo.{{id}} LIMIT 1
            ) ELSE due.next_time END AS first_time
        FROM due
    ), chosen AS MATERIALIZED (
        SELECT username, domain, min(next_time) AS since FROM known WHERE is_ours AND first_time <= $1
        GROUP BY username, domain ORDER BY min(next_time) LIMIT $4
    ), put_off AS (
        -- As rules.look_again_at has it.
        UPDATE {{silo}} AS silo SET
            next_time = CASE
                WHEN known.first_time > $1 THEN known.first_time
                WHEN NOT known.is_registered THEN 0
                WHEN known.status = 200 AND known.is_ours THEN $1 + ($5 << least(silo.attempts, {PAUSE_DOUBLED_MAX}))
                ELSE $1 + $5
            END,
            attempts = silo.attempts + CASE WHEN known.status = 200 AND known.is_ours THEN 1 ELSE 0 END
        FROM known
        WHERE silo.{{username}} = known.username AND silo.{{domain}} = known.domain AND silo.{{id}} = known.id
            AND (NOT known.is_registered OR known.first_time > $1
                OR NOT known.is_ours AND known.next_time <= $1 - $5
                OR EXISTS (SELECT FROM chosen WHERE chosen.username = known.username AND chosen.domain = known.domain))
    )
    SELECT username, domain FROM chosen ORDER BY since
"""


async def retry(connection: Connection, retries: Sequence[Retry], sql: Sql) -> list[Due]:
    answers: list[Due] = []
    async with transaction(connection):
        for retry in retries:
            rows = await connection.fetch(
                sql(_RETRY),
                retry.now_s,
                RETRY_ROWS_MAX,
                retry.node,
                retry.owners_max,
                retry.pause_s,
                retry.unregistered,
            )
            answers.append(Due(retry.token, tuple(Aor(*row) for row in rows)))
    return answers


def _owners(actions: Iterable[Dump | Renew | Settle]) -> tuple[list[str], list[str]]:
    """Columns ``username`` and ``domain``."""
    owners = [action.owner for action in actions]
    return [owner.username for owner in owners], [owner.domain for owner in owners]


def message_of(row: Sequence[Any]) -> Message:
    """Return the message in a row; `extra_hdrs` may be as Kamailio's blob encoder writes it."""
    message = message_from(row)
    if not message.extra_hdrs.startswith("\\x"):
        return message
    try:
        octets = bytes.fromhex(message.extra_hdrs[2:])
    except ValueError:
        # Not from an encoder that we know: as it is.
        return message
    return msgspec.structs.replace(message, extra_hdrs=text_of(octets))
