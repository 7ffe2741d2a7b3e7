"""What the nodes owe the world, P1 to P10 of DESIGN.md, checked at every step against what really happened.

The checks know more than any node: what is in the store (:mod:`tests.sim.ledger`), what each phone has shown, what
every process has heard. Where a promise cannot hold by the nature of things, the check says why it lets that pass.
"""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from msilo_core.actions import Completion, Outcome, Settle, StorageAction, Store
from msilo_core.flow import Flow
from msilo_core.limits import Limits
from msilo_core.outcome import outcome_of
from msilo_core.relay import DELIVERY_MARK
from tests.sim.agents import TIMED_OUT_MS
from tests.sim.broken import Broken
from tests.sim.ledger import Ledger, Row, device_of
from tests.sim.letters import Letter
from tests.sim.wire import Wire

if TYPE_CHECKING:
    from tests.sim.nodes import Process
    from tests.sim.phones import Phone
    from tests.sim.world import World

__all__ = ["Promises"]

_SILENCE_MS: Final = 31_000
"""A request that a process has is answered before its sender's Timer F."""

_MERGED: Final = 482

_STORE_GIVEN_UP_MS: Final = Limits().storage_ms


class Arrival(msgspec.Struct):
    """A MESSAGE at a process, from its first packet to its answer.

    Attributes:
        letter: which.
        order: how much had happened before.
        came_s: when it came, by the clock of the process.
        status: of the final answer; 0 before.
        answered_ms: when that was given first.
    """

    letter: Letter
    order: int
    came_s: int
    status: int = 0
    answered_ms: int = 0


class Branch(msgspec.Struct):
    """A MESSAGE on its way from a process to a phone.

    Attributes:
        process: which sends it.
        letter: what.
        row: the row that it delivers; None for a live message.
        target: Request-URI.
        flow: the way it goes.
        token: of its Send.
        began_ms: when.
        began_s: when, by the clock of the process at its furthest.
        is_over: whether it failed, or was finally answered.
        beside: what else of the same inbox was outstanding when it began, where the window is open for several.
    """

    process: "Process"
    letter: Letter
    row: Row | None
    target: str
    flow: Flow
    token: int
    began_ms: int
    began_s: int
    is_over: bool = False
    beside: list[Row] = []


class Promises:
    """Sees all that happens between senders, nodes, store and phones.

    Attributes:
        ledger: what is in the store.
        repeats: MESSAGEs that came to a phone that had shown them.
    """

    def __init__(self, world: "World") -> None:
        self.ledger = Ledger(world)
        self.repeats = 0
        self._world = world
        self._contacts: dict[str, set[str]] = defaultdict(set)
        self._hosts: dict[str, set[str]] = defaultdict(set)
        self._arrivals: dict[tuple[str, str], Arrival] = {}
        # How often each message came to any process as a new request.
        self._arrived: Counter[int] = Counter()
        self._forgets = "finished_transactions_max" in world.scenario.limits
        self._branches: dict[str, Branch] = {}
        # Branches without a final answer, by process.
        self._outstanding: dict[str, dict[str, Branch]] = defaultdict(dict)
        # Final statuses that a process heard of a message, and of each device; and as what, a row or live (None), a
        # phone took it; of each device where each is to have it.
        self._heard: dict[tuple[str, int], set[int]] = defaultdict(set)
        self._heard_of: dict[tuple[str, int, str], set[int]] = defaultdict(set)
        self._taken: dict[tuple[str, int, str], Row | None] = {}
        # What a device refused for good, of whose answer the store may not have been told.
        self._refused: set[tuple[int, str]] = set()
        # Devices by the contacts that they registered.
        self._devices: dict[str, str] = {}
        self._is_each = world.scenario.devices == "each"
        # Messages of which a process was told that they could not be stored, and they were; or nothing in time.
        self._unsure: set[tuple[str, int]] = set()
        # The newest of what was stored that each phone has shown in its life, and the branch that brought it.
        self._newest: dict[tuple[str, int, str], tuple[Row, Branch]] = {}

    # -- Between senders and nodes -------------------------------------------------------------------------------------

    def letter_of(self, wire: Wire) -> Letter:
        """Return the message that a request is."""
        number = wire.get("x-letter")
        letter = self.ledger.letters.get(int(number)) if number is not None and number.isdigit() else None
        if letter is None:
            raise Broken("P7", f"nobody sent what goes to {wire.request_uri}")
        return letter

    def registers(self, owner: str, contact: str, host: str, instance: str) -> None:
        """A phone sends a REGISTER for its owner."""
        self._devices[contact] = device_of(instance, contact)
        self._contacts[owner].add(contact)
        self._hosts[owner].add(host)

    def asked_by(self, process: "Process", wire: Wire) -> None:
        """A MESSAGE has come to a process."""
        self.ledger.order += 1
        key = (process.lease_name, wire.branch)
        letter = self.letter_of(wire)
        number = letter.plan.number
        arrival = self._arrivals.get(key)
        if arrival is not None and not self._is_forgotten(arrival):
            return
        arrival = self._arrivals[key] = Arrival(letter, self.ledger.order, process.now.unix_s)
        self.ledger.came_s[process.lease_name, number].append(arrival.came_s)
        self._arrived[number] += 1
        self._world.after(_SILENCE_MS, self._check_silence, process, arrival)

    def _is_forgotten(self, arrival: Arrival) -> bool:
        """Say whether a repeat is a new request: of what was refused without a transaction, or of one that is over."""
        is_over = self._forgets or self._world.ms >= arrival.answered_ms + TIMED_OUT_MS
        return bool(arrival.status) and (arrival.status >= 300 or is_over)

    def _check_silence(self, process: "Process", arrival: Arrival) -> None:
        if not arrival.status and process.is_alive and not process.is_ending:
            raise Broken("P1", f"{process.lease_name} does not answer {arrival.letter.name}")

    def answers(self, process: "Process", wire: Wire) -> None:
        """A process answers a request."""
        arrival = self._arrivals.get((process.lease_name, wire.branch))
        if arrival is None or wire.status < 200:
            return
        letter, status = arrival.letter, wire.status
        if not arrival.status:
            arrival.answered_ms = self._world.ms
        arrival.status = status
        if status == 503 and wire.get("retry-after") is None:
            raise Broken("P1", f"{letter.name} gets 503 without Retry-After")
        # A phone that takes it may say 202 itself.
        if status < 300 and not self.ledger.was_stored(letter) and not letter.screens:
            raise Broken("P1", f"{process.lease_name} answers {status} to {letter.name}, and nobody has it")

    # -- Between nodes and phones --------------------------------------------------------------------------------------

    def sends(self, process: "Process", wire: Wire, flow: Flow, token: int) -> None:
        """A process sends a MESSAGE to a phone, for the first time or again."""
        self.ledger.order += 1
        branch = self._branches.get(wire.branch)
        is_new = branch is None
        if branch is None:
            letter = self.letter_of(wire)
            is_stored = wire.branch.endswith(f".{DELIVERY_MARK}")
            row = self.ledger.leased_row(process, letter) if is_stored else None
            branch = Branch(process, letter, row, wire.request_uri, flow, token, self._world.ms, process.latest_s)
        row = branch.row
        number = f", row {row.number}," if row else ""
        what = f"{process.lease_name} sends {branch.letter.name}{number} to {branch.target}"
        if row is not None:
            self.ledger.check_lease(process, row, what, is_new=is_new)
        if not is_new:
            return
        self._world.note(what, wire.branch)
        self._check_address(branch, what)
        self._check_octets(branch.letter, wire)
        self._check_window(branch, what)
        if row is None:
            self._check_live(process, branch.letter, wire, what)
        else:
            self._check_stored(process, branch, row, what)
        self._branches[wire.branch] = branch
        self._outstanding[process.lease_name][wire.branch] = branch

    def _check_address(self, branch: Branch, what: str) -> None:
        owner = branch.letter.plan.owner
        if branch.flow.remote[0] not in self._hosts[owner] or branch.target not in self._contacts[owner]:
            raise Broken("P10", f"{what} at {branch.flow.remote[0]}, where {owner} never was")

    def _check_octets(self, letter: Letter, wire: Wire) -> None:
        if wire.key != letter.key:
            raise Broken("P3", f"{letter.name} goes on as {wire.key} and was {letter.key}")
        difference = letter.difference(wire)
        if difference:
            raise Broken("P7", f"{letter.name}: {difference}")

    def _check_window(self, branch: Branch, what: str) -> None:
        """RFC 3428 section 8: one outstanding for each target, at each node; more of what is stored by a stream."""
        others = [
            other
            for other in self._outstanding[branch.process.lease_name].values()
            if other.target == branch.target and self._is_outstanding(other)
        ]
        is_stored = branch.row is not None and all(other.row is not None for other in others)
        is_stream = branch.target.endswith(";transport=tcp")
        is_open = is_stored and is_stream and not self._is_each
        if len(others) >= (self._world.scenario.window if is_open else 1):
            raise Broken("P4", f"{what} while {others[0].letter.name} is outstanding there")
        branch.beside = [other.row for other in others if other.row is not None]

    def _is_outstanding(self, branch: Branch) -> bool:
        return not branch.is_over and self._world.ms < branch.began_ms + TIMED_OUT_MS

    def _check_live(self, process: "Process", letter: Letter, wire: Wire, what: str) -> None:
        arrival = self._arrivals[process.lease_name, wire.from_below]
        plan = letter.plan
        # The second that it came in is not over where it asks for no time at all.
        if plan.expires_s is not None and process.now.unix_s >= arrival.came_s + max(plan.expires_s, 1):
            raise Broken("P5", f"{what} after it expired")
        for row in self.ledger.waiting_before(process, plan.owner, arrival.order, arrival.came_s):
            raise Broken("P4", f"{what}, and it overtakes row {row.number}")

    def _check_stored(self, process: "Process", branch: Branch, row: Row, what: str) -> None:
        now_s = process.now.unix_s
        if now_s >= row.expires_s:
            raise Broken("P5", f"{what} after it expired")
        if max(now_s, row.leased_s) < row.due_s:
            raise Broken("P5", f"{what} before it is due")
        # Another node may say that a phone has it when its lease has ended long since.
        is_over = row.outcome not in ("", Outcome.WITHDRAWN, Outcome.TAKEN)
        if is_over and row.ended_by in ("", process.lease_name):
            raise Broken("P2", f"{what}, which was {row.outcome}")
        device = self._device_at(branch)
        self._check_repeat(process, row, device, what)
        row.is_sent = True
        leased = row.leased[process.lease_name]
        if self._is_each:
            if row.devices.get(device, leased) < leased:
                raise Broken("P3", f"{what}, and the store knew that it has it")
            for other in self.ledger.lacked_before(process, row, device):
                # What it has refused, or taken, the store is being told.
                if not self._heard_of[process.lease_name, other.letter.plan.number, device]:
                    raise Broken("P4", f"{what} before row {other.number}, which others took")
        for other in self.ledger.waiting_before(process, row.letter.plan.owner, leased, now_s):
            # One that fell due or came free since is not in the page.
            is_older = other.number < row.number and other.leased.get(process.lease_name, 0) >= leased
            if is_older and other not in branch.beside and not self._was_taken(process, other):
                raise Broken("P4", f"{what} before row {other.number}")

    def _was_taken(self, process: "Process", row: Row) -> bool:
        """Say whether a process has heard that a phone has a message, of which it need not have told the store yet."""
        heard = self._heard[process.lease_name, row.letter.plan.number]
        return any(status < 300 or status == _MERGED for status in heard)

    def _device_at(self, branch: Branch) -> str:
        """Return which device a branch leads to; they are all one where one is enough."""
        return self._devices[branch.target] if self._is_each else ""

    def _check_repeat(self, process: "Process", row: Row, device: str, what: str) -> None:
        """It is sent again only where the process does not know that a phone has it."""
        number = row.letter.plan.number
        key = (process.lease_name, number)
        if (*key, device) not in self._taken:
            return
        taken = self._taken[*key, device]
        # Where a sender that was told nothing, or 503, sends it again it may be stored once more while it is delivered,
        # or after that. And nobody can tell a process which row the store would not own up to.
        is_same = taken is row or (taken is None and self._arrived[number] == 1)
        if is_same and key not in self._unsure:
            raise Broken("P3", f"{what}, and was told that a phone has it")

    def send_failed(self, process: "Process", token: int) -> None:
        """A Send with this token could not be carried out."""
        for branch in self._outstanding[process.lease_name].values():
            branch.is_over |= branch.token == token
        self._tidy(process)

    def flow_ended(self, process: "Process", flow: Flow) -> None:
        """A connection of a process has ended."""
        for branch in self._outstanding[process.lease_name].values():
            # Without a token: whichever leads there.
            branch.is_over |= branch.flow.remote == flow.remote and branch.flow.token in (0, flow.token)
        self._tidy(process)

    def died(self, process: "Process") -> None:
        """A process has ended: nobody waits for the answers any more."""
        self._outstanding.pop(process.lease_name, None)
        self.ledger.died(process)

    def hears(self, process: "Process", wire: Wire) -> None:
        """A response has come to a process."""
        self.ledger.order += 1
        branch = self._branches.get(wire.branch)
        if branch is None or wire.status < 200 or branch.process is not process:
            return
        key = (process.lease_name, branch.letter.plan.number)
        device = self._device_at(branch)
        self._heard[key].add(wire.status)
        self._heard_of[*key, device].add(wire.status)
        if outcome_of(wire.status, 0) is Outcome.REFUSED:
            self._refused.add((branch.letter.plan.number, device))
        if wire.status < 300 and self._is_outstanding(branch):
            self._taken[*key, device] = branch.row
        branch.is_over = True
        self._tidy(process)

    def _tidy(self, process: "Process") -> None:
        outstanding = self._outstanding[process.lease_name]
        for name in [name for name, branch in outstanding.items() if not self._is_outstanding(branch)]:
            del outstanding[name]

    # -- At phones -----------------------------------------------------------------------------------------------------

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
        if branch.row is not None:
            self._check_order_on_screen(phone, branch.row, branch)
        letter.screens.add(place)

    def _check_order_on_screen(self, phone: "Phone", row: Row, branch: Branch) -> None:
        # A phone that names no instance is another device where it has moved.
        place = (phone.name, phone.life, self._device_at(branch))
        newest, brought_by = self._newest.get(place, (row, branch))
        if row.number >= newest.number:
            self._newest[place] = (row, branch)
            return
        # What its owner saw on another device, in its turn, comes to this one when it can: each node knows of its own
        # requests only, and a process that died could not say that it was delivered. A packet may come so late that its
        # sender has given up, or died, before the newer one was sent. By the clock of another node it may have expired,
        # or be deleted. And what is deferred, or requeued, comes in its own time; as does what was refused, by whom the
        # store was not told before the lease had ended. And what was on its way behind one that the phone did not take,
        # where the window is open for several, is there before it.
        is_elsewhere = bool(branch.letter.screens) and not self._is_each
        # A packet that was under way when the phone forgot what it had shown.
        is_elsewhere |= any(name == phone.name for name, *_ in branch.letter.screens)
        is_late = branch.began_ms + TIMED_OUT_MS <= brought_by.began_ms or not branch.process.is_alive
        is_expired = row.message.exp_time_s <= brought_by.began_s or row.outcome not in ("", Outcome.TAKEN)
        is_deferred = row.is_requeued or row.is_refused or row.message.snd_time_s or newest.message.snd_time_s
        is_beside = row in brought_by.beside
        # What it has refused it may take when another node sends that again, whose request was under way, or that does
        # not know.
        device = self._device_at(branch)
        is_settled = device in row.devices or (row.letter.plan.number, device) in self._refused
        if not (is_elsewhere or is_late or is_expired or is_deferred or is_beside or is_settled or branch.is_over):
            raise Broken("P4", f"{phone.name} shows row {row.number} after row {newest.number}")

    # -- Between nodes and the store -----------------------------------------------------------------------------------

    def asked(self, process: "Process", action: StorageAction) -> None:
        """A process asks the store for something."""
        self.ledger.order += 1
        if isinstance(action, Store):
            self._world.after(_STORE_GIVEN_UP_MS, self._give_up, process, action)
        if not isinstance(action, Settle):
            return
        row = self.ledger.rows.get(action.message_id)
        if row is None:
            raise Broken("P2", f"{process.lease_name} settles row {action.message_id}, which never was")
        outcome = action.outcome
        if outcome is not Outcome.RELEASED:
            row.settling.add(process.lease_name)
        heard = self._heard[process.lease_name, row.letter.plan.number]
        if outcome in (Outcome.DELIVERED, Outcome.WITHDRAWN) and not any(
            status < 300 or status == _MERGED for status in heard
        ):
            raise Broken("P2", f"row {row.number} is {outcome}, and no phone said so")
        for device in action.taken_by.split():
            said = self._heard_of[process.lease_name, row.letter.plan.number, device]
            if not said:
                raise Broken("P2", f"row {row.number} is {outcome} by {device}, which said nothing")
        if outcome is Outcome.TAKEN and not row.devices and not any(one < 300 or one == _MERGED for one in heard):
            raise Broken("P2", f"row {row.number} is {outcome}, and no phone said so")
        if outcome is Outcome.REFUSED and not any(status >= 300 for status in heard):
            raise Broken("P2", f"row {row.number} is refused, and no phone said so")
        # Asked again it says what it was when it was asked first: another node may have tried it since.
        if outcome is Outcome.REFUSED and action.status == _MERGED and row.is_tried and not row.is_refused:
            raise Broken("P3", f"row {row.number} is refused, and 482 says that a phone has it")
        row.is_refused |= outcome is Outcome.REFUSED

    def _give_up(self, process: "Process", store: Store) -> None:
        """A process waits no longer to be told in which row a message is."""
        if process.awaits(store):
            self._doubt(process, store)

    def _doubt(self, process: "Process", store: Store) -> None:
        self._unsure.add((process.lease_name, self.ledger.letter_in(store.message).plan.number))

    def denied(self, process: "Process", action: StorageAction) -> None:
        """The store has carried out an action, and says that it has failed."""
        if isinstance(action, Store):
            self._doubt(process, action)

    def done(self, process: "Process", action: StorageAction, completion: Completion) -> None:
        """The store has carried out an action."""
        self.ledger.order += 1
        self.ledger.done(process, action, completion)
