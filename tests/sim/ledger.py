"""What is in the store, kept a second time: each row, who leased it and until when, and what became of it.

The store is believed in nothing: what it adds, leases out or deletes is checked when it does so.
"""
# pyright: reportPrivateUsage=false

import hashlib
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from msilo_core.actions import (
    Completion,
    Due,
    Dump,
    Dumped,
    Expire,
    Expired,
    Message,
    Outcome,
    Remind,
    Renew,
    Renewed,
    Settle,
    Settled,
    StorageAction,
    Store,
    Stored,
)
from tests.sim.broken import Broken
from tests.sim.letters import DATED_S, EPOCH_MS, Letter
from tests.sim.scenario import LetterPlan
from tests.sim.wire import Key

if TYPE_CHECKING:
    from tests.sim.nodes import Process
    from tests.sim.world import World

__all__ = ["Ledger", "Row", "device_of"]

_DAY_S: Final = 86_400

_TAKEN: Final = frozenset({Outcome.DELIVERED, Outcome.WITHDRAWN})
"""Outcomes of what a phone has."""


def device_of(instance: str, contact: str) -> str:
    """Return the name of a device in the store."""
    return hashlib.blake2s((instance or contact).encode(), digest_size=8).hexdigest()


class Row(msgspec.Struct):
    """A message in the store.

    Attributes:
        number: of the row.
        letter: which message it is.
        message: as it was stored.
        order: how much had happened before the commit, or before it was requeued, or was deferred no more.
        due_s: when it is to be delivered at the earliest; 0: at once.
        holder: name of the process that has leased it, or empty.
        held_until_ms: end of that lease.
        lease: name of that lease in the store.
        leased_s: when it was leased, by the clock of the process, which may have been set back since.
        expires_s: when it expires, as the process that has leased it was told.
        leased: how much had happened before it was leased, by process.
        settling: processes that have asked for an outcome since, but for RELEASED.
        is_sent: whether it was sent since it was leased.
        is_tried: whether a phone may have it, as whoever leases it is told.
        is_requeued: whether an operator let it wait once more.
        is_refused: whether a process has asked to set it aside.
        ended_by: name of the process that recorded the outcome.
        outcome: that which was recorded for good, or ``expired``, or ``removed`` by an operator; ``taken`` as long as
            it is kept for devices that lack it.
        devices: those that need it no more, and how much had happened before that was recorded.
    """

    number: int
    letter: Letter
    message: Message
    order: int
    due_s: int
    holder: str
    held_until_ms: int
    leased: dict[str, int]
    settling: set[str]
    is_sent: bool = False
    is_tried: bool = False
    is_requeued: bool = False
    is_refused: bool = False
    ended_by: str = ""
    outcome: str = ""
    lease: str = ""
    leased_s: int = 0
    expires_s: int = 0
    devices: dict[str, int] = {}


class Ledger:
    """See the module.

    Attributes:
        order: how much has happened.
        letters: all messages that were sent so far, by number.
        rows: all that were ever stored, by number.
        came_s: when a message came to a process as a new request, by its clock; by process and number.
    """

    def __init__(self, world: "World") -> None:
        self.order = 0
        self.letters: dict[int, Letter] = {}
        self.rows: dict[int, Row] = {}
        self.came_s: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._world = world
        self._by_key: dict[Key, Letter] = {}
        self._rows_of: dict[int, list[Row]] = defaultdict(list)
        self._kept: dict[int, Row] = {}
        self._dead: dict[int, Row] = {}
        self._late: dict[int, Row] = {}

    def add(self, letter: Letter) -> None:
        """A message is sent for the first time."""
        self.letters[letter.plan.number] = letter
        self._by_key[letter.key] = letter

    # -- Questions -----------------------------------------------------------------------------------------------------

    def letter_in(self, message: Message) -> Letter:
        """Return the message that a row holds."""
        return self._by_key[message.callid, message.cseq, message.from_tag]

    def was_stored(self, letter: Letter) -> bool:
        """Say whether a message was ever committed."""
        return bool(self._rows_of[letter.plan.number])

    def leased_row(self, process: "Process", letter: Letter) -> Row:
        """Return the row that a process delivers.

        Raises:
            Broken: it has leased none.
        """
        rows = [row for row in self._rows_of[letter.plan.number] if process.lease_name in row.leased]
        if not rows:
            raise Broken("P8", f"{process.lease_name} delivers {letter.name}, which it has not leased")
        return rows[-1]

    def check_lease(self, process: "Process", row: Row, what: str, *, is_new: bool) -> None:
        """Check that nobody else may deliver a row.

        One that another phone took is in nobody's hands any more, or will not be as soon as the store knows: what was
        sent before to this one goes on until it answers.
        """
        is_over = bool(row.outcome) and not (is_new and row.outcome == Outcome.TAKEN)
        if is_over or process.lease_name in row.settling:
            return
        if row.holder != process.lease_name:
            raise Broken("P8", f"{what}, leased by {row.holder or 'nobody'}")
        if row.held_until_ms <= self._world.ms:
            raise Broken("P8", f"{what} after its lease has ended")

    def waits(self, row: Row, process: "Process", owner: str, due_s: int) -> bool:
        """Say whether a row may be delivered, and nobody has said what became of it."""
        return (
            row.letter.plan.owner == owner
            and not row.outcome
            and not row.settling
            and row.due_s <= due_s
            # What had run out once is passed over, also where the clock was set back since.
            and process.latest_s < row.message.exp_time_s
        )

    def waiting_before(self, process: "Process", owner: str, order: int, due_s: int) -> list[Row]:
        """Return what was committed before something else happened, and waits; see :meth:`waits`."""
        return [row for row in self._kept.values() if row.order < order and self.waits(row, process, owner, due_s)]

    def lacked_before(self, process: "Process", row: Row, device: str) -> list[Row]:
        """Return what is in the page of a row before it, and a device lacks, of what others took."""
        return [
            other
            for other in self._late.values()
            if other.letter.plan.owner == row.letter.plan.owner
            and other.number < row.number
            and other.leased.get(process.lease_name, 0) >= row.leased[process.lease_name]
            and device not in other.devices
            and process.now.unix_s < other.message.exp_time_s
        ]

    # -- What happens --------------------------------------------------------------------------------------------------

    def died(self, process: "Process") -> None:
        """A process has ended: what it wanted to say is not said any more."""
        for row in (*self._kept.values(), *self._late.values()):
            row.settling.discard(process.lease_name)

    def done(self, process: "Process", action: StorageAction, completion: Completion) -> None:
        """The store has carried out an action."""
        match action, completion:
            case Store(message=message), Stored(message_id=number, repeated=repeated):
                self._stored(process, message, number, repeated)
            case Dump(), Dumped(messages=messages):
                self._dumped(process, action, messages)
            case Renew(), Renewed(message_ids=numbers):
                self._renewed(process, action, numbers)
            case Settle(), Settled(lost=lost):
                self._settled(process, action, lost)
            case Expire(now_ms=now_ms), Expired(messages=count, taken=taken):
                self._expired(now_ms // 1000, count, taken)
            case Remind(), Due():
                # What is due, of an owner who is not there, has become an ordinary message.
                memory_rows = self._world.store.memory._rows
                for number, row in self._kept.items():
                    if memory_rows[number].message.snd_time_s < row.due_s:
                        self._make_ordinary(row)
            case _:
                pass
        count = len(self._world.store.memory._rows)
        if count != len(self._kept) + len(self._dead) + len(self._late):
            raise Broken("P2", f"the store has {count} rows after {type(action).__name__}")

    def _stored(self, process: "Process", message: Message, number: int, repeated: bool) -> None:
        letter = self.letter_in(message)
        if repeated:
            known = self.rows.get(number)
            if known is None or known.letter is not letter:
                raise Broken("P1", f"{letter.name} is said to be in row {number}, and is not")
            return
        if number <= max(self.rows, default=0):
            raise Broken("P4", f"{letter.name} is stored in row {number}, before what came before it")
        if any(row.outcome in ("", Outcome.TAKEN) for row in self._rows_of[letter.plan.number]):
            raise Broken("P3", f"{letter.name} is stored twice")
        self._check_lifetime(process, letter, message)
        row = Row(number, letter, message, self.order, message.snd_time_s, "", 0, {}, set())
        self.rows[number] = self._kept[number] = row
        self._rows_of[letter.plan.number].append(row)
        self._check_bounds(letter.plan)

    def _check_bounds(self, plan: LetterPlan) -> None:
        silo = self._world.scenario.silo
        senders = [row.letter.plan.sender for row in self._kept.values() if row.letter.plan.owner == plan.owner]
        if len(senders) > int(silo.get("max_messages", len(senders))):
            raise Broken("P9", f"{plan.owner} has {len(senders)} messages")
        count = senders.count(plan.sender)
        if count > int(silo.get("max_messages_per_sender", count)):
            raise Broken("P9", f"{plan.owner} has {count} messages of {plan.sender}")

    def _check_lifetime(self, process: "Process", letter: Letter, message: Message) -> None:
        plan = letter.plan
        if plan.due_s and message.snd_time_s not in (0, EPOCH_MS // 1000 + plan.due_s):
            raise Broken("P5", f"{letter.name} is due at another time")
        came_s = self.came_s[process.lease_name, plan.number]
        # One that is deferred was so by the clock when it was stored, which may have been set back since it came.
        ends_s = [_end_s(plan, 0 if message.snd_time_s else one_s, message.snd_time_s) for one_s in came_s]
        if message.exp_time_s not in ends_s:
            raise Broken("P5", f"{letter.name} expires at {message.exp_time_s} and not at {ends_s}")

    def _dumped(self, process: "Process", dump: Dump, messages: tuple[Message, ...]) -> None:
        now_s = dump.now_ms // 1000
        numbers = {message.message_id for message in messages}
        for row in self._kept.values():
            is_before = row.letter.plan.owner == dump.owner.username and row.number < max(numbers, default=0)
            if is_before and row.number not in numbers and row.due_s <= now_s < row.message.exp_time_s:
                raise Broken("P4", f"{process.lease_name} gets rows {sorted(numbers)}, and not row {row.number}")
        for row in self._late.values():
            is_before = row.letter.plan.owner == dump.owner.username and row.number < max(numbers, default=0)
            is_lacked = not {*dump.devices} <= row.devices.keys()
            if is_before and row.number not in numbers and is_lacked and now_s < row.message.exp_time_s:
                raise Broken("P4", f"{process.lease_name} gets rows {sorted(numbers)}, and not row {row.number}")
        for number in numbers:
            leased = self._kept.get(number) or (self._late.get(number) if dump.devices else None)
            if leased is None:
                raise Broken("P2", f"row {number} is leased, which is none any more")
            if leased.holder not in ("", process.lease_name) and leased.held_until_ms > self._world.ms:
                raise Broken("P8", f"{process.lease_name} leases row {number}, which {leased.holder} holds")
            # Left by a process that could not say what became of it.
            # What the store does late, having said that it failed, has the lease's name, and nobody is told.
            leased.is_tried |= bool(leased.holder) and leased.is_sent and leased.lease != dump.lease
            leased.is_sent = False
            leased.lease, leased.leased_s = dump.lease, dump.now_ms // 1000
            leased.expires_s = leased.message.exp_time_s
            leased.holder, leased.held_until_ms = process.lease_name, self._world.ms + dump.lease_ms
            leased.leased[process.lease_name] = self.order

    def _renewed(self, process: "Process", renew: Renew, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            row = self.rows[number]
            if row.holder != process.lease_name:
                raise Broken("P8", f"{process.lease_name} renews row {number}, which {row.holder or 'nobody'} holds")
            row.held_until_ms = self._world.ms + renew.lease_ms

    def _settled(self, process: "Process", settle: Settle, lost: bool) -> None:
        row = self.rows[settle.message_id]
        row.settling.discard(process.lease_name)
        if lost:
            return
        # One device may refuse what another one takes later.
        is_open = row.outcome == Outcome.TAKEN or (
            row.outcome == Outcome.REFUSED and settle.outcome in (*_TAKEN, Outcome.TAKEN)
        )
        if row.outcome and not is_open:
            raise Broken("P2", f"row {row.number} is {settle.outcome}, and was {row.outcome}")
        if settle.outcome is Outcome.TAKEN:
            self._taken(process, row, settle)
            return
        row.holder = ""
        if row.outcome == Outcome.TAKEN and settle.outcome not in _TAKEN:
            # Who says that it failed did not know that a device has it.
            return
        if settle.outcome in _TAKEN:
            if not row.letter.screens:
                raise Broken("P2", f"row {row.number} is {settle.outcome}, and no phone has shown it")
            self._end(row, settle.outcome)
            row.ended_by = process.lease_name
        elif settle.outcome is Outcome.REFUSED:
            self._end(row, settle.outcome)
            self._dead[row.number] = row
        elif settle.outcome is not Outcome.RELEASED:
            self._make_ordinary(row)
            row.is_tried |= settle.outcome is Outcome.FAILED

    def _taken(self, process: "Process", row: Row, settle: Settle) -> None:
        if not row.letter.screens:
            raise Broken("P2", f"row {row.number} is {settle.outcome}, and no phone has shown it")
        if (row.holder, row.lease) == (process.lease_name, settle.lease) and not settle.is_late:
            row.holder = ""
        self._end(row, Outcome.TAKEN)
        self._late[row.number] = row
        self._make_ordinary(row)
        row.devices = {**dict.fromkeys(settle.taken_by.split(), self.order), **row.devices}
        row.message = msgspec.structs.replace(row.message, exp_time_s=min(row.message.exp_time_s, settle.until_s))
        if process.lease_name in row.leased and row.lease == settle.lease:
            row.expires_s = row.message.exp_time_s
        found = self._world.store.memory._rows[row.number].message
        if found.status != 200 or {*found.taken_by.split()} != row.devices.keys():
            raise Broken("P2", f"row {row.number} is of {found.taken_by}, and not of {' '.join(row.devices)}")

    def _make_ordinary(self, row: Row) -> None:
        """What was deferred has fallen due, by whatever clock: what was looked up before goes its way."""
        if row.due_s:
            row.due_s, row.order = 0, self.order

    def _end(self, row: Row, outcome: str) -> None:
        row.outcome = outcome
        for rows in (self._kept, self._dead, self._late):
            rows.pop(row.number, None)

    def _expired(self, now_s: int, count: int, taken: int) -> None:
        memory_rows = self._world.store.memory._rows
        late = [row for row in self._late.values() if row.number not in memory_rows]
        gone = [row for rows in (self._kept, self._dead) for row in rows.values() if row.number not in memory_rows]
        for row in (*gone, *late):
            if row.message.exp_time_s > now_s:
                raise Broken("P5", f"row {row.number} is thrown away before it expires")
            self._end(row, Outcome.DELIVERED if row.outcome == Outcome.TAKEN else row.outcome or "expired")
        if (count, taken) != (len(gone) + len(late), len(late)):
            raise Broken("P2", f"{count} expired, {taken} taken, and {len(gone)} and {len(late)} are gone")

    def swept(self) -> None:
        """An operator has requeued or purged something."""
        self.order += 1
        memory_rows = self._world.store.memory._rows
        for row in (*self._kept.values(), *self._dead.values(), *self._late.values()):
            memory_row = memory_rows.get(row.number)
            if memory_row is None:
                if row.holder and row.held_until_ms > self._world.ms:
                    raise Broken("P8", f"row {row.number} is deleted, which {row.holder} holds")
                self._end(row, "removed")
            elif memory_row.message.status == 0 and row.number in self._dead:
                # As if it had never been tried.
                del self._dead[row.number]
                self._kept[row.number] = row
                row.leased.clear()
                row.outcome, row.is_tried, row.is_sent, row.is_requeued = "", False, False, True
                # What was looked up before goes its way.
                row.order = self.order

    # -- The end -------------------------------------------------------------------------------------------------------

    def waiting(self, now_s: int) -> list[Row]:
        """Return what is stored and has no outcome, but for what has expired and was not deleted yet."""
        return [row for row in self._kept.values() if row.message.exp_time_s > now_s]

    def lacking(self, now_s: int, owner: str, device: str) -> list[Row]:
        """Return what others took of an owner's, and a device lacks."""
        return [
            row
            for row in self._late.values()
            if row.letter.plan.owner == owner and device not in row.devices and row.message.exp_time_s > now_s
        ]

    def check_end(self, now_s: int) -> Counter[str]:
        """Check that each accepted message has come to its end, and count how."""
        for row in self.waiting(now_s):
            raise Broken("P2", f"{row.letter.name}, row {row.number}, is never delivered")
        return Counter(
            self._end_of(letter) if letter.is_accepted else "not accepted" for letter in self.letters.values()
        )

    def _end_of(self, letter: Letter) -> str:
        rows = self._rows_of[letter.plan.number]
        if letter.screens:
            return "delivered"
        if not rows:
            raise Broken("P2", f"{letter.name} was accepted, and nobody has it")
        return str(rows[-1].outcome or "expired")


def _end_s(plan: LetterPlan, came_s: int, due_s: int) -> int:
    """Return when a message expires that came at `came_s` (RFC 3428 section 7)."""
    if plan.expires_s is None:
        return max(came_s, due_s) + 3 * _DAY_S
    if due_s:
        return due_s + plan.expires_s
    # Its Date counts where it is past, and leaves some of its life.
    return (DATED_S if plan.is_dated and DATED_S <= came_s < DATED_S + plan.expires_s else came_s) + plan.expires_s
