"""What the store in SQLite does on a connection, inside the transaction of a batch."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from msilo_core.actions import (
    Bind,
    Binding,
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
    Outcome,
    Refused,
    Remind,
    Renew,
    Renewed,
    Retry,
    Settle,
    Settled,
    Store,
    Stored,
    Unbind,
    Unbound,
    UserFound,
)
from msilo_core.registrar import Rejection, preferred
from msilo_core.targets import devices_of
from msilo_core.uri import Aor
from msilo_core.users import User
from msilo_storage.quotas import Kept, Question
from msilo_storage.rows import (
    BINDING_COLUMNS,
    NEW_MESSAGE_COLUMNS,
    NEW_MESSAGE_WORDS,
    NEW_USER_COLUMNS,
    READ_MESSAGE,
    USER_COLUMNS,
    aor_values,
    binding_from,
    binding_values,
    message_from,
    message_values,
    repeat_key,
    user_from,
    user_values,
)
from msilo_storage.rules import (
    DUE_ROWS_MAX,
    EXPIRE_ROWS_MAX,
    PAUSE_DOUBLED_MAX,
    REGISTERED_LOOK_S,
    RETRY_ROWS_MAX,
    TAKEN,
    UNTOLD_ROWS_MAX,
    Inventory,
    fold,
    leasable,
    legible,
    look_again_s,
    status_after,
    taken_by,
    taken_over,
    without_repeats,
)
from msilo_storage.tables import Sql

__all__ = [
    "LOOKED_FOR",
    "add_user",
    "append",
    "bind",
    "dump",
    "expire",
    "find_users",
    "hand_on",
    "list_users",
    "look_up",
    "remind",
    "remove_user",
    "renew",
    "retry",
    "settle",
    "unbind",
]

_NEW: Final = {column: f"?{n}" for n, column in enumerate(NEW_MESSAGE_COLUMNS, start=1)}
_NEXT_TIME: Final = (
    "iif({next_time} = 0 AND {snd_time} = 0 AND EXISTS (SELECT 1 FROM {{silo_location}} AS location"
    " WHERE location.username = {username} AND location.domain = {domain} AND location.expires > {inc_time}),"
    " {inc_time}, {next_time})"
).format(**_NEW)
_INSERT: Final = (
    f"INSERT INTO {{silo}} ({NEW_MESSAGE_WORDS}) VALUES ({', '.join({**_NEW, 'next_time': _NEXT_TIME}.values())})"
    " ON CONFLICT DO NOTHING"
)
_COUNT_REPEAT: Final = (
    "UPDATE {silo} SET repeats = repeats + 1"
    " WHERE {username} = ? AND {domain} = ? AND {callid} = ? AND cseq = ? AND from_tag = ? AND cseq >= 0"
    " RETURNING {id}"
)
# Of each owner no more rows are read than he may have messages, where there is a bound on that (else -1).
_WAITS: Final = "FROM {silo} WHERE {username} = ?1 AND {domain} = ?2 AND {status} = 0 AND {snd_time}"
_COUNT_KEPT: Final = (
    f"SELECT NULL, (SELECT count(*) FROM (SELECT 1 {_WAITS} = 0 LIMIT ?3))"
    f" + (SELECT count(*) FROM (SELECT 1 {_WAITS} > 0 LIMIT ?3)), 0"
)
# The same with octets, as `size_of` adds them up, and by sender where that is asked for (?4). Of a blob `length` reads
# no more than its head.
_WEIGHED: Final = (
    "iif(?4, {src_addr}, NULL) AS sender, length(CAST({ctype} AS BLOB)) + coalesce(length({body}), 0)"
    " + coalesce(length({extra_hdrs}), 0) + coalesce(length(from_hdr), 0) + coalesce(length(to_hdr), 0)"
    " + coalesce(length(date_hdr), 0) AS octets"
)
_WEIGH_KEPT: Final = (
    "SELECT sender, count(*), sum(octets) FROM ("
    f"SELECT * FROM (SELECT {_WEIGHED} {_WAITS} = 0 LIMIT ?3)"
    f" UNION ALL SELECT * FROM (SELECT {_WEIGHED} {_WAITS} > 0 LIMIT ?3)"
    ") GROUP BY sender"
)


def append(connection: sqlite3.Connection, stores: Sequence[Store], sql: Sql) -> list[Stored | Refused]:
    answers: list[Stored | Refused] = []
    inboxes: dict[Aor, Kept] = {}
    bounded = [store for store in stores if store.is_bounded]
    asked = Question.of(bounded) if bounded else None
    for store in stores:
        message = store.message
        if asked is not None and store.is_bounded:
            if message.owner not in inboxes:
                inboxes[message.owner] = _kept(connection, message.owner, asked, sql)
            refused = inboxes[message.owner].refusal(store)
            if refused is not None and not _is_repeat(connection, sql, message):
                answers.append(refused)
                continue
        # Measured: one execute for each row costs what executemany does, and says which row was there before.
        cursor = connection.execute(sql(_INSERT), message_values(message))
        if cursor.rowcount:
            assert cursor.lastrowid is not None
            answers.append(Stored(store.token, cursor.lastrowid))
            if message.owner in inboxes:
                inboxes[message.owner].add(message)
        else:
            key = repeat_key(message)
            assert key is not None
            (message_id,) = connection.execute(sql(_COUNT_REPEAT), key).fetchone()
            answers.append(Stored(store.token, message_id, repeated=True))
    return answers


def _kept(connection: sqlite3.Connection, owner: Aor, asked: Question, sql: Sql) -> Kept:
    kept = Kept()
    values = (*aor_values(owner), -1 if asked.rows_max is None else asked.rows_max)
    if asked.is_weighed or asked.is_by_sender:
        rows = connection.execute(sql(_WEIGH_KEPT), (*values, asked.is_by_sender))
    else:
        rows = connection.execute(sql(_COUNT_KEPT), values)
    for src_addr, messages, octets in rows:
        kept.count(src_addr, messages, octets)
    return kept


def look_up(connection: sqlite3.Connection, lookups: Sequence[LookUp], sql: Sql) -> list[LookedUp]:
    answers: list[LookedUp] = []
    for lookup in lookups:
        known = _bindings(connection, sql, lookup.owner)
        alive = tuple(sorted((b for b in known if b.expires_s > lookup.now_s), key=preferred))
        answers.append(LookedUp(lookup.token, alive, _is_awaited(connection, sql, lookup, alive)))
    return answers


_REPLACE_BINDING: Final = (
    f"INSERT OR REPLACE INTO {{silo_location}} ({', '.join(BINDING_COLUMNS)})"
    f" VALUES ({', '.join('?' * len(BINDING_COLUMNS))})"
)
_DELETE_BINDING: Final = "DELETE FROM {silo_location} WHERE username = ? AND domain = ? AND contact = ?"


def bind(connection: sqlite3.Connection, binds: Sequence[Bind], sql: Sql) -> list[Bound | Refused]:
    inventory: Inventory = {}
    for bind in binds:
        if bind.owner not in inventory:
            inventory[bind.owner] = {b.contact: b for b in _bindings(connection, sql, bind.owner)}
    changes = fold(inventory, binds)
    connection.executemany(
        sql(_REPLACE_BINDING),
        [binding_values(owner, binding) for owner, binding in changes.written],
    )
    removed = [(*aor_values(owner), contact) for owner, contact in changes.removed]
    connection.executemany(sql(_DELETE_BINDING), removed)
    answers: list[Bound | Refused] = []
    awaited: list[tuple[str, str, int]] = []
    for bind, result in zip(binds, changes.results, strict=True):
        if isinstance(result, Rejection):
            answers.append(Refused(bind.token, result.status, result.reason))
        else:
            waiting = _is_awaited(connection, sql, bind, result.bindings)
            if waiting and devices_of(result.bindings):
                awaited.append((*aor_values(bind.owner), bind.now_s + REGISTERED_LOOK_S))
            answers.append(Bound(bind.token, result.bindings, waiting))
    connection.executemany(sql(_LOOK_FOR_UNLEASED), awaited)
    return answers


_UNBIND: Final = "DELETE FROM {silo_location} WHERE username = ? AND domain = ? AND contact = ? AND updated_ms = ?"


def unbind(connection: sqlite3.Connection, unbinds: Sequence[Unbind], sql: Sql) -> list[Unbound]:
    values = [(*aor_values(unbind.owner), unbind.contact, unbind.updated_ms) for unbind in unbinds]
    connection.executemany(sql(_UNBIND), values)
    return [Unbound(unbind.token) for unbind in unbinds]


LOOKED_FOR: Final = "{username}, {domain}, iif({status} IN (0, 200), next_time, 0)"
"""What :func:`hand_on` is to know of a row that leaves."""

_LOOK_FOR_OLDEST: Final = (
    "UPDATE {silo} SET next_time = ?3 WHERE next_time = 0 AND {id} = ("
    "SELECT {id} FROM {silo} WHERE {username} = ?1 AND {domain} = ?2 AND {status} = 0 AND {snd_time} = 0"
    " ORDER BY {id} LIMIT 1)"
)
_LOOK_FOR_UNLEASED: Final = f"{_LOOK_FOR_OLDEST} AND lease_node = ''"


def hand_on(connection: sqlite3.Connection, sql: Sql, gone: Iterable[tuple[str, str, int]]) -> None:
    """Let others look for the oldest that waits where they were to look for one that has left."""
    connection.executemany(sql(_LOOK_FOR_OLDEST), sorted(row for row in gone if row[2]))


_ROW: Final = "WHERE {username} = ? AND {domain} = ? AND {id} = ?"
_OF_OWNER: Final = "{username} = :username AND {domain} = :domain AND {status} = 0 AND {exp_time} > :now_s"
# Two indexes: whoever has thousands of messages for next year need not read them each time.
_ORDINARY: Final = f" FROM {{silo}} AS silo WHERE {_OF_OWNER} AND {{snd_time}} = 0"
_DUE: Final = f" FROM {{silo}} AS silo WHERE {_OF_OWNER} AND {{snd_time}} > 0 AND {{snd_time}} <= :now_s"
_READ_WAITING: Final = f"SELECT {READ_MESSAGE}, lease_node, lease_until"
# What a device took, and one of these lacks.
_LACKED: Final = (
    " FROM {silo} AS silo WHERE {username} = :username AND {domain} = :domain AND {status} = 200"
    " AND {exp_time} > :now_s AND (%s EXISTS (SELECT 1 FROM json_each(:devices) AS device"
    " WHERE instr(' ' || silo.taken_by || ' ', ' ' || device.value || ' ') = 0))"
)
_WAITING: Final = (
    f"SELECT * FROM ({_READ_WAITING}{_ORDINARY} ORDER BY silo.{{id}} LIMIT :rows_max)"
    f" UNION ALL SELECT * FROM ({_READ_WAITING}{_DUE} ORDER BY +silo.{{id}} LIMIT :rows_max)"
)
_LATE: Final = _LACKED % "(next_time > 0 AND next_time <= :now_s) OR"
_OR_LACKED: Final = f" UNION ALL SELECT * FROM ({_READ_WAITING}{_LATE} ORDER BY silo.{{id}} LIMIT :rows_max)"
_OLDEST: Final = " ORDER BY id LIMIT :rows_max"
_LEASE: Final = (
    f"UPDATE {{silo}} SET reached = reached + (lease_node <> ''), lease_node = ?, lease_until = ?, next_time = 0 {_ROW}"
)
_LOOK_AGAIN: Final = f"UPDATE {{silo}} SET next_time = ? {_ROW}"


def dump(connection: sqlite3.Connection, dumps: Sequence[Dump], sql: Sql) -> list[Dumped]:
    answers: list[Dumped] = []
    now_ms = _clock()
    for dump in dumps:
        owner = aor_values(dump.owner)
        asked = {**_inbox(dump.owner, dump.now_ms // 1000), "rows_max": dump.messages_max + 1}
        query = _WAITING + _OLDEST
        if dump.devices:
            asked["devices"] = _json(dump.devices)
            query = _WAITING + _OR_LACKED + _OLDEST
        rows = connection.execute(sql(query), asked).fetchall()
        found = [message_from(row) for row in rows]
        waiting = [
            (*row[-2:], -1 if message.status else message.next_time_s) for row, message in zip(rows, found, strict=True)
        ]
        count, busy_ms, is_early = leasable(waiting, dump, now_ms)
        free = found[:count]
        page = [
            taken_over(message, node) for message, (node, *_) in zip(free[: dump.messages_max], waiting, strict=False)
        ]
        leases = [(dump.lease, now_ms + dump.lease_ms, *owner, message.message_id) for message in page]
        connection.executemany(sql(_LEASE), leases)
        for last in free[-1:]:
            connection.execute(sql(_LOOK_AGAIN), (look_again_s(dump), *owner, last.message_id))
        answers.append(Dumped(dump.token, tuple(page), busy_ms, is_early))
    return answers


_RENEW: Final = f"UPDATE {{silo}} SET lease_until = ? {_ROW} AND lease_node = ? AND {{status}} IN (0, 200)"


def renew(connection: sqlite3.Connection, renewals: Sequence[Renew], sql: Sql) -> list[Renewed]:
    answers: list[Renewed] = []
    now_ms = _clock()
    for renewal in renewals:
        until_ms, owner = now_ms + renewal.lease_ms, aor_values(renewal.owner)
        kept = [
            number
            for number in renewal.message_ids
            if connection.execute(sql(_RENEW), (until_ms, *owner, number, renewal.lease)).rowcount
        ]
        answers.append(Renewed(renewal.token, tuple(kept)))
    return answers


_HELD_ROW: Final = f"{_ROW} AND lease_node = ? AND {{status}} IN (0, 200)"
_OVER: Final = (Outcome.DELIVERED, Outcome.WITHDRAWN, Outcome.REFUSED)
# Measured: RETURNING doubles what it costs to delete a row.
_LOOKED_FOR: Final = (
    f"SELECT {LOOKED_FOR} FROM {{silo}}"
    " WHERE {id} IN (SELECT value FROM json_each(?)) AND {status} IN (0, 200) AND next_time > 0"
)
_DELETE: Final = f"DELETE FROM {{silo}} {_ROW}"
_RELEASE: Final = f"UPDATE {{silo}} SET lease_node = '', lease_until = 0, next_time = ? {_HELD_ROW}"
_MISS: Final = f"UPDATE {{silo}} SET lease_node = '', lease_until = 0, next_time = ?, {{snd_time}} = 0 {_HELD_ROW}"
_GIVE_BACK: Final = (
    "UPDATE {silo} SET lease_node = '', lease_until = 0, attempts = attempts + 1, reached = reached + ?,"
    # Who says that of what a device has did not know it.
    " {status} = iif({status} = 0, ?, {status}), last_status = ?, reason = ?, next_time = ?,"
    f" {{snd_time}} = iif(?, {{snd_time}}, 0), imdn = iif(?, 0, imdn) {_HELD_ROW}"
)


def settle(connection: sqlite3.Connection, settles: Sequence[Settle], sql: Sql) -> list[Settled]:
    answers: list[Settled] = []
    for part in without_repeats(settles):
        over = [settle.message_id for settle in part if settle.outcome in _OVER]
        gone = connection.execute(sql(_LOOKED_FOR), (msgspec.json.encode(over).decode(),)).fetchall()
        answers += [_settle(connection, settle, sql) for settle in part]
        hand_on(connection, sql, gone)
    return answers


def _settle(connection: sqlite3.Connection, settle: Settle, sql: Sql) -> Settled:
    row = (*aor_values(settle.owner), settle.message_id)
    match settle.outcome:
        case Outcome.DELIVERED | Outcome.WITHDRAWN:
            cursor = connection.execute(sql(_DELETE), row)
        case Outcome.TAKEN:
            cursor = _take(connection, sql, settle, row)
        case Outcome.RELEASED:
            cursor = connection.execute(sql(_RELEASE), (settle.next_time_s, *row, settle.lease))
        case Outcome.MISSED:
            cursor = connection.execute(sql(_MISS), (settle.next_time_s, *row, settle.lease))
        case Outcome.REFUSED | Outcome.FAILED | Outcome.UNREACHED:
            was_reached = settle.outcome is not Outcome.UNREACHED
            is_over = settle.outcome is Outcome.REFUSED
            status, reason = status_after(settle), legible(settle.reason)
            noted = (was_reached, status, settle.status, reason, settle.next_time_s, is_over, is_over)
            cursor = connection.execute(sql(_GIVE_BACK), (*noted, *row, settle.lease))
    return Settled(settle.token, lost=cursor.rowcount == 0)


_TAKEN_BY: Final = f"SELECT taken_by, iif({{status}} = 0, next_time, 0) FROM {{silo}} {_ROW}"
_TAKE: Final = (
    f"UPDATE {{silo}} SET {{status}} = 200, imdn = 0, taken_by = ?, {{exp_time}} = min({{exp_time}}, ?) {_ROW}"
)
_TAKE_BACK: Final = (
    "UPDATE {silo} SET lease_node = '', lease_until = 0, attempts = iif(?, attempts + 1, 0), next_time = ?"
    f" {_HELD_ROW}"
)


def _take(connection: sqlite3.Connection, sql: Sql, settle: Settle, row: tuple[str, str, int]) -> sqlite3.Cursor:
    taken, looked_for = connection.execute(sql(_TAKEN_BY), row).fetchone() or ("", 0)
    if not settle.is_late:
        back = (settle.next_time_s > 0, settle.next_time_s)
        connection.execute(sql(_TAKE_BACK), (*back, *row, settle.lease))
    cursor = connection.execute(sql(_TAKE), (taken_by(taken, settle), settle.until_s, *row))
    hand_on(connection, sql, [(*row[:2], looked_for)])
    return cursor


_DELETE_EXPIRED: Final = (
    "DELETE FROM {silo} WHERE {id} IN (SELECT {id} FROM {silo}"
    " WHERE {exp_time} <= :now_s AND lease_until <= :now_ms AND imdn = 0"
    f" ORDER BY {{exp_time}} LIMIT :rows_max) RETURNING {LOOKED_FOR}, {{status}}"
)
_EXPIRED_UNTOLD: Final = (
    f"SELECT {READ_MESSAGE} FROM {{silo}} AS silo"
    " WHERE {exp_time} <= :now_s AND lease_until <= :now_ms AND imdn <> 0"
    " ORDER BY silo.{exp_time} LIMIT :untold_max"
)
_DELETE_EXPIRED_BINDINGS: Final = "DELETE FROM {silo_location} WHERE expires <= :now_s"


def expire(connection: sqlite3.Connection, expires: Sequence[Expire], sql: Sql) -> list[Expired]:
    answers: list[Expired] = []
    for expire in expires:
        values = {
            "now_ms": _clock(), "now_s": expire.now_ms // 1000,
            "rows_max": EXPIRE_ROWS_MAX, "untold_max": UNTOLD_ROWS_MAX,
        }  # fmt: skip
        untold = tuple(map(message_from, connection.execute(sql(_EXPIRED_UNTOLD), values)))
        rows = [(*aor_values(message.owner), message.message_id) for message in untold]
        connection.executemany(sql(_DELETE), rows)
        gone = [(*aor_values(message.owner), message.next_time_s) for message in untold if not message.status]
        told: list[tuple[str, str, int, int]] = []
        if len(untold) < UNTOLD_ROWS_MAX:
            told = connection.execute(sql(_DELETE_EXPIRED), values).fetchall()
        hand_on(connection, sql, [*gone, *(row[:3] for row in told)])
        connection.execute(sql(_DELETE_EXPIRED_BINDINGS), values)
        taken = sum(row[3] == TAKEN for row in told)
        answers.append(Expired(expire.token, len(untold) + len(told), untold, taken))
    return answers


_IS_REGISTERED: Final = (
    ":unregistered OR EXISTS ("
    "SELECT 1 FROM {silo_location} AS location WHERE location.username = silo.{username}"
    " AND location.domain = silo.{domain} AND location.expires > :now_s)"
)
_IS_OURS: Final = (
    ":unregistered OR EXISTS ("
    "SELECT 1 FROM {silo_location} AS location WHERE location.username = silo.{username}"
    " AND location.domain = silo.{domain} AND location.expires > :now_s"
    " AND (location.node = :node OR location.transport = 'udp'))"
)
_LONGEST_DUE: Final = (
    f"SELECT {{username}}, {{domain}}, {{id}}, {{snd_time}}, next_time, {_IS_REGISTERED}, {_IS_OURS}"
    " FROM {silo} AS silo WHERE {status} = 0 AND {snd_time} > 0 AND {snd_time} <= :now_s AND {exp_time} > :now_s"
    " AND lease_until <= :now_ms ORDER BY silo.{snd_time} LIMIT :rows_max"
)
_MAKE_ORDINARY: Final = f"UPDATE {{silo}} SET {{snd_time}} = 0, next_time = ? {_ROW}"


def remind(connection: sqlite3.Connection, reminds: Sequence[Remind], sql: Sql) -> list[Due]:
    answers: list[Due] = []
    for remind in reminds:
        # Since it was first returned, or came due, nobody has taken it; see Remind.
        now_s, pause_s = remind.now_s, remind.pause_s
        values = {
            "now_s": now_s, "now_ms": _clock(), "node": remind.node, "unregistered": remind.unregistered,
            "rows_max": DUE_ROWS_MAX,
        }  # fmt: skip
        owners: dict[Aor, None] = {}
        ordinary: list[tuple[int, str, str, int]] = []
        told: list[tuple[int, str, str, int]] = []
        found = connection.execute(sql(_LONGEST_DUE), values)
        for username, domain, message_id, due_s, next_s, is_registered, is_ours in found:
            owner, row = Aor(username, domain), (username, domain, message_id)
            if not is_registered:
                ordinary.append((0, *row))
            elif (next_s or now_s if is_ours else due_s) <= now_s - pause_s:
                ordinary.append((now_s, *row))
            elif is_ours and (owner in owners or len(owners) < remind.owners_max):
                owners[owner] = None
                if not next_s:
                    told.append((now_s, *row))
        connection.executemany(sql(_MAKE_ORDINARY), ordinary)
        connection.executemany(sql(_LOOK_AGAIN), told)
        answers.append(Due(remind.token, tuple(owners)))
    return answers


_RETRIABLE: Final = (
    f"SELECT {{username}}, {{domain}}, {{id}}, next_time, {_IS_REGISTERED}, {_IS_OURS},"
    " iif({status} = 200, next_time, (SELECT max(first.next_time,"
    " iif(first.lease_until > :now_ms, :now_s + (first.lease_until - :now_ms) / 1000 + 1, 0))"
    " FROM {silo} AS first WHERE first.{username} = silo.{username}"
    " AND first.{domain} = silo.{domain} AND first.{status} = 0 AND first.{snd_time} = 0 AND first.{exp_time} > :now_s"
    " ORDER BY first.{id} LIMIT 1"
    ")) FROM {silo} AS silo WHERE {status} IN (0, 200) AND next_time > 0 AND next_time <= :now_s"
    " AND {exp_time} > :now_s AND ({snd_time} = 0 OR {status} = 200)"
    " AND lease_until <= :now_ms ORDER BY silo.next_time LIMIT :rows_max"
)


# As rules.look_again_at has it.
_LEAVE: Final = (
    f"UPDATE {{silo}} SET next_time = ? + (? << iif({{status}} = 200, min(attempts, {PAUSE_DOUBLED_MAX}), 0)),"
    f" attempts = attempts + ({{status}} = 200) {_ROW}"
)


def retry(connection: sqlite3.Connection, retries: Sequence[Retry], sql: Sql) -> list[Due]:
    answers: list[Due] = []
    for retry in retries:
        values = {
            "now_s": retry.now_s, "now_ms": _clock(), "node": retry.node, "unregistered": retry.unregistered,
            "rows_max": RETRY_ROWS_MAX,
        }  # fmt: skip
        owners: dict[Aor, None] = {}
        put_off: list[tuple[int, str, str, int]] = []
        left: list[tuple[int, int, str, str, int]] = []
        found = connection.execute(sql(_RETRIABLE), values)
        for username, domain, message_id, due_s, is_registered, is_ours, first_s in found:
            owner = Aor(username, domain)
            if first_s > retry.now_s:
                put_off.append((first_s, username, domain, message_id))
            elif not is_registered:
                put_off.append((0, username, domain, message_id))
            elif is_ours and (owner in owners or len(owners) < retry.owners_max):
                owners[owner] = None
                left.append((retry.now_s, retry.pause_s, username, domain, message_id))
            elif not is_ours and due_s <= retry.now_s - retry.pause_s:
                put_off.append((retry.now_s + retry.pause_s, username, domain, message_id))
        connection.executemany(sql(_LOOK_AGAIN), put_off)
        connection.executemany(sql(_LEAVE), left)
        answers.append(Due(retry.token, tuple(owners)))
    return answers


_BINDINGS: Final = f"SELECT {', '.join(BINDING_COLUMNS)} FROM {{silo_location}} WHERE username = ? AND domain = ?"
_IS_WAITING: Final = f"SELECT EXISTS (SELECT 1{_ORDINARY}) OR EXISTS (SELECT 1{_DUE})"
_IS_LACKED: Final = f"SELECT EXISTS (SELECT 1{_LACKED % ''})"


def _bindings(connection: sqlite3.Connection, sql: Sql, owner: Aor) -> list[Binding]:
    return [binding_from(row) for row in connection.execute(sql(_BINDINGS), aor_values(owner))]


_REPEATED: Final = (
    "SELECT 1 FROM {silo}"
    " WHERE {username} = ? AND {domain} = ? AND {callid} = ? AND cseq = ? AND from_tag = ? AND cseq >= 0"
)


def _is_repeat(connection: sqlite3.Connection, sql: Sql, message: Message) -> bool:
    key = repeat_key(message)
    return key is not None and connection.execute(sql(_REPEATED), key).fetchone() is not None


def _is_awaited(connection: sqlite3.Connection, sql: Sql, asked: LookUp | Bind, alive: Sequence[Binding]) -> bool:
    if not alive:
        return False
    inbox = _inbox(asked.owner, asked.now_s)
    (is_waiting,) = connection.execute(sql(_IS_WAITING), inbox).fetchone()
    if not is_waiting and asked.each:
        inbox["devices"] = _json(devices_of(alive))
        (is_waiting,) = connection.execute(sql(_IS_LACKED), inbox).fetchone()
    return bool(is_waiting)


def _json(devices: Sequence[str]) -> str:
    return msgspec.json.encode(devices).decode()


def _inbox(owner: Aor, now_s: int) -> dict[str, Any]:
    return {"username": owner.username, "domain": owner.domain, "now_s": now_s}


_FIND_USER: Final = f"SELECT {', '.join(USER_COLUMNS)} FROM subscriber WHERE username = ? AND domain = ?"
_ADD_USER: Final = (
    f"INSERT INTO subscriber ({', '.join(NEW_USER_COLUMNS)}) VALUES ({', '.join('?' * len(NEW_USER_COLUMNS))})"
    " ON CONFLICT (username, domain) DO UPDATE SET"
    f" {', '.join(f'{column} = excluded.{column}' for column in NEW_USER_COLUMNS[2:])}"
)
_REMOVE_USER: Final = "DELETE FROM subscriber WHERE username = ? AND domain = ?"
_LIST_USERS: Final = (
    f"SELECT {', '.join(USER_COLUMNS)} FROM subscriber WHERE (domain, username) > (?, ?)"
    " ORDER BY domain, username LIMIT ?"
)


def find_users(connection: sqlite3.Connection, finds: Sequence[FindUser]) -> list[UserFound]:
    return [UserFound(find.token, _find_user(connection, find.owner)) for find in finds]


def _find_user(connection: sqlite3.Connection, owner: Aor) -> User | None:
    row = connection.execute(_FIND_USER, aor_values(owner)).fetchone()
    return None if row is None else user_from(row)


def add_user(connection: sqlite3.Connection, user: User) -> bool:
    is_new = _find_user(connection, user.owner) is None
    connection.execute(_ADD_USER, user_values(user))
    return is_new


def remove_user(connection: sqlite3.Connection, owner: Aor) -> bool:
    return connection.execute(_REMOVE_USER, aor_values(owner)).rowcount > 0


def list_users(connection: sqlite3.Connection, after: Aor | None, limit: int) -> list[User]:
    place = ("", "") if after is None else (after.domain, after.username)
    return [user_from(row) for row in connection.execute(_LIST_USERS, (*place, limit))]


def _clock() -> int:
    """Return the present in Unix ms: all who use the file are on one machine."""
    return time.time_ns() // 1_000_000
