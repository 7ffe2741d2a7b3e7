"""What the store in PostgreSQL does on a connection: one statement for a batch, or one transaction.

Each statement that locks several rows does so in the order of owner, those that are not deferred first, and number; or
it passes over what is locked. Only messages are stored in the order in which they came, for so go their numbers: of two
servers that get the same repeats in other orders PostgreSQL may stop one, and what that was doing is done again.

In the statements every column of the table has its table before it: its name may be any, also one of ours.
"""

import hashlib
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Final

from msilo_core.actions import (
    Due,
    Expire,
    Expired,
    FindUser,
    Refused,
    Remind,
    Store,
    Stored,
    UserFound,
)
from msilo_core.uri import Aor
from msilo_core.users import User
from msilo_storage.lanes import Connection, transaction
from msilo_storage.postgres_delivery import LOOKED_FOR, NOW_MS, hand_on, message_of, where_is_owner
from msilo_storage.postgres_given import Given
from msilo_storage.quotas import Kept, Question, refusals
from msilo_storage.rows import (
    NEW_MESSAGE_WORDS,
    NEW_USER_COLUMNS,
    READ_MESSAGE,
    USER_COLUMNS,
    aor_values,
    message_values,
    repeat_key,
    user_from,
    user_values,
)
from msilo_storage.rules import DUE_ROWS_MAX, EXPIRE_ROWS_MAX, UNTOLD_ROWS_MAX
from msilo_storage.tables import Sql

__all__ = [
    "add_user",
    "append",
    "expire",
    "find_users",
    "list_users",
    "remind",
    "remove_user",
]


# A repeat is counted in the row that is there, which is how the number of that comes back from the same statement.
# `extra_hdrs` is written as Kamailio's blob encoder does.
_STORED: Final = Given(
    {
        "username": "text", "domain": "text", "src_addr": "text", "dst_addr": "text", "inc_time": "bigint",
        "exp_time": "bigint", "snd_time": "bigint", "ctype": "text", "body": "bytea", "extra_hdrs": "bytea",
        "callid": "text", "cseq": "int", "from_tag": "text", "from_hdr": "bytea", "to_hdr": "bytea",
        "date_hdr": "bytea", "attempts": "int", "reached": "int", "next_time": "bigint", "imdn": "int",
    },
    often_shared=(
        "domain", "inc_time", "exp_time", "snd_time", "ctype", "extra_hdrs", "cseq", "date_hdr", "attempts", "reached",
        "next_time", "imdn",
    ),
)  # fmt: skip
_INSERT: Final = rf"""
    INSERT INTO {{silo}} AS silo ({NEW_MESSAGE_WORDS})
    SELECT
        username, domain, src_addr, dst_addr, inc_time, exp_time, snd_time, ctype, body,
        '\x' || encode(extra_hdrs, 'hex'), callid, cseq, from_tag, from_hdr, to_hdr, date_hdr, attempts, reached,
        CASE WHEN next_time = 0 AND snd_time = 0 AND EXISTS (
            SELECT FROM {{silo_location}} AS location
            WHERE location.username = given.username AND location.domain = given.domain
                AND location.expires > given.inc_time
        ) THEN inc_time ELSE next_time END,
        imdn
    FROM {_STORED.rows}
    ORDER BY n
    ON CONFLICT ({{username}}, {{domain}}, {{callid}}, cseq, from_tag) WHERE cseq >= 0
    DO UPDATE SET repeats = silo.repeats + 1
    RETURNING silo.{{id}}, silo.repeats > 0
"""


async def append(connection: Connection, stores: Sequence[Store], sql: Sql) -> list[Stored | Refused]:
    bounded = [store for store in stores if store.is_bounded]
    if not bounded:
        return [*await _insert(connection, stores, sql)]
    async with transaction(connection):
        # What is counted next includes what those stored that this waits for: it is another statement.
        await connection.execute(_LOCK_INBOXES, _inbox_locks(bounded, sql.names.table))
        answers: dict[int, Stored | Refused] = {**await _without_room(connection, stores, bounded, sql)}
        others = [place for place in range(len(stores)) if place not in answers]
        stored = await _insert(connection, [stores[place] for place in others], sql) if others else []
    answers.update(zip(others, stored, strict=True))
    return [answers[place] for place in range(len(stores))]


async def _insert(connection: Connection, stores: Sequence[Store], sql: Sql) -> list[Stored]:
    # One statement cannot change a row twice: each message goes once, for all places of the batch that it has.
    places: dict[object, list[int]] = {}
    for place, store in enumerate(stores):
        places.setdefault(repeat_key(store.message) or place, []).append(place)
    values = (message_values(stores[first].message) for first, *_ in places.values())
    # They come back in the order in which they went, and so do the numbers of those that are new.
    rows = await connection.fetch(sql(_INSERT), *_STORED.parameters(*zip(*values, strict=True)))
    answers: dict[int, Stored] = {}
    for (first, *others), (number, is_repeat) in zip(places.values(), rows, strict=True):
        answers[first] = Stored(stores[first].token, number, is_repeat)
        for other in others:
            answers[other] = Stored(stores[other].token, number, repeated=True)
    return [answers[place] for place in range(len(stores))]


# In the order of the array, which is the same on every server: they never wait for each other in a circle.
_LOCK_INBOXES: Final = "SELECT pg_advisory_xact_lock(inbox) FROM unnest($1::bigint[]) AS inbox"
# Of each owner no more rows are read than he may have messages, where there is a bound on that.
_COUNT_KEPT: Final = """
    SELECT username, domain, NULL, (
        SELECT count(*) FROM (
            SELECT FROM {silo} AS silo
            WHERE silo.{username} = given.username AND silo.{domain} = given.domain
                AND silo.{status} = 0 AND silo.{snd_time} = 0
            ORDER BY silo.{username}, silo.{domain}, silo.{id}
            LIMIT $3
        ) AS ordinary
    ) + (
        SELECT count(*) FROM (
            SELECT FROM {silo} AS silo
            WHERE silo.{username} = given.username AND silo.{domain} = given.domain
                AND silo.{status} = 0 AND silo.{snd_time} > 0
            ORDER BY silo.{username}, silo.{domain}, silo.{snd_time}
            LIMIT $3
        ) AS deferred
    ), 0
    FROM unnest($1::text[], $2::text[]) AS given (username, domain)
"""
# The same with octets, as `size_of` adds them up, and by sender where that is asked for ($4). It reads the rows and not
# the index alone; of a long value it reads the length, which stands in the row.
_WEIGHED: Final = """
    CASE WHEN $4 THEN silo.{src_addr} END AS sender,
    octet_length(silo.{ctype}) + coalesce(octet_length(silo.{body}), 0)
        + coalesce(greatest(octet_length(silo.{extra_hdrs}) - 2, 0) / 2, 0) + coalesce(octet_length(silo.from_hdr), 0)
        + coalesce(octet_length(silo.to_hdr), 0) + coalesce(octet_length(silo.date_hdr), 0) AS octets
"""
_WEIGH_KEPT: Final = f"""
    SELECT given.username, given.domain, kept.sender, kept.messages, kept.octets
    FROM unnest($1::text[], $2::text[]) AS given (username, domain)
    CROSS JOIN LATERAL (
        SELECT waiting.sender, count(*) AS messages, sum(waiting.octets) AS octets
        FROM (
            (
                SELECT {_WEIGHED} FROM {{silo}} AS silo
                WHERE silo.{{username}} = given.username AND silo.{{domain}} = given.domain
                    AND silo.{{status}} = 0 AND silo.{{snd_time}} = 0
                ORDER BY silo.{{username}}, silo.{{domain}}, silo.{{id}}
                LIMIT $3
            ) UNION ALL (
                SELECT {_WEIGHED} FROM {{silo}} AS silo
                WHERE silo.{{username}} = given.username AND silo.{{domain}} = given.domain
                    AND silo.{{status}} = 0 AND silo.{{snd_time}} > 0
                ORDER BY silo.{{username}}, silo.{{domain}}, silo.{{snd_time}}
                LIMIT $3
            )
        ) AS waiting
        GROUP BY waiting.sender
    ) AS kept
"""
_REPEATED: Final = """
    SELECT given.username, given.domain, given.callid, given.cseq, given.from_tag
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[])
        AS given (username, domain, callid, cseq, from_tag)
    JOIN {silo} AS silo
        ON silo.{username} = given.username AND silo.{domain} = given.domain AND silo.{callid} = given.callid
        AND silo.cseq = given.cseq AND silo.from_tag = given.from_tag AND silo.cseq >= 0
"""


def _inbox_locks(stores: Iterable[Store], table: str) -> list[int]:
    """Return a number for each owner's inbox, ascending."""
    inboxes = {f"{table}|{store.message.owner}" for store in stores}
    digests = (hashlib.blake2b(inbox.encode("utf-8", "replace"), digest_size=8).digest() for inbox in inboxes)
    return sorted(int.from_bytes(digest, signed=True) for digest in digests)


async def _without_room(
    connection: Connection, stores: Sequence[Store], bounded: Sequence[Store], sql: Sql
) -> dict[int, Refused]:
    """Answer those that an inbox has no room for, by their places; the inboxes of `bounded` must be locked."""
    counted = await _kept(connection, bounded, sql)
    suspects = refusals(stores, deepcopy(counted), counted.keys())
    if not suspects:
        # There is room for all, repeats or not.
        return {}
    crowded = {stores[place].message.owner for place in suspects}
    keys = [key for store in stores if store.message.owner in crowded and (key := repeat_key(store.message))]
    rows = await connection.fetch(sql(_REPEATED), *zip(*keys, strict=True)) if keys else []
    return refusals(stores, counted, crowded, map(tuple, rows))


async def _kept(connection: Connection, bounded: Sequence[Store], sql: Sql) -> dict[Aor, Kept]:
    counted = {store.message.owner: Kept() for store in bounded}
    usernames, domains = [owner.username for owner in counted], [owner.domain for owner in counted]
    asked = Question.of(bounded)
    if asked.is_weighed or asked.is_by_sender:
        rows = await connection.fetch(sql(_WEIGH_KEPT), usernames, domains, asked.rows_max, asked.is_by_sender)
    else:
        rows = await connection.fetch(sql(_COUNT_KEPT), usernames, domains, asked.rows_max)
    for username, domain, src_addr, messages, octets in rows:
        counted[Aor(username, domain)].count(src_addr, messages, octets)
    return counted


_DELETE_EXPIRED: Final = f"""
    WITH expired AS MATERIALIZED (
        SELECT silo.{{username}} AS username, silo.{{domain}} AS domain, silo.{{id}} AS id, {LOOKED_FOR}
        FROM {{silo}} AS silo
        WHERE silo.{{exp_time}} <= $1 AND silo.lease_until <= {NOW_MS} AND silo.imdn = 0
        ORDER BY silo.{{exp_time}}
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ), {hand_on("true", "expired", others="silo.{exp_time} + 0 > $1")}
    DELETE FROM {{silo}} AS silo USING expired
    WHERE silo.{{username}} = expired.username AND silo.{{domain}} = expired.domain AND silo.{{id}} = expired.id
"""
_DELETE_TOLD: Final = _DELETE_EXPIRED + "    RETURNING silo.{status} = 200"
_DELETE_UNTOLD: Final = _DELETE_EXPIRED.replace("imdn = 0", "imdn <> 0") + f"    RETURNING {READ_MESSAGE}"
_DELETE_EXPIRED_BINDINGS: Final = """
    WITH expired AS MATERIALIZED (
        SELECT username, domain, contact
        FROM {silo_location}
        WHERE expires <= $1
        ORDER BY expires
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM {silo_location} AS location USING expired
    WHERE location.username = expired.username AND location.domain = expired.domain
        AND location.contact = expired.contact
"""


async def expire(connection: Connection, expires: Sequence[Expire], sql: Sql) -> list[Expired]:
    answers: list[Expired] = []
    # What is returned is gone for good: not before all is well.
    async with transaction(connection):
        for expire in expires:
            now_s = expire.now_ms // 1000
            rows = await connection.fetch(sql(_DELETE_UNTOLD), now_s, UNTOLD_ROWS_MAX)
            untold = sorted((message_of(tuple(row)) for row in rows), key=lambda message: message.exp_time_s)
            deleted, taken = len(untold), 0
            if deleted < UNTOLD_ROWS_MAX:
                rows = await connection.fetch(sql(_DELETE_TOLD), now_s, EXPIRE_ROWS_MAX)
                deleted += len(rows)
                taken = sum(row[0] for row in rows)
            await connection.execute(sql(_DELETE_EXPIRED_BINDINGS), now_s, EXPIRE_ROWS_MAX)
            answers.append(Expired(expire.token, deleted, tuple(untold), taken))
    return answers


_REMIND: Final = f"""
    WITH due AS MATERIALIZED (
        SELECT
            silo.{{username}} AS username, silo.{{domain}} AS domain, silo.{{id}} AS id, silo.{{snd_time}} AS snd_time,
            silo.next_time AS next_time
        FROM {{silo}} AS silo
        WHERE silo.{{status}} + 0 = 0 AND silo.{{snd_time}} > 0 AND silo.{{snd_time}} <= $1
            AND silo.{{exp_time}} + 0 > $1 AND silo.lease_until <= {NOW_MS}
        ORDER BY silo.{{snd_time}}
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    ), reached AS MATERIALIZED (
        SELECT due.*,
            {where_is_owner(now_s="$1", node="$5", unregistered="$2")}
        FROM due
    ), known AS MATERIALIZED (
        SELECT *, CASE WHEN is_ours THEN next_time > 0 AND next_time <= $1 - $6 ELSE snd_time <= $1 - $6 END AS is_late
        FROM reached
    ), chosen AS MATERIALIZED (
        SELECT username, domain, min(snd_time) AS since FROM known WHERE is_ours AND NOT is_late
        GROUP BY username, domain ORDER BY min(snd_time) LIMIT $4
    ), marked AS (
        UPDATE {{silo}} AS silo SET
            {{snd_time}} = CASE WHEN known.is_registered AND NOT known.is_late THEN silo.{{snd_time}} ELSE 0 END,
            next_time = CASE WHEN known.is_registered THEN $1 ELSE 0 END
        FROM known
        WHERE silo.{{username}} = known.username AND silo.{{domain}} = known.domain AND silo.{{id}} = known.id
            AND (NOT known.is_registered OR known.is_late OR known.next_time = 0
                AND EXISTS (SELECT FROM chosen WHERE chosen.username = known.username AND chosen.domain = known.domain))
    )
    SELECT username, domain FROM chosen ORDER BY since
"""


async def remind(connection: Connection, reminds: Sequence[Remind], sql: Sql) -> list[Due]:
    answers: list[Due] = []
    async with transaction(connection):
        for remind in reminds:
            rows = await connection.fetch(
                sql(_REMIND),
                remind.now_s,
                remind.unregistered,
                DUE_ROWS_MAX,
                remind.owners_max,
                remind.node,
                remind.pause_s,
            )
            answers.append(Due(remind.token, tuple(Aor(*row) for row in rows)))
    return answers


_USER: Final = ", ".join(USER_COLUMNS)
_FIND_USERS: Final = f"""
    SELECT n, {_USER}
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given (username, domain, n)
    JOIN subscriber USING (username, domain)
"""
# What a statement sees is as it was before it: no row there, a new user.
_ADD_USER: Final = f"""
    WITH added AS (
        INSERT INTO subscriber ({", ".join(NEW_USER_COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (username, domain) DO UPDATE SET
            {", ".join(f"{column} = excluded.{column}" for column in NEW_USER_COLUMNS[2:])}
    )
    SELECT NOT EXISTS (SELECT FROM subscriber WHERE username = $1 AND domain = $2)
"""
_REMOVE_USER: Final = "DELETE FROM subscriber WHERE username = $1 AND domain = $2"
# In the order of octets, as the other stores have it.
_PLACE: Final = '(domain COLLATE "C", username COLLATE "C")'
_LIST_USERS: Final = f"""
    SELECT {_USER} FROM subscriber
    WHERE {_PLACE} > ($1, $2)
    ORDER BY domain COLLATE "C", username COLLATE "C" LIMIT $3
"""


async def find_users(connection: Connection, finds: Sequence[FindUser]) -> list[UserFound]:
    found = {n: user_from(row) for n, *row in await connection.fetch(_FIND_USERS, *_owners(finds))}
    return [UserFound(find.token, found.get(n)) for n, find in enumerate(finds, start=1)]


async def add_user(connection: Connection, user: User) -> bool:
    is_new: bool = await connection.fetchval(_ADD_USER, *user_values(user))
    return is_new


async def remove_user(connection: Connection, owner: Aor) -> bool:
    return _count_of(await connection.execute(_REMOVE_USER, *aor_values(owner))) > 0


async def list_users(connection: Connection, after: Aor | None, limit: int) -> list[User]:
    place = ("", "") if after is None else (after.domain, after.username)
    return [user_from(tuple(row)) for row in await connection.fetch(_LIST_USERS, *place, limit)]


def _owners(actions: Iterable[FindUser]) -> tuple[list[str], list[str]]:
    """Columns ``username`` and ``domain``."""
    owners = [action.owner for action in actions]
    return [owner.username for owner in owners], [owner.domain for owner in owners]


def _count_of(tag: str) -> int:
    # "DELETE 42"
    return int(tag.rpartition(" ")[2])
