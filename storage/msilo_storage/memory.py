"""The store in memory: the reference that the others are measured by, and the one of tests and simulators."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import compress, islice
from types import TracebackType
from typing import Self

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
    StorageFailed,
    Store,
    Stored,
    Unbind,
    Unbound,
    UserFound,
)
from msilo_core.registrar import Rejection, preferred
from msilo_core.targets import devices_of
from msilo_core.uri import Aor, parse_aor
from msilo_core.users import User
from msilo_storage.operators import SWEEP_ROWS_MAX, Entry, Sweep, Totals, swept, totals
from msilo_storage.protocol import StorageReport
from msilo_storage.quotas import Kept
from msilo_storage.rows import aor_values, repeat_key
from msilo_storage.rules import (
    DUE_ROWS_MAX,
    EXPIRE_ROWS_MAX,
    REGISTERED_LOOK_S,
    RETRY_ROWS_MAX,
    TAKEN,
    UNTOLD_ROWS_MAX,
    Inventory,
    RowError,
    fold,
    is_lacked,
    leasable,
    legible,
    look_again_at,
    look_again_s,
    page_of_users,
    status_after,
    taken_by,
    taken_over,
)
from msilo_storage.tables import SCHEMA_VERSION

__all__ = ["MemoryStorage"]


class MemoryStorage:
    """Keeps everything for as long as the object lives, whether it is open or not.

    No method ever suspends, so a simulator without an event loop may drive them by ``coroutine.send(None)``.

    Attributes:
        clock: that leases run by: says the present in Unix ms.
    """

    def __init__(self, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.clock = clock
        self._last_id = 0
        self._rows: dict[int, _Row] = {}
        self._inboxes: dict[Aor, dict[int, _Row]] = {}
        self._keys: dict[tuple[str, str, str, int, str], int] = {}
        self._inventory: Inventory = {}
        self._users: dict[Aor, User] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    async def append(self, stores: Sequence[Store]) -> list[Stored | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.append`."""
        return [self._append(store) for store in stores]

    async def look_up(self, lookups: Sequence[LookUp]) -> list[LookedUp | StorageFailed]:
        """See :meth:`msilo_storage.Storage.look_up`."""
        return [self._look_up(lookup) for lookup in lookups]

    async def bind(self, binds: Sequence[Bind]) -> list[Bound | Refused | StorageFailed]:
        """See :meth:`msilo_storage.Storage.bind`."""
        return [self._bind(bind) for bind in binds]

    async def unbind(self, unbinds: Sequence[Unbind]) -> list[Unbound | StorageFailed]:
        """See :meth:`msilo_storage.Storage.unbind`."""
        return [self._unbind(unbind) for unbind in unbinds]

    async def dump(self, dumps: Sequence[Dump]) -> list[Dumped | StorageFailed]:
        """See :meth:`msilo_storage.Storage.dump`."""
        return [self._dump(dump) for dump in dumps]

    async def renew(self, renewals: Sequence[Renew]) -> list[Renewed | StorageFailed]:
        """See :meth:`msilo_storage.Storage.renew`."""
        return [self._renew(renewal) for renewal in renewals]

    async def settle(self, settles: Sequence[Settle]) -> list[Settled | StorageFailed]:
        """See :meth:`msilo_storage.Storage.settle`."""
        return [self._settle(settle) for settle in settles]

    async def expire(self, expires: Sequence[Expire]) -> list[Expired | StorageFailed]:
        """See :meth:`msilo_storage.Storage.expire`."""
        return [self._expire(expire) for expire in expires]

    async def remind(self, reminds: Sequence[Remind]) -> list[Due | StorageFailed]:
        """See :meth:`msilo_storage.Storage.remind`."""
        return [self._remind(remind) for remind in reminds]

    async def retry(self, retries: Sequence[Retry]) -> list[Due | StorageFailed]:
        """See :meth:`msilo_storage.Storage.retry`."""
        return [self._retry(retry) for retry in retries]

    async def find_users(self, finds: Sequence[FindUser]) -> list[UserFound | StorageFailed]:
        """See :meth:`msilo_storage.Users.find_users`."""
        return [UserFound(find.token, self._users.get(find.owner)) for find in finds]

    async def add_user(self, user: User) -> bool:
        """See :meth:`msilo_storage.Users.add_user`."""
        is_new = user.owner not in self._users
        self._users[user.owner] = user
        return is_new

    async def remove_user(self, owner: Aor) -> bool:
        """See :meth:`msilo_storage.Users.remove_user`."""
        return self._users.pop(owner, None) is not None

    async def list_users(self, *, after: Aor | None = None, limit: int = 100) -> list[User]:
        """See :meth:`msilo_storage.Users.list_users`."""
        return page_of_users(self._users.values(), after, limit)

    async def list(
        self, owner: str | None = None, *, after: int = 0, limit: int = 100, dead: bool = False
    ) -> list[Message]:
        """See :meth:`msilo_storage.Storage.list`."""
        found = (row.message for row in self._rows_of(owner) if row.message.message_id > after)
        return list(
            islice((message for message in found if message.status != TAKEN and (message.status != 0) is dead), limit)
        )

    async def find(self, message_id: int) -> Entry | None:
        """See :meth:`msilo_storage.Storage.find`."""
        row = self._rows.get(message_id)
        if row is None:
            return None
        is_leased = row.lease_until_ms > self.clock()
        return Entry(
            message=row.message,
            last_status=row.last_status,
            repeats=row.repeats,
            lease_node=row.lease_node if is_leased else "",
            lease_until_ms=row.lease_until_ms if is_leased else 0,
        )

    async def requeue(
        self,
        message_ids: Sequence[int] | None = None,
        *,
        owner: str | None = None,
        after: int = 0,
        limit: int = SWEEP_ROWS_MAX,
    ) -> Sweep:
        """See :meth:`msilo_storage.Storage.requeue`."""
        meant = [row for row in self._meant(message_ids, owner, after) if row.message.status not in (0, TAKEN)]
        now_ms = self.clock()
        page = meant[: min(limit, SWEEP_ROWS_MAX)]
        done = [row.lease_until_ms <= now_ms < 1000 * row.message.exp_time_s for row in page]
        for row in compress(page, done):
            is_there = any(b.expires_s > now_ms // 1000 for b in self._inventory.get(row.message.owner, {}).values())
            next_time_s = now_ms // 1000 if is_there else 0
            row.message = msgspec.structs.replace(row.message, status=0, attempts=0, reached=0, next_time_s=next_time_s)
        return _swept(page, done, meant)

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
        meant = [
            row
            for row in self._meant(message_ids, owner, after)
            if (waiting or row.message.status not in (0, TAKEN))
            and (received_before_s is None or row.message.inc_time_s < received_before_s)
        ]
        now_ms = self.clock()
        page = meant[: min(limit, SWEEP_ROWS_MAX)]
        done = [row.lease_until_ms <= now_ms for row in page]
        for row in compress(page, done):
            self._delete(row)
            self._hand_on(row.message)
        return _swept(page, done, meant)

    async def stats(self, owner: str | None = None, *, owners_max: int = 10) -> Totals:
        """See :meth:`msilo_storage.Storage.stats`."""
        now_ms = self.clock()
        rows = [*self._rows_of(owner)]
        by_status: dict[int, list[_Row]] = {}
        for row in rows:
            by_status.setdefault(row.message.status, []).append(row)
        counts = [
            (
                status,
                len(some),
                sum(row.message.snd_time_s > 0 for row in some),
                sum(row.lease_until_ms > now_ms for row in some),
                min((row.message.inc_time_s for row in some if not row.message.snd_time_s), default=None),
                sum(len(row.message.body) for row in some),
            )
            for status, some in by_status.items()
        ]
        crowd = Counter(row.message.owner for row in rows)
        most = sorted((-number, owner) for owner, number in crowd.items())[:owners_max]
        return totals(counts, [(*aor_values(owner), -number) for number, owner in most])

    async def check(self) -> StorageReport:
        """See :meth:`msilo_storage.Storage.check`."""
        waiting = sum(row.message.status == 0 for row in self._rows.values())
        dead = sum(row.message.status not in (0, TAKEN) for row in self._rows.values())
        return StorageReport(
            url="memory:",
            version=SCHEMA_VERSION,
            messages=waiting,
            deferred=sum(row.message.status == 0 and row.message.snd_time_s > 0 for row in self._rows.values()),
            dead=dead,
            bindings=sum(map(len, self._inventory.values())),
            users=len(self._users),
        )

    def _rows_of(self, owner: str | None) -> "Iterable[_Row]":
        return (self._rows if owner is None else self._inboxes.get(parse_aor(owner), {})).values()

    def _meant(self, message_ids: Sequence[int] | None, owner: str | None, after: int) -> "Iterable[_Row]":
        chosen = None if message_ids is None else {*message_ids}
        for row in self._rows_of(owner):
            message_id = row.message.message_id
            if message_id > after and (chosen is None or message_id in chosen):
                yield row

    def _append(self, store: Store) -> Stored | Refused:
        key = repeat_key(store.message)
        if key is not None and (known := self._keys.get(key)) is not None:
            self._rows[known].repeats += 1
            return Stored(store.token, known, repeated=True)
        if store.is_bounded:
            refused = self._kept(store.message.owner).refusal(store)
            if refused is not None:
                return refused
        self._last_id = message_id = self._last_id + 1
        row = _Row(msgspec.structs.replace(store.message, message_id=message_id))
        if not (row.message.next_time_s or row.message.snd_time_s) and self._is_there(row.message):
            row.message = msgspec.structs.replace(row.message, next_time_s=row.message.inc_time_s)
        self._rows[message_id] = row
        self._inboxes.setdefault(row.message.owner, {})[message_id] = row
        if key is not None:
            self._keys[key] = message_id
        return Stored(store.token, message_id)

    def _is_there(self, message: Message) -> bool:
        bindings = self._inventory.get(message.owner, {}).values()
        return any(binding.expires_s > message.inc_time_s for binding in bindings)

    def _kept(self, owner: Aor) -> Kept:
        kept = Kept()
        for row in self._inboxes.get(owner, {}).values():
            if row.message.status == 0:
                kept.add(row.message)
        return kept

    def _look_up(self, lookup: LookUp) -> LookedUp:
        known = self._inventory.get(lookup.owner, {}).values()
        alive = tuple(sorted((b for b in known if b.expires_s > lookup.now_s), key=preferred))
        return LookedUp(lookup.token, alive, self._is_awaited(lookup, alive))

    def _bind(self, bind: Bind) -> Bound | Refused | StorageFailed:
        try:
            (result,) = fold(self._inventory, [bind]).results
        except RowError as error:
            return StorageFailed(bind.token, str(error))
        if isinstance(result, Rejection):
            return Refused(bind.token, result.status, result.reason)
        waiting = self._is_awaited(bind, result.bindings)
        oldest = self._oldest(bind.owner) if waiting and devices_of(result.bindings) else None
        if oldest is not None and not oldest.lease_node:
            oldest.look_at(bind.now_s + REGISTERED_LOOK_S)
        return Bound(bind.token, result.bindings, waiting)

    def _unbind(self, unbind: Unbind) -> Unbound:
        bindings = self._inventory.get(unbind.owner, {})
        binding = bindings.get(unbind.contact)
        if binding is not None and binding.updated_ms == unbind.updated_ms:
            del bindings[unbind.contact]
        return Unbound(unbind.token)

    def _dump(self, dump: Dump) -> Dumped:
        now_s = dump.now_ms // 1000
        rows = self._waiting(dump.owner, now_s)
        if dump.devices:
            late = self._taken(dump.owner, now_s)
            late = [row for row in late if row.is_due(now_s) or is_lacked(row.message.taken_by, dump.devices)]
            rows = sorted([*rows, *late], key=lambda row: row.message.message_id)
        rows = rows[: dump.messages_max + 1]
        waiting = (
            (row.lease_node, row.lease_until_ms, -1 if row.message.status else row.message.next_time_s) for row in rows
        )
        now_ms = self.clock()
        count, busy_ms, is_early = leasable(waiting, dump, now_ms)
        free = rows[:count]
        page = free[: dump.messages_max]
        for row in page:
            row.message = taken_over(row.message, row.lease_node)
            row.lease_node, row.lease_until_ms = dump.lease, now_ms + dump.lease_ms
        messages = tuple(row.message for row in page)
        for row in free:
            next_time_s = look_again_s(dump) if row is free[-1] else 0
            row.message = msgspec.structs.replace(row.message, next_time_s=next_time_s)
        return Dumped(dump.token, messages, busy_ms, is_early)

    def _renew(self, renewal: Renew) -> Renewed:
        inbox = self._inboxes.get(renewal.owner, {})
        kept: list[int] = []
        for message_id in renewal.message_ids:
            row = inbox.get(message_id)
            if row is not None and row.lease_node == renewal.lease and row.is_wanted:
                row.lease_until_ms = self.clock() + renewal.lease_ms
                kept.append(message_id)
        return Renewed(renewal.token, tuple(kept))

    def _settle(self, settle: Settle) -> Settled:
        row = self._inboxes.get(settle.owner, {}).get(settle.message_id)
        if row is None:
            return Settled(settle.token, lost=True)
        if settle.outcome in (Outcome.DELIVERED, Outcome.WITHDRAWN):
            self._delete(row)
            self._hand_on(row.message)
            return Settled(settle.token)
        is_ours = row.lease_node == settle.lease and row.is_wanted
        if settle.outcome is Outcome.TAKEN:
            self._take(row, settle, is_ours and not settle.is_late)
            return Settled(settle.token)
        if not is_ours:
            return Settled(settle.token, lost=True)
        row.lease_node, row.lease_until_ms = "", 0
        message = row.message
        match settle.outcome:
            case Outcome.RELEASED:
                row.message = msgspec.structs.replace(message, next_time_s=settle.next_time_s)
            case Outcome.MISSED:
                row.message = msgspec.structs.replace(message, snd_time_s=0, next_time_s=settle.next_time_s)
            case Outcome.FAILED | Outcome.UNREACHED | Outcome.REFUSED:
                row.last_status = settle.status
                row.message = msgspec.structs.replace(
                    message,
                    attempts=message.attempts + 1,
                    reached=message.reached + (settle.outcome is not Outcome.UNREACHED),
                    next_time_s=settle.next_time_s,
                    # Who says that of what a device has did not know it.
                    status=message.status or status_after(settle),
                    reason=legible(settle.reason),
                    snd_time_s=message.snd_time_s if settle.outcome is Outcome.REFUSED else 0,
                    imdn=0 if settle.outcome is Outcome.REFUSED else message.imdn,
                )
                if settle.outcome is Outcome.REFUSED:
                    self._hand_on(message)
        return Settled(settle.token)

    def _take(self, row: "_Row", settle: Settle, is_ours: bool) -> None:
        message = row.message
        row.message = msgspec.structs.replace(
            message,
            status=TAKEN,
            imdn=0,
            taken_by=taken_by(message.taken_by, settle),
            exp_time_s=min(message.exp_time_s, settle.until_s),
        )
        if not message.status:
            self._hand_on(message)
        if is_ours:
            row.lease_node, row.lease_until_ms = "", 0
            attempts = message.attempts + 1 if settle.next_time_s else 0
            row.message = msgspec.structs.replace(row.message, attempts=attempts, next_time_s=settle.next_time_s)

    def _expire(self, expire: Expire) -> Expired:
        now_s = expire.now_ms // 1000
        expired = [
            row for row in self._rows.values() if row.message.exp_time_s <= now_s and row.lease_until_ms <= self.clock()
        ]
        expired.sort(key=lambda row: row.message.exp_time_s)
        untold = [row for row in expired if row.message.imdn][:UNTOLD_ROWS_MAX]
        if len(untold) == UNTOLD_ROWS_MAX:
            expired = untold
        else:
            expired = untold + [row for row in expired if not row.message.imdn][:EXPIRE_ROWS_MAX]
        for row in expired:
            self._delete(row)
            self._hand_on(row.message)
        for owner, bindings in list(self._inventory.items()):
            alive = {contact: binding for contact, binding in bindings.items() if binding.expires_s > now_s}
            if alive:
                self._inventory[owner] = alive
            else:
                del self._inventory[owner]
        count = sum(row.message.status == TAKEN for row in expired)
        return Expired(expire.token, len(expired), tuple(row.message for row in untold), count)

    def _remind(self, remind: Remind) -> Due:
        now_s = remind.now_s
        due = [
            row
            for row in self._rows.values()
            if 0 < row.message.snd_time_s <= now_s < row.message.exp_time_s
            and row.message.status == 0
            and row.lease_until_ms <= self.clock()
        ]
        due.sort(key=lambda row: row.message.snd_time_s)
        owners: dict[Aor, None] = {}
        for row in due[:DUE_ROWS_MAX]:
            message = row.message
            alive = [b for b in self._inventory.get(message.owner, {}).values() if b.expires_s > now_s]
            is_ours = remind.unregistered or any(b.node == remind.node or not b.flow.is_stream for b in alive)
            since_s = message.next_time_s or now_s if is_ours else message.snd_time_s
            if not alive and not remind.unregistered:
                row.message = msgspec.structs.replace(message, snd_time_s=0, next_time_s=0)
            elif since_s <= now_s - remind.pause_s:
                row.message = msgspec.structs.replace(message, snd_time_s=0, next_time_s=now_s)
            elif is_ours and (message.owner in owners or len(owners) < remind.owners_max):
                owners[message.owner] = None
                row.message = msgspec.structs.replace(message, next_time_s=since_s)
        return Due(remind.token, tuple(owners))

    def _retry(self, retry: Retry) -> Due:
        now_s = retry.now_s
        due = [
            row
            for row in self._rows.values()
            if row.is_due(now_s)
            and now_s < row.message.exp_time_s
            and (row.message.status == TAKEN or (row.message.status == 0 and row.message.snd_time_s == 0))
            and row.lease_until_ms <= self.clock()
        ]
        due.sort(key=lambda row: row.message.next_time_s)
        owners: dict[Aor, None] = {}
        for row in due[:RETRY_ROWS_MAX]:
            owner = row.message.owner
            alive = [b for b in self._inventory.get(owner, {}).values() if b.expires_s > now_s]
            first = row if row.message.status else self._waiting(owner, now_s)[0]
            leased_ms = first.lease_until_ms - self.clock()
            first_s = max(first.message.next_time_s, now_s + leased_ms // 1000 + 1 if leased_ms > 0 else 0)
            if owner not in owners and first_s > now_s:
                row.message = msgspec.structs.replace(row.message, next_time_s=first_s)
            elif retry.unregistered or any(b.node == retry.node or not b.flow.is_stream for b in alive):
                if owner in owners or len(owners) < retry.owners_max:
                    owners[owner] = None
                    row.message = look_again_at(retry, row.message)
            elif not alive:
                row.message = msgspec.structs.replace(row.message, next_time_s=0)
            elif row.message.next_time_s <= now_s - retry.pause_s:
                row.message = msgspec.structs.replace(row.message, next_time_s=now_s + retry.pause_s)
        return Due(retry.token, tuple(owners))

    def _is_awaited(self, asked: LookUp | Bind, alive: Sequence[Binding]) -> bool:
        if not alive:
            return False
        if self._waiting(asked.owner, asked.now_s):
            return True
        devices = devices_of(alive) if asked.each else ()
        return any(is_lacked(row.message.taken_by, devices) for row in self._taken(asked.owner, asked.now_s))

    def _waiting(self, owner: Aor, now_s: int) -> "Sequence[_Row]":
        """Rows that may be delivered and nobody took, oldest first."""
        rows = self._inboxes.get(owner, {}).values()
        return [
            row for row in rows if row.message.status == 0 and row.message.snd_time_s <= now_s < row.message.exp_time_s
        ]

    def _taken(self, owner: Aor, now_s: int) -> "Sequence[_Row]":
        """Rows that somebody took, kept for others."""
        rows = self._inboxes.get(owner, {}).values()
        return [row for row in rows if row.message.status == TAKEN and now_s < row.message.exp_time_s]

    def _hand_on(self, message: Message) -> None:
        """A message waits no longer: if others were to look at its inbox, it is the oldest that they look for now."""
        if not message.next_time_s or message.status not in (0, TAKEN):
            return
        row = self._oldest(message.owner)
        if row is not None:
            row.look_at(message.next_time_s)

    def _oldest(self, owner: Aor) -> "_Row | None":
        rows = self._inboxes.get(owner, {}).values()
        return next((row for row in rows if row.message.status == 0 and row.message.snd_time_s == 0), None)

    def _delete(self, row: "_Row") -> None:
        message = row.message
        del self._rows[message.message_id]
        inbox = self._inboxes[message.owner]
        del inbox[message.message_id]
        if not inbox:
            del self._inboxes[message.owner]
        if (key := repeat_key(message)) is not None:
            del self._keys[key]


class _Row(msgspec.Struct):
    message: Message
    lease_node: str = ""
    lease_until_ms: int = 0
    last_status: int = 0
    repeats: int = 0

    @property
    def is_wanted(self) -> bool:
        """Whether it may be delivered to somebody, now or later."""
        return self.message.status in (0, TAKEN)

    def is_due(self, now_s: int) -> bool:
        """Whether it is to be tried again."""
        return 0 < self.message.next_time_s <= now_s

    def look_at(self, at_s: int) -> None:
        """Let others look for it then, if they do not anyway."""
        self.message = msgspec.structs.replace(self.message, next_time_s=self.message.next_time_s or at_s)


def _swept(page: Sequence[_Row], done: Sequence[bool], meant: Sequence[_Row]) -> Sweep:
    numbers = (row.message.message_id for row in page)
    return swept([*zip(numbers, done, strict=True)], is_last=len(page) == len(meant))
