"""What the nodes owe the world, P1 to P10 of DESIGN.md, checked at every step against what really happened.

The checks know more than any node: what is in the store, what each phone has shown, what every process has heard. Where
a promise cannot hold by the nature of things, the check says why it lets that pass.
"""
# pyright: reportPrivateUsage=false

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
    Settle,
    Settled,
    StorageAction,
    Store,
    Stored,
)
from msilo_core.relay import DELIVERY_MARK
from tests.sim.agents import TIMED_OUT_MS
from tests.sim.letters import DATED_S, EPOCH_MS, Letter
from tests.sim.scenario import LetterPlan
from tests.sim.wire import Address, Key, Wire

if TYPE_CHECKING:
    from tests.sim.nodes import Process
    from tests.sim.phones import Phone
    from tests.sim.world import World

__all__ = ["Broken", "Promises"]

_SILENCE_MS: Final = 31_000
"""A request that a process has is answered before its sender's Timer F."""

_DAY_S: Final = 86_400
_FOR_GOOD: Final = 300
"""From this status on a phone does not take a message."""


class Broken(Exception):
    """A promise is broken.

    Attributes:
        promise: ``P1`` to ``P10``.
        text: how.
    """

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise
        self.text = text


class Arrival(msgspec.Struct):
    """A MESSAGE at a process, from its first packet to its answer.

    Attributes:
        letter: which.
        order: how much had happened before.
        came_s: when it came, by the clock of the process.
        status: of the final answer; 0 before.
    """

    letter: Letter
    order: int
    came_s: int
    status: int = 0


class Branch(msgspec.Struct):
    """A MESSAGE on its way from a process to a phone.

    Attributes:
        process: which sends it.
        letter: what.
        row: number of the row that it delivers; 0 for a live message.
        target: Request-URI.
        remote: where it goes.
        token: of its Send.
        began_ms: when.
        order: how much had happened before.
        is_over: whether it failed, or was finally answered.
    """

    process: "Process"
    letter: Letter
    row: int
    target: str
    remote: Address
    token: int
    began_ms: int
    order: int
    is_over: bool = False


class Row(msgspec.Struct):
    """A message in the store.

    Attributes:
        number: of the row.
        letter: which message it is.
        message: as it was stored.
        order: how much had happened before the commit.
        due_s: when it was to be delivered at the earliest; 0: at once.
        leased: how much had happened before it was leased, by process.
        settling: outcomes that a process has asked for since, but for RELEASED.
        is_tried: whether a phone may have it, as whoever leases it is told.
        outcome: that which was recorded for good.
    """

    number: int
    letter: Letter
    message: Message
    order: int
    due_s: int
    leased: dict[str, int] = {}
    settling: set[str] = set()
    is_tried: bool = False
    outcome: str = ""


class Promises:
    """Sees all that happens between nodes, store and phones.

    Attributes:
        letters: all messages that were sent so far, by number.
        rows: all that were ever stored, by number.
        repeats: MESSAGEs that came to a phone that had shown them.
    """

    def __init__(self, world: "World") -> None:
        self.letters: dict[int, Letter] = {}
        self.rows: dict[int, Row] = {}
        self.repeats = 0
        self._world = world
        self._order = 0
        self._kept: dict[int, Row] = {}
        self._dead: dict[int, Row] = {}
        self._rows_of: dict[int, list[Row]] = defaultdict(list)
        self._by_key: dict[Key, Letter] = {}
        self._contacts: dict[str, set[str]] = defaultdict(set)
        self._hosts: dict[str, set[str]] = defaultdict(set)
        self._arrivals: dict[tuple[str, str], Arrival] = {}
        self._branches: dict[str, Branch] = {}
        # Branches without a final answer, by process.
        self._outstanding: dict[str, dict[str, Branch]] = defaultdict(dict)
        # Final statuses that a process heard of a message; and as what, a row or live, a phone took it.
        self._heard: dict[tuple[str, int], set[int]] = defaultdict(set)
        self._taken: dict[tuple[str, int], int] = {}
        # When a message came to a process as a new request, and how often it did to any.
        self._came_s: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._arrived: Counter[int] = Counter()
        self._forgets = "finished_transactions_max" in world.scenario.limits
        # Messages of which a process was told that they could not be stored, and they were.
        self._unsure: set[tuple[str, int]] = set()
        # What each phone has shown of what was stored, in its life: the newest row, and the branch that brought it.
        self._newest: dict[tuple[str, int], tuple[int, Branch]] = {}

    # -- Between senders and nodes -------------------------------------------------------------------------------------

    def add(self, letter: Letter) -> None:
        """A message is sent for the first time."""
        self.letters[letter.plan.number] = letter
        self._by_key[letter.key] = letter

    def letter_of(self, wire: Wire) -> Letter:
        """Return the message that a request is."""
        number = wire.get("x-letter")
        letter = self.letters.get(int(number)) if number is not None and number.isdigit() else None
        if letter is None:
            raise Broken("P7", f"nobody sent what goes to {wire.request_uri}")
        return letter

    def registers(self, owner: str, contact: str, host: str) -> None:
        """A phone sends a REGISTER for its owner."""
        self._contacts[owner].add(contact)
        self._hosts[owner].add(host)

    def asked_by(self, process: "Process", wire: Wire) -> None:
        """A MESSAGE has come to a process."""
        self._order += 1
        key = (process.lease_name, wire.branch)
        letter = self.letter_of(wire)
        number = letter.plan.number
        arrival = self._arrivals.get(key)
        # What was refused without a transaction is a new request when it is repeated, as is what was forgotten.
        if arrival is not None and not (arrival.status and (arrival.status >= 300 or self._forgets)):
            return
        arrival = self._arrivals[key] = Arrival(letter, self._order, process.now.unix_s)
        self._came_s[process.lease_name, number].append(arrival.came_s)
        self._arrived[number] += 1
        self._world.after(_SILENCE_MS, self._check_silence, process, arrival)

    def _check_silence(self, process: "Process", arrival: Arrival) -> None:
        if not arrival.status and process.is_alive and not process.is_ending:
            raise Broken("P1", f"{process.lease_name} does not answer {arrival.letter.name}")

    def answers(self, process: "Process", wire: Wire) -> None:
        """A process answers a request."""
        arrival = self._arrivals.get((process.lease_name, wire.branch))
        if arrival is None or wire.status < 200:
            return
        letter, status = arrival.letter, wire.status
        arrival.status = status
        if status == 503 and wire.get("retry-after") is None:
            raise Broken("P1", f"{letter.name} gets 503 without Retry-After")
        # A phone that takes it may say 202 itself.
        if status < 300 and not self._rows_of[letter.plan.number] and not letter.screens:
            raise Broken("P1", f"{process.lease_name} answers {status} to {letter.name}, and nobody has it")

    # -- Between nodes and phones --------------------------------------------------------------------------------------

    def sends(self, process: "Process", wire: Wire, remote: Address, token: int) -> None:
        """A process sends a MESSAGE to a phone, for the first time or again."""
        if wire.branch in self._branches:
            return
        self._order += 1
        letter = self.letter_of(wire)
        row = self._row_of(process, letter) if wire.branch.endswith(f".{DELIVERY_MARK}") else None
        branch = Branch(
            process, letter, row.number if row else 0, wire.request_uri, remote, token, self._world.ms, self._order
        )
        what = f"{process.lease_name} sends {letter.name}{f', row {row.number},' if row else ''} to {wire.request_uri}"
        self._world.note(what, wire.branch)
        self._check_address(branch, what)
        self._check_octets(letter, wire)
        self._check_window(branch, what)
        if row is None:
            self._check_live(process, letter, wire, what)
        else:
            self._check_stored(process, row, what)
        self._branches[wire.branch] = branch
        self._outstanding[process.lease_name][wire.branch] = branch

    def _row_of(self, process: "Process", letter: Letter) -> Row:
        rows = [row for row in self._rows_of[letter.plan.number] if process.lease_name in row.leased]
        if not rows:
            raise Broken("P8", f"{process.lease_name} delivers {letter.name}, which it has not leased")
        row = rows[-1]
        kept = self._world.store.memory._rows.get(row.number)
        if kept is not None and kept.lease_node != process.lease_name:
            raise Broken("P8", f"{process.lease_name} delivers {letter.name}, leased by {kept.lease_node or 'nobody'}")
        return row

    def _check_address(self, branch: Branch, what: str) -> None:
        owner = branch.letter.plan.owner
        if branch.remote[0] not in self._hosts[owner] or branch.target not in self._contacts[owner]:
            raise Broken("P10", f"{what} at {branch.remote[0]}, where {owner} never was")

    def _check_octets(self, letter: Letter, wire: Wire) -> None:
        if wire.key != letter.key:
            raise Broken("P3", f"{letter.name} goes on as {wire.key} and was {letter.key}")
        difference = letter.difference(wire)
        if difference:
            raise Broken("P7", f"{letter.name}: {difference}")

    def _check_window(self, branch: Branch, what: str) -> None:
        """RFC 3428 section 8: one outstanding for each target, at each node."""
        for other in self._outstanding[branch.process.lease_name].values():
            if other.target == branch.target and self._is_outstanding(other):
                raise Broken("P4", f"{what} while {other.letter.name} is outstanding there")

    def _is_outstanding(self, branch: Branch) -> bool:
        return not branch.is_over and self._world.ms < branch.began_ms + TIMED_OUT_MS

    def _check_live(self, process: "Process", letter: Letter, wire: Wire, what: str) -> None:
        arrival = self._arrivals[process.lease_name, wire.from_below]
        expires_s = letter.plan.expires_s
        # The second that it came in is not over where it asks for no time at all.
        if expires_s is not None and process.now.unix_s >= arrival.came_s + max(expires_s, 1):
            raise Broken("P5", f"{what} after it expired")
        for row in self._kept.values():
            if row.order < arrival.order and self._waits(row, process, letter.plan.owner, arrival.came_s):
                raise Broken("P4", f"{what}, and it overtakes row {row.number}")

    def _check_stored(self, process: "Process", row: Row, what: str) -> None:
        now_s = process.now.unix_s
        if now_s >= row.message.exp_time_s:
            raise Broken("P5", f"{what} after it expired")
        if now_s < row.due_s:
            raise Broken("P5", f"{what} before it is due")
        if row.outcome and row.outcome != Outcome.WITHDRAWN:
            raise Broken("P2", f"{what}, which was {row.outcome}")
        for other in self._outstanding_of(row):
            if other.process is not process and other.process.is_alive:
                raise Broken("P8", f"{what} while {other.process.lease_name} does so")
        self._check_repeat(process, row, what)
        leased = row.leased[process.lease_name]
        for other_row in self._kept.values():
            if (
                other_row.number < row.number
                and other_row.order < leased
                and self._waits(other_row, process, row.letter.plan.owner, now_s)
                # One that fell due or came free since is not in the page.
                and other_row.leased.get(process.lease_name, 0) >= leased
            ):
                raise Broken("P4", f"{what} before row {other_row.number}")

    def _check_repeat(self, process: "Process", row: Row, what: str) -> None:
        """It is sent again only where the process does not know that a phone has it."""
        number = row.letter.plan.number
        taken = self._taken.get((process.lease_name, number))
        if taken is None:
            return
        # Where a sender that was told nothing, or 503, sends it again it may be stored once more while it is delivered,
        # or after that. And nobody can tell a process which row the store would not own up to.
        is_same = taken == row.number or (taken == 0 and self._arrived[number] == 1)
        if is_same and (process.lease_name, number) not in self._unsure:
            raise Broken("P3", f"{what}, and was told that a phone has it")

    def _outstanding_of(self, row: Row) -> list[Branch]:
        return [
            branch
            for branches in self._outstanding.values()
            for branch in branches.values()
            if branch.row == row.number and self._is_outstanding(branch)
        ]

    def _waits(self, row: Row, process: "Process", owner: str, due_s: int) -> bool:
        """Say whether a row may be delivered, and nobody has said what became of it."""
        return (
            row.letter.plan.owner == owner
            and not row.outcome
            and not row.settling
            and row.due_s <= due_s
            and process.now.unix_s < row.message.exp_time_s
        )

    def send_failed(self, process: "Process", token: int) -> None:
        """A Send with this token could not be carried out."""
        for branch in self._outstanding[process.lease_name].values():
            branch.is_over |= branch.token == token
        self._tidy(process)

    def flow_ended(self, process: "Process", remote: Address) -> None:
        """A connection of a process has ended."""
        for branch in self._outstanding[process.lease_name].values():
            branch.is_over |= branch.remote == remote
        self._tidy(process)

    def died(self, process: "Process") -> None:
        """A process has ended: nobody waits for the answers any more."""
        self._outstanding.pop(process.lease_name, None)
        for row in self._kept.values():
            row.settling.discard(process.lease_name)

    def hears(self, process: "Process", wire: Wire) -> None:
        """A response has come to a process."""
        self._order += 1
        branch = self._branches.get(wire.branch)
        if branch is None or wire.status < 200 or branch.process is not process:
            return
        key = (process.lease_name, branch.letter.plan.number)
        self._heard[key].add(wire.status)
        if wire.status < 300 and self._is_outstanding(branch):
            self._taken[key] = branch.row
        branch.is_over = True
        self._tidy(process)

    def _tidy(self, process: "Process") -> None:
        outstanding = self._outstanding[process.lease_name]
        for name in [name for name, branch in outstanding.items() if not self._is_outstanding(branch)]:
            del outstanding[name]

    def arrives(self, phone: "Phone", letter: Letter, wire: Wire) -> None:
        """A MESSAGE has come to a phone under a new branch."""
        if wire.user != phone.plan.owner or letter.plan.owner != phone.plan.owner:
            raise Broken("P10", f"{letter.name} comes to {phone.name} of {phone.plan.owner}")

    def shown(self, phone: "Phone", letter: Letter, wire: Wire) -> None:
        """A phone shows a message that it does not know."""
        place = (phone.name, phone.life)
        if place in letter.screens:
            raise Broken("P3", f"{phone.name} shows {letter.name} twice")
        branch = self._branches[wire.branch]
        if branch.row:
            self._check_order_on_screen(phone, branch)
        letter.screens.add(place)

    def _check_order_on_screen(self, phone: "Phone", branch: Branch) -> None:
        place = (phone.name, phone.life)
        newest, brought_by = self._newest.get(place, (0, branch))
        if branch.row > newest:
            self._newest[place] = (branch.row, branch)
            return
        # What its owner saw on another device, in its turn, comes to this one when it can: each node knows of its own
        # requests only, and a process that died could not say that it was delivered. A packet may come so late that its
        # sender has given up, or died, before the newer one was sent. And what is deferred comes in its own time.
        is_late = (
            bool(branch.letter.screens)
            or branch.began_ms + TIMED_OUT_MS <= brought_by.began_ms
            or not branch.process.is_alive
        )
        is_deferred = self.rows[branch.row].message.snd_time_s or self.rows[newest].message.snd_time_s
        if not is_late and not is_deferred and not branch.is_over:
            raise Broken("P4", f"{phone.name} shows row {branch.row} after row {newest}")

    # -- Between nodes and the store -----------------------------------------------------------------------------------

    def asked(self, process: "Process", action: StorageAction) -> None:
        """A process asks the store for something."""
        self._order += 1
        if not isinstance(action, Settle):
            return
        row = self.rows.get(action.message_id)
        if row is None:
            raise Broken("P2", f"{process.lease_name} settles row {action.message_id}, which never was")
        heard = self._heard[process.lease_name, row.letter.plan.number]
        if action.outcome is not Outcome.RELEASED:
            row.settling.add(process.lease_name)
        if action.outcome in (Outcome.DELIVERED, Outcome.WITHDRAWN) and not any(
            status < _FOR_GOOD or status == 482 for status in heard
        ):
            raise Broken("P2", f"row {row.number} is {action.outcome}, and no phone said so")
        if action.outcome is Outcome.REFUSED and not any(status >= _FOR_GOOD for status in heard):
            raise Broken("P2", f"row {row.number} is refused, and no phone said so")
        if action.outcome is Outcome.REFUSED and action.status == 482 and row.is_tried:
            raise Broken("P3", f"row {row.number} is refused, and 482 says that a phone has it")

    def denied(self, process: "Process", action: StorageAction) -> None:
        """The store has carried out an action, and says that it has failed."""
        if isinstance(action, Store):
            message = action.message
            letter = self._by_key[message.callid, message.cseq, message.from_tag]
            self._unsure.add((process.lease_name, letter.plan.number))

    def done(self, process: "Process", action: StorageAction, completion: Completion) -> None:
        """The store has carried out an action."""
        self._order += 1
        match action, completion:
            case Store(message=message), Stored(message_id=number, repeated=repeated):
                self._stored(process, message, number, repeated)
            case Dump(owner=owner, now_ms=now_ms), Dumped(messages=messages):
                self._dumped(process, owner.username, messages, now_ms // 1000)
            case Settle(), Settled(lost=lost):
                self._settled(process, action, lost)
            case Expire(now_ms=now_ms), Expired(messages=count):
                self._expired(now_ms // 1000, count)
            case Remind(), Due():
                # What is due, of an owner who is not there, has become an ordinary message.
                for number, row in self._kept.items():
                    row.due_s = min(row.due_s, self._world.store.memory._rows[number].message.snd_time_s)
            case _:
                pass
        kept = len(self._world.store.memory._rows)
        if kept != len(self._kept) + len(self._dead):
            raise Broken("P2", f"the store has {kept} rows after {type(action).__name__}")

    def _stored(self, process: "Process", message: Message, number: int, repeated: bool) -> None:
        letter = self._by_key[message.callid, message.cseq, message.from_tag]
        known = self.rows.get(number)
        if repeated:
            if known is None or known.letter is not letter:
                raise Broken("P1", f"{letter.name} is said to be in row {number}, and is not")
            return
        if number <= max(self.rows, default=0):
            raise Broken("P4", f"{letter.name} is stored in row {number}, before what came before it")
        if any(not row.outcome for row in self._rows_of[letter.plan.number]):
            raise Broken("P3", f"{letter.name} is stored twice")
        self._check_lifetime(process, letter, message)
        row = Row(number, letter, message, self._order, message.snd_time_s, {}, set())
        self.rows[number] = self._kept[number] = row
        self._rows_of[letter.plan.number].append(row)
        messages_max = self._world.scenario.silo.get("max_messages")
        if messages_max:
            kept = sum(row.letter.plan.owner == letter.plan.owner for row in self._kept.values())
            if kept > int(messages_max):
                raise Broken("P9", f"{letter.plan.owner} has {kept} messages")

    def _check_lifetime(self, process: "Process", letter: Letter, message: Message) -> None:
        plan = letter.plan
        if plan.due_s and message.snd_time_s not in (0, EPOCH_MS // 1000 + plan.due_s):
            raise Broken("P5", f"{letter.name} is due at another time")
        ends_s = [_end_s(plan, came_s, message.snd_time_s) for came_s in self._came_s[process.lease_name, plan.number]]
        if message.exp_time_s not in ends_s:
            raise Broken("P5", f"{letter.name} expires at {message.exp_time_s} and not at {ends_s}")

    def _dumped(self, process: "Process", owner: str, messages: tuple[Message, ...], now_s: int) -> None:
        numbers = {message.message_id for message in messages}
        for row in self._kept.values():
            is_before = row.letter.plan.owner == owner and row.number < max(numbers, default=0)
            if is_before and row.number not in numbers and row.due_s <= now_s < row.message.exp_time_s:
                raise Broken("P4", f"{process.lease_name} gets rows {sorted(numbers)}, and not row {row.number}")
        for message in messages:
            leased = self._kept.get(message.message_id)
            if leased is None:
                raise Broken("P2", f"row {message.message_id} is leased, which is none any more")
            leased.leased[process.lease_name] = self._order
            leased.settling.discard(process.lease_name)

    def _settled(self, process: "Process", settle: Settle, lost: bool) -> None:
        row = self.rows[settle.message_id]
        row.settling.discard(process.lease_name)
        if lost:
            return
        if row.outcome and (row.outcome, settle.outcome) != (Outcome.REFUSED, Outcome.WITHDRAWN):
            # One device may refuse what another one takes later.
            raise Broken("P2", f"row {row.number} is {settle.outcome}, and was {row.outcome}")
        if settle.outcome in (Outcome.DELIVERED, Outcome.WITHDRAWN):
            if not row.letter.screens:
                raise Broken("P2", f"row {row.number} is {settle.outcome}, and no phone has shown it")
            row.outcome = settle.outcome
            self._dead.pop(row.number, None)
        elif settle.outcome is Outcome.REFUSED:
            row.outcome = settle.outcome
            self._dead[row.number] = row
        elif settle.outcome in (Outcome.FAILED, Outcome.MISSED):
            # An ordinary one from now on; what fell due was due.
            row.due_s = 0
            row.is_tried |= settle.outcome is Outcome.FAILED
        if row.outcome:
            self._kept.pop(row.number, None)

    def _expired(self, now_s: int, count: int) -> None:
        memory_rows = self._world.store.memory._rows
        gone = [row for rows in (self._kept, self._dead) for row in rows.values() if row.number not in memory_rows]
        for row in gone:
            if row.message.exp_time_s > now_s:
                raise Broken("P5", f"row {row.number} is thrown away before it expires")
            row.outcome = row.outcome or "expired"
            self._kept.pop(row.number, None)
            self._dead.pop(row.number, None)
        if count != len(gone):
            raise Broken("P2", f"{count} expired, and {len(gone)} are gone")

    # -- The end -------------------------------------------------------------------------------------------------------

    def waiting(self, now_s: int) -> list[Row]:
        """Return what is stored and has no outcome, but for what has expired and was not deleted yet."""
        return [row for row in self._kept.values() if row.message.exp_time_s > now_s]

    def check_end(self, now_s: int) -> Counter[str]:
        """Check that each accepted message has come to its end, and count how."""
        ends: Counter[str] = Counter()
        for letter in self.letters.values():
            end = self._end_of(letter, self._rows_of[letter.plan.number], now_s)
            ends[end if letter.is_accepted else "not accepted"] += 1
        return ends

    def _end_of(self, letter: Letter, rows: list[Row], now_s: int) -> str:
        for row in rows:
            if not row.outcome and row.message.exp_time_s > now_s:
                raise Broken("P2", f"{letter.name}, row {row.number}, is never delivered")
        if letter.screens:
            return "delivered"
        outcomes = [row.outcome or "expired" for row in rows]
        if outcomes:
            return outcomes[-1]
        if letter.is_accepted:
            raise Broken("P2", f"{letter.name} was accepted, and nobody has it")
        return "nowhere"


def _end_s(plan: LetterPlan, came_s: int, due_s: int) -> int:
    """Return when a message expires that came at `came_s` (RFC 3428 section 7)."""
    if plan.expires_s is None:
        return max(came_s, due_s) + 3 * _DAY_S
    if due_s:
        return due_s + plan.expires_s
    # Its Date counts where it is past, and leaves some of its life.
    return (DATED_S if plan.is_dated and came_s < DATED_S + plan.expires_s else came_s) + plan.expires_s
