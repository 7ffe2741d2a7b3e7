"""What the store in PostgreSQL does for bindings: where an owner is, and what REGISTERs change.

As in :mod:`msilo_storage.postgres_work`, each statement that locks several rows does so in the order of owner and
Contact.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from msilo_core.actions import Bind, Binding, Bound, LookedUp, LookUp, Refused, Unbind, Unbound
from msilo_core.registrar import Rebinding, Rejection, preferred, rebind
from msilo_core.targets import devices_of
from msilo_core.uri import Aor
from msilo_storage.lanes import Connection, transaction
from msilo_storage.postgres_given import Given
from msilo_storage.rows import BINDING_COLUMNS, aor_values, binding_from, binding_values
from msilo_storage.rules import REGISTERED_LOOK_S, Inventory, fold
from msilo_storage.tables import Sql

__all__ = ["bind", "look_up", "unbind"]

A = TypeVar("A", bound=LookedUp | Bound | Refused)

_BINDING: Final = ", ".join(BINDING_COLUMNS)
_ASKED: Final = Given({"username": "text", "domain": "text", "now_s": "bigint"}, often_shared=("domain", "now_s"))


def _is_waiting(owner: str, now_s: str) -> str:
    # Two indexes: whoever has thousands of messages for next year need not read them each time. For EXISTS PostgreSQL
    # may read the whole table once, rather than look for each owner.
    return f"""(
        (
            SELECT true FROM {{silo}} AS silo
            WHERE silo.{{username}} = {owner}.username AND silo.{{domain}} = {owner}.domain
                AND silo.{{status}} = 0 AND silo.{{snd_time}} = 0 AND silo.{{exp_time}} + 0 > {now_s}
            LIMIT 1
        ) IS NOT NULL OR (
            SELECT true FROM {{silo}} AS silo
            WHERE silo.{{username}} = {owner}.username AND silo.{{domain}} = {owner}.domain
                AND silo.{{status}} = 0 AND silo.{{snd_time}} > 0 AND silo.{{snd_time}} <= {now_s}
                AND silo.{{exp_time}} + 0 > {now_s}
            LIMIT 1
        ) IS NOT NULL
    )"""


_LOOK_UP: Final = f"""
    SELECT n, {_is_waiting("given", "given.now_s")}, {_BINDING}
    FROM {_ASKED.rows} JOIN {{silo_location}} USING (username, domain)
    WHERE expires > now_s
"""


async def look_up(connection: Connection, lookups: Sequence[LookUp], sql: Sql) -> list[LookedUp]:
    found: dict[int, list[Binding]] = {}
    waiting: set[int] = set()
    for n, is_waiting, *row in await connection.fetch(sql(_LOOK_UP), *_asked(lookups)):
        found.setdefault(n, []).append(binding_from(row))
        if is_waiting:
            waiting.add(n)
    answers = [
        LookedUp(lookup.token, tuple(sorted(found[n], key=preferred)) if n in found else (), n in waiting)
        for n, lookup in enumerate(lookups, start=1)
    ]
    return await _with_lacked(connection, lookups, answers, sql)


_LACKED: Final = """
    SELECT n
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
        WITH ORDINALITY AS given (username, domain, now_s, devices, n)
    WHERE EXISTS (
        SELECT FROM {silo} AS silo
        WHERE silo.{username} = given.username AND silo.{domain} = given.domain
            AND silo.{status} = 200 AND silo.{exp_time} + 0 > given.now_s
            AND NOT string_to_array(given.devices, ' ') <@ string_to_array(silo.taken_by, ' ')
    )
"""


async def _with_lacked(connection: Connection, asked: Sequence[LookUp | Bind], answers: list[A], sql: Sql) -> list[A]:
    """Let that wait, too, which one device took and another lacks, where it was asked for."""
    doubtful: list[int] = []
    devices: list[str] = []
    for place, answer in enumerate(answers):
        if asked[place].each and not isinstance(answer, Refused) and answer.bindings and not answer.waiting:
            doubtful.append(place)
            devices.append(" ".join(devices_of(answer.bindings)))
    if doubtful:
        questions = [asked[place] for place in doubtful]
        usernames, domains = _owners(questions)
        now_s = [question.now_s for question in questions]
        rows = await connection.fetch(sql(_LACKED), usernames, domains, now_s, devices)
        lacking: list[int] = [row[0] for row in rows]
        for n in lacking:
            place = doubtful[n - 1]
            answers[place] = msgspec.structs.replace(answers[place], waiting=True)
    return answers


_WRITTEN: Final = Given(
    {
        "username": "text", "domain": "text", "contact": "text", "params": "bytea", "q": "int", "expires": "bigint",
        "callid": "text", "cseq": "bigint", "path": "bytea", "instance": "bytea", "reg_id": "bigint",
        "methods": "bytea", "transport": "text", "local_host": "text", "local_port": "int", "remote_host": "text",
        "remote_port": "int", "flow_token": "bigint", "node": "text", "updated_ms": "bigint",
    },
    often_shared=(
        "domain", "params", "q", "expires", "cseq", "path", "instance", "reg_id", "methods", "transport", "local_host",
        "local_port", "remote_host", "remote_port", "flow_token", "node", "updated_ms",
    ),
)  # fmt: skip


def _write(given: str, verdict: str) -> str:
    return f"""
    INSERT INTO {{silo_location}} AS location ({_BINDING})
    SELECT {_BINDING} FROM {given}
    ORDER BY username, domain, contact
    ON CONFLICT (username, domain, contact) DO UPDATE SET
        {", ".join(f"{column} = excluded.{column}" for column in BINDING_COLUMNS[3:])}
    {verdict}
"""


_WRITE: Final = _write(_WRITTEN.rows, "")
# What rules.fold comes to where an owner has no other binding than the one that is written: a REGISTER with a CSeq that
# is too low writes nothing, unless it is this very one, made again when a connection was lost.
_NOW_S: Final = f"${_WRITTEN.next}"
_WRITE_ONLY: Final = _write(
    f"""{_WRITTEN.rows}
    WHERE NOT EXISTS (
        SELECT FROM {{silo_location}} AS other
        WHERE other.username = given.username AND other.domain = given.domain
            AND other.contact <> given.contact AND other.expires > {_NOW_S}
    )""",
    f"""WHERE location.expires <= {_NOW_S} OR location.callid <> excluded.callid OR location.cseq < excluded.cseq
        OR (location.cseq = excluded.cseq AND location.node = excluded.node
            AND location.updated_ms = excluded.updated_ms)
    RETURNING location.username, location.domain, {_is_waiting("location", _NOW_S)}""",
)
# What is locked is passed over: whoever has it locked sees to its next_time, or deletes it.
_LOOK_FOR_OLDEST: Final = f"""
    WITH oldest AS MATERIALIZED (
        SELECT given.username, given.domain, given.now_s + {REGISTERED_LOOK_S} AS at_s, message.id
        FROM {_ASKED.rows} CROSS JOIN LATERAL (
            SELECT silo.{{id}} AS id
            FROM {{silo}} AS silo
            WHERE silo.{{username}} = given.username AND silo.{{domain}} = given.domain
                AND silo.{{status}} = 0 AND silo.{{snd_time}} = 0
            ORDER BY silo.{{username}}, silo.{{domain}}, silo.{{id}}
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS message
    )
    UPDATE {{silo}} AS silo SET next_time = oldest.at_s
    FROM oldest
    WHERE silo.{{username}} = oldest.username AND silo.{{domain}} = oldest.domain AND silo.{{id}} = oldest.id
        AND silo.next_time = 0 AND silo.lease_node = ''
"""
_LOCK: Final = f"""
    SELECT FROM {{silo_location}} AS location JOIN {_ASKED.rows} USING (username, domain)
    ORDER BY username, domain, contact
    FOR UPDATE OF location
"""
_READ: Final = f"""
    SELECT {_is_waiting("given", "given.now_s")}, {_BINDING}
    FROM {_ASKED.rows} LEFT JOIN {{silo_location}} USING (username, domain)
"""
_REMOVED: Final = Given({"username": "text", "domain": "text", "contact": "text"})
_DELETE: Final = f"""
    DELETE FROM {{silo_location}} AS location USING {_REMOVED.rows}
    WHERE location.username = given.username AND location.domain = given.domain AND location.contact = given.contact
"""


async def bind(connection: Connection, binds: Sequence[Bind], sql: Sql) -> list[Bound | Refused]:
    """Most REGISTERs are of an owner with one contact, and refresh it: those take one statement together."""
    answers: dict[int, Bound | Refused] = {**await _bind_only_contacts(connection, binds, sql)}
    places = [place for place in range(len(binds)) if place not in answers]
    if places:
        rest = await _bind_any(connection, [binds[place] for place in places], sql)
        answers.update(zip(places, rest, strict=True))
    awaited = {bind.owner: bind for place, bind in enumerate(binds) if _is_awaited(answers[place])}
    if awaited:
        # Before anybody is answered, and by itself: where nobody's messages wait no REGISTER waits for their table.
        await connection.execute(sql(_LOOK_FOR_OLDEST), *_asked([*awaited.values()]))
    return await _with_lacked(connection, binds, [answers[place] for place in range(len(binds))], sql)


def _is_awaited(answer: Bound | Refused) -> bool:
    """Say whether messages wait that one of an owner's contacts takes."""
    return isinstance(answer, Bound) and answer.waiting and bool(devices_of(answer.bindings))


async def _bind_only_contacts(connection: Connection, binds: Sequence[Bind], sql: Sql) -> dict[int, Bound]:
    """Carry out those that are alone in the batch and whose owner has no other contact, or nothing; by their places."""
    now_s = binds[-1].now_s
    times = Counter(bind.owner for bind in binds)
    candidates: dict[tuple[str, str], tuple[int, Binding]] = {}
    for place, bind in enumerate(binds):
        if len(bind.contacts) == 1 and bind.now_s == now_s and times[bind.owner] == 1:
            result = rebind((), bind)
            if isinstance(result, Rebinding) and result.written:
                candidates[aor_values(bind.owner)] = place, result.written[0]
    if not candidates:
        return {}
    rows = [binding_values(binds[place].owner, binding) for place, binding in candidates.values()]
    written = await connection.fetch(sql(_WRITE_ONLY), *_WRITTEN.parameters(*zip(*rows, strict=True)), now_s)
    answers: dict[int, Bound] = {}
    for username, domain, is_waiting in written:
        place, binding = candidates[username, domain]
        answers[place] = Bound(binds[place].token, (binding,), is_waiting)
    return answers


async def _bind_any(connection: Connection, binds: Sequence[Bind], sql: Sql) -> list[Bound | Refused]:
    latest = {bind.owner: bind for bind in binds}
    asked = _asked([*latest.values()])
    inventory: Inventory = {}
    waiting: dict[Aor, bool] = {}
    async with transaction(connection):
        # Two statements: the second sees what those wrote that the first waited for. Two servers that bind the first
        # contacts of a user at the same moment find no row to lock; each then knows of the other's contact one
        # REGISTER later, which is harmless. So is it where one adds a contact while the other refreshes the only one
        # that there was.
        await connection.execute(sql(_LOCK), *asked)
        for is_waiting, *row in await connection.fetch(sql(_READ), *asked):
            owner = Aor(row[0], row[1])
            waiting[owner] = is_waiting
            if row[2] is not None:
                binding = binding_from(row)
                inventory.setdefault(owner, {})[binding.contact] = binding
        changes = fold(inventory, binds)
        if changes.written:
            rows = [binding_values(*change) for change in changes.written]
            await connection.execute(sql(_WRITE), *_WRITTEN.parameters(*zip(*rows, strict=True)))
        if changes.removed:
            removed = [(*aor_values(owner), contact) for owner, contact in changes.removed]
            await connection.execute(sql(_DELETE), *_REMOVED.parameters(*zip(*removed, strict=True)))
    answers: list[Bound | Refused] = []
    for bind, result in zip(binds, changes.results, strict=True):
        if isinstance(result, Rejection):
            answers.append(Refused(bind.token, result.status, result.reason))
        else:
            answers.append(Bound(bind.token, result.bindings, bool(result.bindings) and waiting[bind.owner]))
    return answers


_UNBIND: Final = """
    DELETE FROM {silo_location} AS location
    USING unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS given (username, domain, contact, updated_ms)
    WHERE location.username = given.username AND location.domain = given.domain
        AND location.contact = given.contact AND location.updated_ms = given.updated_ms
"""


async def unbind(connection: Connection, unbinds: Sequence[Unbind], sql: Sql) -> list[Unbound]:
    contacts, times = [unbind.contact for unbind in unbinds], [unbind.updated_ms for unbind in unbinds]
    await connection.execute(sql(_UNBIND), *_owners(unbinds), contacts, times)
    return [Unbound(unbind.token) for unbind in unbinds]


def _asked(actions: Sequence[LookUp | Bind]) -> list[Any]:
    return _ASKED.parameters(*_owners(actions), [action.now_s for action in actions])


def _owners(actions: Sequence[LookUp | Bind | Unbind]) -> tuple[list[str], list[str]]:
    """Columns ``username`` and ``domain``."""
    owners = [action.owner for action in actions]
    return [owner.username for owner in owners], [owner.domain for owner in owners]
