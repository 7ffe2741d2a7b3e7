"""The silo: one inbox for each owner, and the order in which its messages reach the owner's phones.

Everything that is under way for one owner is in one :class:`Inbox`, from the arrival of a MESSAGE to the last answer
of a phone; an owner with nothing under way has none. An inbox does one thing at a time:

* it *relays* the live message at the head of its line, or
* it *leases* the next page of stored messages, or
* it *sends* the oldest message of the page.

After each event `_advance` looks at what there is and begins the next thing. The order of arrival follows from three
rules: a live message waits behind one that is being relayed, and is stored when anything of its owner is stored or
being stored; when one that was relayed has to be stored, all that wait behind it are stored too, in their order; and a
page is taken from the store without gaps.

The window (RFC 3428 section 8: one MESSAGE outstanding for each target) is `busy`: a contact is busy from the request
to its final answer, also when nobody waits for that any more, and gets nothing until then. With several contacts a
message goes to those that are idle, and is delivered when the first one takes it. By a stream to the only contact as
many may be outstanding as the operator says.

Where each device is to have each message it is stored before it is sent. A *walk* goes through what is stored from the
oldest on, with those devices that are there and idle, the walkers; each message goes to all of them that lack it. When
it is through with one, each walker has it: whoever did not take it is none any more until the next walk, so that no
device gets a message before an older one. A REGISTER begins a walk, and that it is time to try again.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, Final, TypeAlias

import msgspec

from msilo_core.actions import (
    Action,
    Binding,
    Completion,
    Dump,
    Dumped,
    LookedUp,
    Message,
    Outcome,
    Renew,
    Renewed,
    StorageFailed,
)
from msilo_core.clock import Deadlines, Moment, earliest
from msilo_core.config import Config
from msilo_core.desk import Desk
from msilo_core.entropy import Entropy
from msilo_core.errors import LocalError, PeerError
from msilo_core.flow import Flow
from msilo_core.following import Following
from msilo_core.fork import Fork
from msilo_core.inbox import Inbox
from msilo_core.ledger import STORE_RETRY_MS, Ledger
from msilo_core.limits import Limits
from msilo_core.message import Request, Response
from msilo_core.nexthop import NextHop
from msilo_core.outcome import FLOW_FAILED, Backoff, hopeful_first, outcome_of
from msilo_core.relay import DELIVERY_MARK, Relay
from msilo_core.route import Call
from msilo_core.rows import serialise_row
from msilo_core.statistics import Statistics
from msilo_core.targets import Target, capable, devices_of
from msilo_core.transactions import TIMED_OUT, ClientTransactions
from msilo_core.turns import Turns
from msilo_core.uri import Aor
from msilo_core.whereabouts import Whereabouts

__all__ = ["PAGE_GROWTH", "RETRY_PAUSE_S", "SETTLE_WITHIN_MS", "Silo"]

RETRY_PAUSE_S: Final = 30
"""How long what was due is left to the node that looked for it first, or that does not reach the phone itself."""

PAGE_GROWTH: Final = 4
"""How many times as long the pages behind a full one are, where one of so many turns is taken at most: no more is in
memory for that."""

SETTLE_WITHIN_MS: Final = 10
"""How long a message may have been delivered before the store is asked to record it, with what was delivered behind it
meanwhile. If the server dies before, it comes again, and the phone can tell."""

FailCall: TypeAlias = Callable[[Call, int, Response | None, Moment], list[Action]]
Refuse: TypeAlias = Callable[[Call, int, str, Moment], list[Action]]
PassOn: TypeAlias = Callable[[Call, Response, Moment], list[Action]]


class Silo:
    """The inboxes of one engine."""

    def __init__(
        self,
        config: Config,
        limits: Limits,
        desk: Desk,
        clients: ClientTransactions,
        entropy: Entropy,
        relay: Relay,
        next_hop: NextHop | None,
        statistics: Statistics,
        backoff: Backoff,
        *,
        is_open: Callable[[Flow], bool],
        is_trusted: Callable[[Flow], bool],
        pass_on: PassOn,
        fail_call: FailCall,
        refuse: Refuse,
        refused: Callable[[Message, Moment], list[Action]],
        keeps: Callable[[Request], bool],
    ) -> None:
        """Make an empty silo.

        Args:
            config: policy and timers.
            limits: bounds.
            desk: where completions are awaited.
            clients: where MESSAGEs of ours are sent.
            entropy: for branches.
            relay: sends live ones on.
            next_hop: the outbound proxy that stored ones go to, or None.
            statistics: counted in.
            backoff: when to try again.
            is_open: whether a stream is open.
            is_trusted: whether a flow leads to a trusted peer.
            pass_on: answers a live call with a phone's response.
            fail_call: runs the failure route for a live call; may store it.
            refuse: answers a live call with a status of our own.
            refused: is told that a stored message was refused for good.
            keeps: says whether a MESSAGE is one to keep.
        """
        self._config = config
        self._lease_ms = 1000 * config.delivery.lease_s
        self._limits = limits
        self._desk = desk
        self._clients = clients
        self._entropy = entropy
        self._relay = relay
        self._statistics = statistics
        self._backoff = backoff
        self._is_trusted = is_trusted
        self._pass_on = pass_on
        self._fail_call = fail_call
        self._refuse = refuse
        self._refused = refused
        self._keeps = keeps
        self._is_each = config.is_each
        self._inboxes: dict[Aor, Inbox] = {}
        self._following = Following(config.delivery.account, entropy, next_hop, is_trusted)
        self._window = config.delivery.window
        self._turns = Turns(limits)
        self._where = Whereabouts(config, desk, next_hop, statistics, is_open)
        self._ledger = Ledger(desk, statistics, self._inbox, self._advance)
        self._deadlines: Deadlines[tuple[str, Aor]] = Deadlines()
        self._leases = count(1)
        self._closing = False

    # -- What arrives --------------------------------------------------------------------------------------------------

    def expect(self, owner: Aor) -> int:
        """A look-up of `owner` begins; :meth:`located` or :meth:`dump` follows with the count that is returned."""
        inbox = self._inbox(owner)
        inbox.arriving += 1
        return inbox.registrations

    def located(self, call: Call, registrations: int, looked_up: LookedUp | None, now: Moment) -> list[Action]:
        """The look-up of an expected MESSAGE is done, or failed (None); :meth:`advance` follows."""
        assert call.owner is not None
        inbox = self._inboxes[call.owner]
        inbox.arriving -= 1
        if looked_up is None:
            return []
        actions = self._where.heard(inbox, registrations, looked_up)
        now_s = now.unix_s
        call.bindings = tuple([binding for binding in inbox.bindings if binding.expires_s > now_s])
        call.registrations = inbox.registrations
        call.is_behind = bool(inbox.line)
        return actions

    def relay(self, call: Call, now: Moment) -> list[Action]:
        """Relay a live call in its turn, or run the failure route where it must not overtake; `advance` follows."""
        assert call.owner is not None
        if self._is_each and self._keeps(call.request):
            # From the store each device gets it.
            return self._fail_call(call, 480, None, now)
        inbox = self._inbox(call.owner)
        if inbox.fork is None and (inbox.has_stored or inbox.storing or inbox.page or inbox.leasing):
            inbox.dump_wanted = True
            return self._fail_call(call, 480, None, now)
        if len(inbox.line) >= self._limits.waiting_per_owner_max:
            return self._refuse(call, 503, "", now)
        inbox.line.append(call)
        return []

    def storing(self, call: Call, owner: Aor) -> None:
        """A Store for `owner` begins; :meth:`stored` follows."""
        inbox = self._inbox(owner)
        inbox.storing += 1
        inbox.storing_relayed += call.fork is not None

    def stored(self, call: Call, owner: Aor, message_id: int, now: Moment) -> list[Action]:
        """The Store is done: row `message_id`, or 0 if it failed."""
        inbox = self._inboxes[owner]
        inbox.storing -= 1
        inbox.storing_relayed -= call.fork is not None
        actions: list[Action] = []
        if message_id:
            inbox.has_stored = True
            # Registered after the look-up that found nobody, or stored behind what is being delivered, or by
            # request_route for somebody who is there.
            is_there = call.owner == owner and (self._is_each or not call.is_failed) and bool(call.bindings)
            has_registered = inbox.registrations != call.registrations
            inbox.dump_wanted |= has_registered or inbox.has_turn or is_there
            inbox.is_early |= has_registered
            if has_registered:
                inbox.left_out.clear()
            if call.fork is not None:
                actions += self.note_row(call.fork, owner, message_id)
        actions += self._advance(inbox, now)
        return actions

    def note_row(self, fork: Fork[Any], owner: Aor, message_id: int) -> list[Action]:
        """What was relayed is stored in row `message_id`, which is not wanted if a phone took it live, now or later."""
        fork.row = (owner, message_id)
        return self.withdraw(owner, message_id) if fork.taken else []

    def withdraw(self, owner: Aor, message_id: int) -> list[Action]:
        """Delete the row of a message that a phone took live after all, and do not send it, unless that has begun."""
        inbox = self._inbox(owner)
        sent, rest = _parted(inbox)
        if inbox.leasing or any(message.message_id == message_id for message in sent):
            inbox.withdrawn.add(message_id)
        inbox.page = [*sent, *(message for message in rest if message.message_id != message_id)]
        if message_id in inbox.settling:
            # The store is being told another outcome, and might do the two in any order.
            inbox.withdrawn_next.add(message_id)
            return []
        return self._ledger.settle(owner, message_id, Outcome.WITHDRAWN)

    def bound(
        self, owner: Aor, bindings: tuple[Binding, ...], waiting: bool, extra_hdrs: str | None, now: Moment
    ) -> list[Action]:
        """A REGISTER was carried out: `bindings` are all there are; deliver what is `waiting`, with `extra_hdrs`."""
        if owner not in self._inboxes and not (waiting and bindings):
            return []
        inbox = self._inbox(owner)
        inbox.bindings = bindings
        inbox.registrations += 1
        inbox.is_asked_again = True
        inbox.extra_hdrs = extra_hdrs or ""
        inbox.has_stored |= waiting
        inbox.dump_wanted |= waiting and bool(bindings)
        inbox.is_early |= inbox.dump_wanted
        inbox.left_out.clear()
        return self._advance(inbox, now)

    def advance(self, owner: Aor, now: Moment) -> list[Action]:
        """Begin what can begin for `owner`."""
        inbox = self._inboxes.get(owner)
        return [] if inbox is None else self._advance(inbox, now)

    # -- Time and the end ----------------------------------------------------------------------------------------------

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Do what is due."""
        actions = self._ledger.handle_timeout(now)
        for what, owner in self._deadlines.pop_due(now.mono_ms):
            inbox = self._inboxes[owner]
            if what == "dump":
                inbox.dump_wanted = True
            elif what == "renew":
                actions += self._renew_leases(inbox, now)
            elif what == "lease":
                actions += self._lose_page(inbox, now)
            elif what == "settle":
                actions += self._ledger.tell(inbox)
            else:
                fork = inbox.sending[0] if inbox.sending else inbox.fork
                assert fork is not None, "its deadlines end with it"
                actions += fork.give_up(now) if what == "relay" else self._widen(fork, now)
            actions += self._advance(inbox, now)
        return actions

    def next_timeout(self) -> int | None:
        """Return the next deadline in ``mono_ms``, or None."""
        return earliest(self._deadlines.next_ms(), self._ledger.next_timeout())

    @property
    def is_idle(self) -> bool:
        """Whether no message is on its way to a phone, and no outcome waits to be recorded."""
        under_way = any(inbox.fork or inbox.sending or inbox.line for inbox in self._inboxes.values())
        return self._ledger.is_clear and not under_way

    def dump(
        self,
        owner: Aor,
        contact: str | None,
        registrations: int,
        looked_up: LookedUp | None,
        extra_hdrs: str | None,
        now: Moment,
        *,
        is_asked: bool,
    ) -> list[Action]:
        """Something is to be delivered, as a REGISTER has it if `is_asked`; its look-up is done, or failed (None)."""
        inbox = self._inbox(owner)
        inbox.arriving -= 1
        actions: list[Action] = []
        if looked_up is not None:
            actions += self._where.heard(inbox, registrations, looked_up)
            if extra_hdrs is not None:
                inbox.extra_hdrs = extra_hdrs
            is_there = any(contact is None or binding.contact == contact for binding in inbox.bindings)
            # Of whom the store does not know it does not say that anything waits either.
            if self._where.is_known_to_proxy_alone(inbox) or (looked_up.waiting and is_there):
                inbox.dump_wanted = True
                inbox.is_asked_again |= is_asked
            inbox.is_early |= inbox.dump_wanted
            if is_asked:
                inbox.left_out.clear()
        return actions + self._advance(inbox, now)

    def close(self, now: Moment) -> list[Action]:
        """Begin nothing more, and give up the leases of what is not being sent."""
        self._closing = True
        actions: list[Action] = []
        for inbox in list(self._inboxes.values()):
            actions += self._advance(inbox, now)
        return actions

    def abandon(self, now: Moment) -> list[Action]:
        """Wait no longer for the answers of phones: store what was relayed, give up the leases of what was sent."""
        actions: list[Action] = []
        for inbox in list(self._inboxes.values()):
            if inbox.sending:
                if self._is_each:
                    # If a device has it there is more to say of it than of a failure.
                    actions += self._hurry(inbox.sending[0], now)
                # Not given back as if untried: the phone may have it, and will say so if it comes again.
                for message in self._abandon_sending(inbox):
                    inbox.page.pop(0)
                    if message.message_id not in inbox.withdrawn:
                        actions += self._ledger.settle(
                            inbox.owner, message.message_id, Outcome.FAILED, 408, next_time_s=now.unix_s
                        )
                actions += self._release_rest(inbox) + self._ledger.tell(inbox)
                self._let_leases_be(inbox)
            elif inbox.fork is not None:
                actions += inbox.fork.give_up(now)
                actions += self._advance(inbox, now)
        return actions

    def _abandon_sending(self, inbox: Inbox) -> list[Message]:
        """Wait no longer for what is being sent, and return it. A phone that takes it after all has it."""
        sent, _ = _parted(inbox)
        for fork, message in zip(inbox.sending, sent, strict=True):
            fork.row = (inbox.owner, message.message_id)
            fork.abandon()
        inbox.sending.clear()
        self._deadlines.disarm(("fork", inbox.owner))
        return sent

    # -- One inbox, one step -------------------------------------------------------------------------------------------

    def _inbox(self, owner: Aor) -> Inbox:
        inbox = self._inboxes.get(owner)
        if inbox is None:
            inbox = self._inboxes[owner] = Inbox(owner)
        return inbox

    def _advance(self, inbox: Inbox, now: Moment) -> list[Action]:
        actions: list[Action] = []
        if self._closing:
            inbox.dump_wanted = False
            # Others need not wait for the next REGISTER.
            actions += self._release_rest(inbox, now.unix_s)
            if inbox.fork is None:
                actions += self._fail_line(inbox, 503, now)
        elif inbox.sending:
            actions += self._send_further(inbox, now)
        elif inbox.fork is None and not inbox.leasing:
            if inbox.page or inbox.dump_wanted:
                # What waits in the line came after what is stored; its senders need not wait until that is delivered.
                actions += self._fail_line(inbox, 480, now)
                actions += self._dump(inbox, now)
            elif inbox.line and (inbox.has_stored or inbox.storing):
                inbox.dump_wanted = True
                actions += self._fail_line(inbox, 480, now)
            elif inbox.line:
                actions += self._relay_head(inbox, now)
        if inbox.untold:
            actions += self._tell(inbox, now)
        return actions + self._leave(inbox, now)

    def _tell(self, inbox: Inbox, now: Moment) -> list[Action]:
        """Have it recorded what was delivered, or soon where more of the page is being sent."""
        key = ("settle", inbox.owner)
        if inbox.sending:
            if key not in self._deadlines:
                self._deadlines.arm(key, now.mono_ms + SETTLE_WITHIN_MS)
            return []
        self._deadlines.disarm(key)
        return self._ledger.tell(inbox)

    def _leave(self, inbox: Inbox, now: Moment) -> list[Action]:
        """Give up the turn of an inbox that is not delivered any more, and forget one with nothing under way."""
        if inbox.lease_end_ms and not inbox.page:
            self._let_leases_be(inbox)
        if inbox.fork or inbox.leasing or inbox.page or inbox.dump_wanted:
            return []
        under_way = inbox.arriving or inbox.storing or inbox.busy or inbox.line or inbox.settling or inbox.renewing
        if not under_way and ("dump", inbox.owner) not in self._deadlines:
            self._inboxes.pop(inbox.owner, None)
            self._deadlines.disarm(("settle", inbox.owner))
        return self._pass_turn_on(inbox, now) if inbox.has_turn else []

    def _pass_turn_on(self, inbox: Inbox, now: Moment) -> list[Action]:
        inbox.has_turn = False
        self._turns.give_up()
        actions: list[Action] = []
        while (owner := self._turns.next()) is not None:
            actions += self.advance(owner, now)
        return actions

    def _is_over(self, inbox: Inbox, message: Message, now: Moment) -> bool:
        # One that another phone took live meanwhile, or another node may have by now, is not sent any more.
        is_gone = message.message_id in inbox.withdrawn or now.mono_ms >= inbox.lease_end_ms
        return is_gone or message.exp_time_s <= now.unix_s

    def _renew_stored(self, inbox: Inbox, message: Message, target: Target, now: Moment) -> Target | None:
        is_over = self._is_over(inbox, message, now)
        return None if is_over else self._where.renewed(inbox, None, target, now)

    def _follow(self, inbox: Inbox, message: Message, target: Target, response: Response, now: Moment) -> Target | None:
        is_over = self._is_over(inbox, message, now)
        return None if is_over else self._following.follow(message.body, target, response)

    def _begin(self, fork: Fork[Aor], now: Moment) -> list[Action]:
        actions = fork.begin(now)
        self._give_head_start(fork, now)
        return actions

    def _widen(self, fork: Fork[Aor], now: Moment) -> list[Action]:
        if fork.is_patient:
            return self._hurry(fork, now)
        actions = fork.widen(now)
        self._give_head_start(fork, now)
        return actions

    def _hurry(self, fork: Fork[Aor], now: Moment) -> list[Action]:
        return fork.hurry(now, is_taken=self._inboxes[fork.subject].page[0].status != 0)

    def _give_head_start(self, fork: Fork[Aor], now: Moment) -> None:
        if fork.has_more or fork.is_patient:
            self._deadlines.arm(("fork", fork.subject), now.mono_ms + self._config.fork_ms)

    def branch_began(self, fork: Fork[Aor], contact: str) -> None:
        """A contact has a MESSAGE outstanding (:class:`msilo_core.fork.ForkUser`)."""
        self._inboxes[fork.subject].busy.add((fork, contact))

    def fork_decided(self, fork: Fork[Aor], status: int, response: Response | None, now: Moment) -> list[Action]:
        """What was sent or relayed has its answer (:class:`msilo_core.fork.ForkUser`)."""
        inbox = self._inboxes[fork.subject]
        self._deadlines.disarm(("fork", fork.subject))
        if fork is inbox.fork:
            inbox.fork = None
            return self._relayed(inbox, fork, status, response, now)
        at = inbox.sending.index(fork)
        message = inbox.page[at]
        del inbox.sending[at], inbox.page[at]
        return self._sent(inbox, fork, message, status, response, now)

    def branch_ended(self, fork: Fork[Aor], target: Target, status: int, now: Moment) -> list[Action]:
        """A contact is idle again (:class:`msilo_core.fork.ForkUser`)."""
        inbox = self._inboxes[fork.subject]
        inbox.busy.discard((fork, target.contact))
        actions: list[Action] = []
        if status == FLOW_FAILED and not target.is_elsewhere:
            actions += self._where.flow_failed(inbox, target.contact)
        if fork.row is not None and status < 300 and fork.is_each:
            device = fork.devices.get(target.contact)
            actions += [] if device is None else self._taken_late(inbox, fork.row[1], device, now)
        elif fork.row is not None and status < 300 and not fork.taken:
            actions += self.withdraw(*fork.row)
        fork.taken |= status < 300
        actions += self._advance(inbox, now)
        return actions

    # -- Live messages -------------------------------------------------------------------------------------------------

    def _relay_head(self, inbox: Inbox, now: Moment) -> list[Action]:
        call = inbox.line[0]
        expires_s = _expires_s(call)
        if expires_s is not None and expires_s <= now.unix_s:
            inbox.line.pop(0)
            return self._fail_call(call, 480, None, now) + self._advance(inbox, now)
        targets = self._where.idle_targets(inbox, now)
        deadline_ms = call.arrived.mono_ms + self._config.relay_ms
        if not targets or deadline_ms <= now.mono_ms:
            # The contacts have not answered what they got before, or the last one has left; or its sender has waited
            # so long that it must be told something now.
            return self._fail_line(inbox, 480, now)
        self._deadlines.arm(("relay", inbox.owner), deadline_ms)
        renew = partial(self._where.renewed, inbox, expires_s)
        inbox.fork = self._relay.fork(self, inbox.owner, call, targets, renew)
        return self._begin(inbox.fork, now)

    def _relayed(
        self, inbox: Inbox, fork: Fork[Aor], status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        self._deadlines.disarm(("relay", inbox.owner))
        call = inbox.line.pop(0)
        call.fork = fork
        call.statuses = (*fork.statuses, TIMED_OUT) if self._is_open_question(inbox, fork, now) else (*fork.statuses,)
        if status < 300 and response is not None:
            self._statistics.relayed_messages += 1
            return self._pass_on(call, response, now)
        # A phone that answers 200 after this has the message: its row is withdrawn then.
        actions = self._fail_call(call, status, response, now)
        if inbox.storing:
            actions += self._fail_line(inbox, 480, now)
        return actions

    def _fail_line(self, inbox: Inbox, status: int, now: Moment) -> list[Action]:
        actions: list[Action] = []
        while inbox.line:
            actions += self._fail_call(inbox.line.pop(0), status, None, now)
        return actions

    # -- Stored messages -----------------------------------------------------------------------------------------------

    def _dump(self, inbox: Inbox, now: Moment) -> list[Action]:
        if inbox.settling and not inbox.page:
            # The last of their completions brings it on.
            return []
        targets = self._where.stored_targets(inbox, now)
        if not targets:
            if inbox.busy:
                return []
            inbox.dump_wanted = False
            # If there is somebody, whom this node does not reach, another may.
            is_elsewhere = bool(capable(inbox.bindings, now))
            return self._release_rest(inbox, now.unix_s + RETRY_PAUSE_S if is_elsewhere else 0)
        if self._clients.is_full:
            self._dump_later(inbox, now.mono_ms + STORE_RETRY_MS)
            return []
        had_turn = inbox.has_turn
        if not had_turn:
            inbox.has_turn = self._turns.take(inbox.owner)
            if not inbox.has_turn:
                inbox.dump_wanted = inbox.owner in self._turns.awaited
                return []
        actions = self._pass_over_expired(inbox, now)
        if now.mono_ms >= inbox.lease_end_ms and inbox.page:
            actions += self._lose_page(inbox, now)
        if self._is_each:
            actions += self._pass_over_taken(inbox, targets, now)
        if inbox.page:
            inbox.is_asked_again = False
            is_alone = len(targets) == 1 and targets[0].flow.is_stream and not self._is_each
            inbox.stream = targets[0] if is_alone else None
            actions += self._send(inbox, targets, now)
            actions += self._send_further(inbox, now)
        elif inbox.dump_wanted and not inbox.settling and not inbox.storing_relayed:
            if had_turn and self._turns.awaited:
                # A page each: nobody waits for the whole inbox of another.
                return actions + self._pass_turn_on(inbox, now) + self._dump(inbox, now)
            if self._is_each:
                inbox.left_out = {device: at_s for device, at_s in inbox.left_out.items() if at_s > now.unix_s}
                inbox.walkers = self._where.devices(inbox, targets).keys() - inbox.left_out.keys()
                inbox.dump_wanted = bool(inbox.walkers)
            if inbox.dump_wanted:
                actions += self._lease(inbox, now)
        return actions

    def _send_further(self, inbox: Inbox, now: Moment) -> list[Action]:
        """Send what is behind the messages that are being sent, as far as the window is open."""
        actions: list[Action] = []
        while 0 < len(inbox.sending) < min(self._window, len(inbox.page)) and inbox.stream is not None:
            is_held_up = self._clients.is_full or now.mono_ms >= inbox.lease_end_ms
            if is_held_up or not self._where.is_all(inbox, inbox.stream, now):
                break
            if inbox.page[len(inbox.sending)].exp_time_s <= now.unix_s:
                break
            actions += self._send(inbox, [inbox.stream], now)
        return actions

    def _send(self, inbox: Inbox, targets: list[Target], now: Moment) -> list[Action]:
        fork = self._sending_fork(inbox, targets)
        inbox.sending.append(fork)
        return self._begin(fork, now)

    def _sending_fork(self, inbox: Inbox, targets: list[Target]) -> Fork[Aor]:
        message = inbox.page[len(inbox.sending)]
        devices: dict[str, str] | None = None
        # One that has it has it for all, but where each is to have it.
        reached = 0 if self._is_each else message.reached
        if self._is_each:
            lacking = inbox.walkers - {*message.taken_by.split()}
            found = self._where.devices(inbox, targets)
            # At the same time, whatever their q.
            targets = [msgspec.structs.replace(found[device], q=0) for device in found if device in lacking]
            devices = {target.contact: device for device, target in found.items() if device in lacking}
        serialise = partial(self._serialise, message, inbox.extra_hdrs)
        renew = partial(self._renew_stored, inbox, message)
        return Fork(
            self, inbox.owner, targets, serialise, renew, self._clients, self._entropy,
            rank=partial(hopeful_first, reached=reached), follow=partial(self._follow, inbox, message),
            mark=DELIVERY_MARK, devices=devices,
        )  # fmt: skip

    def _serialise(self, message: Message, extra_hdrs: str, target: Target, via: str, _max_breadth: int) -> bytes:
        return serialise_row(message, self._config.silo, self._is_trusted, target, via, extra_hdrs)

    def _lease(self, inbox: Inbox, now: Moment) -> list[Action]:
        is_early = inbox.is_early
        inbox.leasing = True
        inbox.dump_wanted = inbox.is_early = False
        inbox.is_walk_early = is_early
        page_max, lease_ms = self._limits.page_messages_max, self._lease_ms
        if inbox.is_long and self._turns.is_quiet:
            page_max *= PAGE_GROWTH
        token = self._desk.issue_patiently(partial(self._dumped, inbox, is_early, now.mono_ms, page_max))
        if not inbox.lease or inbox.lease_spent:
            inbox.lease, inbox.lease_spent = f"{self._config.node}/{next(self._leases)}", False
        devices = tuple(sorted(inbox.walkers))
        return [Dump(token, inbox.owner, page_max, inbox.lease, now.unix_ms, lease_ms, is_early, devices)]

    def _dumped(
        self, inbox: Inbox, is_early: bool, asked_ms: int, page_max: int, completion: Completion, now: Moment
    ) -> list[Action]:
        inbox.leasing = False
        if isinstance(completion, StorageFailed):
            self._statistics.storage_failures += 1
            inbox.is_early |= is_early
            self._dump_later(inbox, now.mono_ms + STORE_RETRY_MS)
            return self._advance(inbox, now)
        if not isinstance(completion, Dumped):
            raise LocalError(f"{type(completion).__name__} does not answer Dump")
        inbox.page.extend(message for message in completion.messages if message.message_id not in inbox.withdrawn)
        inbox.withdrawn.clear()
        for number, device in inbox.taken_meanwhile:
            inbox.page = [_with_device(one, device) if one.message_id == number else one for one in inbox.page]
        inbox.taken_meanwhile.clear()
        if inbox.page:
            self._hold_leases(inbox, asked_ms)
        if completion.busy_ms:
            inbox.is_early |= is_early
            # Whoever holds it may be done long before the end of the lease.
            self._dump_later(inbox, now.mono_ms + min(completion.busy_ms + 1, STORE_RETRY_MS))
        else:
            inbox.is_long = is_full = len(completion.messages) == page_max
            # A Store that was told before this page may not be in it.
            inbox.has_stored = is_full or inbox.dump_wanted or completion.is_early
            inbox.dump_wanted |= is_full
            # It begins with a row that others are to look for later, should this server die.
            inbox.is_early |= is_full
        return self._advance(inbox, now)

    # -- Leases --------------------------------------------------------------------------------------------------------

    def _hold_leases(self, inbox: Inbox, asked_ms: int) -> None:
        """The leases of the page run from `asked_ms` at least, when the store was asked for them."""
        inbox.lease_end_ms = asked_ms + self._lease_ms
        self._deadlines.arm(("lease", inbox.owner), inbox.lease_end_ms)
        self._deadlines.arm(("renew", inbox.owner), asked_ms + self._lease_ms // 3)

    def _let_leases_be(self, inbox: Inbox) -> None:
        inbox.lease_end_ms = 0
        self._deadlines.disarm(("lease", inbox.owner))
        self._deadlines.disarm(("renew", inbox.owner))

    def _renew_leases(self, inbox: Inbox, now: Moment) -> list[Action]:
        if inbox.renewing:
            self._deadlines.arm(("renew", inbox.owner), now.mono_ms + STORE_RETRY_MS)
            return []
        inbox.renewing = True
        message_ids = tuple([message.message_id for message in inbox.page])
        token = self._desk.issue_patiently(partial(self._renewed, inbox, now.mono_ms))
        return [Renew(token, inbox.owner, message_ids, inbox.lease, self._lease_ms)]

    def _renewed(self, inbox: Inbox, asked_ms: int, completion: Completion, now: Moment) -> list[Action]:
        actions: list[Action] = []
        inbox.renewing = False
        if isinstance(completion, StorageFailed):
            self._statistics.storage_failures += 1
            if inbox.page:
                self._deadlines.arm(("renew", inbox.owner), now.mono_ms + STORE_RETRY_MS)
        elif not isinstance(completion, Renewed):
            raise LocalError(f"{type(completion).__name__} does not answer Renew")
        elif inbox.page and asked_ms > inbox.lease_end_ms - self._lease_ms:
            # Of a page that was leased since then it says nothing.
            if all(message.message_id in completion.message_ids for message in inbox.page):
                self._hold_leases(inbox, asked_ms)
            else:
                actions += self._lose_page(inbox, now)
        return actions + self._advance(inbox, now)

    def _lose_page(self, inbox: Inbox, now: Moment) -> list[Action]:
        """The page may be another node's by now, or soon: send nothing of it any more, and lease what there is anew."""
        self._statistics.lost_leases += 1
        # Which devices have it nobody else knows.
        actions = inbox.sending[0].hurry(now) if self._is_each and inbox.sending else []
        self._abandon_sending(inbox)
        inbox.page.clear()
        inbox.dump_wanted = inbox.is_early = inbox.has_stored = True
        self._let_leases_be(inbox)
        return actions

    def _dump_later(self, inbox: Inbox, at_ms: int) -> None:
        self._deadlines.arm(("dump", inbox.owner), at_ms)

    def _sent(
        self, inbox: Inbox, fork: Fork[Aor], message: Message, status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        if message.message_id in inbox.withdrawn:
            # Another phone took it live: it has its outcome, whatever this one says.
            inbox.withdrawn.discard(message.message_id)
            return []
        if fork.is_each:
            done = self._devices_done(fork, message)
            if message.status or Outcome.DELIVERED in done.values():
                return self._taken(inbox, fork, message, done, response, now)
        outcome = outcome_of(status, message.reached, message.attempts)
        if outcome is Outcome.REFUSED and status < 600 and self._is_open_question(inbox, fork, now):
            outcome = Outcome.FAILED
        is_reminder = message.snd_time_s > 0
        if outcome is Outcome.DELIVERED:
            self._statistics.dumped_messages += not is_reminder
            self._statistics.dumped_reminders += is_reminder
            return self._ledger.settle(inbox.owner, message.message_id, outcome, status)
        if outcome is Outcome.FAILED and not fork.may_be_known:
            # No attempt that a 482 could be the answer to a repeat of.
            outcome = Outcome.UNREACHED
        self._statistics.failed_messages += not is_reminder
        self._statistics.failed_reminders += is_reminder
        reason = response.reason if response is not None else ""
        if outcome is Outcome.REFUSED:
            self._statistics.refused_messages += 1
            actions = self._ledger.settle(inbox.owner, message.message_id, outcome, status, reason)
            return actions + self._refused(message, now)
        next_time_s = self._backoff.next_time_s(message.attempts, response, now)
        actions = self._ledger.settle(inbox.owner, message.message_id, outcome, status, reason, next_time_s)
        # It stays the oldest, and what is behind it must not overtake it. A phone that registered since may take it.
        inbox.has_stored = True
        inbox.dump_wanted = inbox.is_early = inbox.is_asked_again
        return actions + self._miss_reminders(inbox) + self._release_rest(inbox)

    def _devices_done(self, fork: Fork[Aor], message: Message) -> dict[str, Outcome]:
        """Return the devices that took a message, or refused it for good."""
        outcomes = {
            fork.devices[contact]: outcome_of(status, message.reached, message.attempts)
            for contact, status in fork.finals.items()
        }
        return {device: outcome for device, outcome in outcomes.items() if outcome is not Outcome.FAILED}

    def _taken(
        self,
        inbox: Inbox,
        fork: Fork[Aor],
        message: Message,
        done: Mapping[str, Outcome],
        response: Response | None,
        now: Moment,
    ) -> list[Action]:
        """Some device has a message: keep it for those that lack it, and go on with the others."""
        is_reminder = message.snd_time_s > 0
        if not message.status:
            self._statistics.dumped_messages += not is_reminder
            self._statistics.dumped_reminders += is_reminder
        failed = {*fork.devices.values()} - done.keys()
        # Of the others what they answer later is still to be told.
        fork.row = (inbox.owner, message.message_id)
        fork.devices = {contact: device for contact, device in fork.devices.items() if contact not in fork.finals}
        has_it = {*message.taken_by.split(), *done}
        inbox.walkers -= failed
        if failed:
            is_failure = Outcome.DELIVERED not in done.values()
            self._statistics.failed_messages += is_failure and not is_reminder
            self._statistics.failed_reminders += is_failure and is_reminder
            next_time_s = self._backoff.next_time_s(message.attempts, response if is_failure else None, now)
            if inbox.is_asked_again:
                # One of them may be there again.
                inbox.dump_wanted = inbox.is_early = True
            else:
                inbox.left_out.update(dict.fromkeys(failed, next_time_s))
        else:
            next_time_s = self._look_again_s(inbox, message, has_it, now)
        until_s = now.unix_s + self._config.delivery.device_window_s
        return self._ledger.take(inbox.owner, message.message_id, sorted(done), until_s, next_time_s)

    def _taken_late(self, inbox: Inbox, message_id: int, device: str, now: Moment) -> list[Action]:
        """A device took a message when nobody waited for it any more: it gets what is behind that."""
        inbox.left_out.pop(device, None)
        inbox.dump_wanted = inbox.is_early = True
        inbox.page = [_with_device(one, device) if one.message_id == message_id else one for one in inbox.page]
        if inbox.leasing:
            inbox.taken_meanwhile.append((message_id, device))
        until_s = now.unix_s + self._config.delivery.device_window_s
        return self._ledger.take(inbox.owner, message_id, [device], until_s, is_late=True)

    def _look_again_s(self, inbox: Inbox, message: Message, has_it: set[str], now: Moment) -> int:
        """Say when somebody must see to those that lack a message and were not tried, if nothing else brings it on.

        Those that were tried at an earlier one, and did not take it, are seen to for that.
        """
        lacking = {*devices_of(capable(inbox.bindings, now))} - has_it - inbox.left_out.keys() - inbox.walkers
        if message.next_time_s > now.unix_s:
            return message.next_time_s
        return now.unix_s + RETRY_PAUSE_S if lacking else 0

    def _pass_over_taken(self, inbox: Inbox, targets: list[Target], now: Moment) -> list[Action]:
        """Let the page begin with a message that a device lacks which has all before it."""
        inbox.walkers &= self._where.devices(inbox, targets).keys()
        actions: list[Action] = []
        while inbox.page and inbox.walkers:
            message = inbox.page[0]
            has_it = {*message.taken_by.split()}
            if message.status and message.next_time_s > now.unix_s and not inbox.is_walk_early:
                # Who lacks it is to be tried later, and must not get what is behind it before.
                inbox.left_out.update(dict.fromkeys(inbox.walkers - has_it, message.next_time_s))
                inbox.walkers &= has_it
            if inbox.walkers - has_it and message.exp_time_s > now.unix_s:
                return actions
            inbox.page.pop(0)
            next_time_s = self._look_again_s(inbox, message, has_it, now)
            actions += self._ledger.settle(inbox.owner, message.message_id, Outcome.RELEASED, next_time_s=next_time_s)
        return actions + self._release_rest(inbox)

    def _miss_reminders(self, inbox: Inbox) -> list[Action]:
        """Let what is due in the page wait as all else does: at each look it would have the oldest tried once more."""
        sent, rest = _parted(inbox)
        missed = [message for message in rest if message.snd_time_s and not message.status]
        self._statistics.failed_reminders += len(missed)
        inbox.page = [*sent, *(message for message in rest if message not in missed)]
        actions: list[Action] = []
        for message in missed:
            actions += self._ledger.settle(inbox.owner, message.message_id, Outcome.MISSED)
        return actions

    def _is_open_question(self, inbox: Inbox, fork: Fork[Aor], now: Moment) -> bool:
        """Say whether a contact may think otherwise than those that answered: it has not, or was not asked."""
        if fork.is_each:
            devices = {*devices_of(capable(inbox.bindings, now))}
            return fork.is_unanswered or not devices <= {*fork.devices.values()}
        alive = {binding.contact for binding in capable(inbox.bindings, now)}
        asked_all = alive <= fork.contacts or str(inbox.owner) in fork.contacts
        return fork.is_unanswered or not asked_all

    def _pass_over_expired(self, inbox: Inbox, now: Moment) -> list[Action]:
        actions: list[Action] = []
        while inbox.page and inbox.page[0].exp_time_s <= now.unix_s:
            message = inbox.page.pop(0)
            actions += self._ledger.settle(inbox.owner, message.message_id, Outcome.RELEASED)
        return actions

    def _release_rest(self, inbox: Inbox, next_time_s: int = 0) -> list[Action]:
        """Give up the leases of the page, but for the message that is being sent; the first is due at `next_time_s`."""
        sent, rest = _parted(inbox)
        actions: list[Action] = []
        for message in rest:
            inbox.has_stored = True
            # What a device took has its own time for one that lacks it.
            at_s = next_time_s or (message.next_time_s if message.status else 0)
            actions += self._ledger.settle(inbox.owner, message.message_id, Outcome.RELEASED, next_time_s=at_s)
            next_time_s = 0
        inbox.page = sent
        return actions


def _with_device(message: Message, device: str) -> Message:
    return msgspec.structs.replace(message, status=200, taken_by=f"{device} {message.taken_by}".rstrip())


def _parted(inbox: Inbox) -> tuple[list[Message], list[Message]]:
    """Return what is being sent of a page, and the rest of it."""
    return inbox.page[: len(inbox.sending)], inbox.page[len(inbox.sending) :]


def _expires_s(call: Call) -> int | None:
    """Return when a live message runs out, on the scale of ``unix_s``; the second that it came in is not over."""
    try:
        lifetime_s = call.request.expires_s
    except PeerError:
        # For the phone to understand.
        return None
    return None if lifetime_s is None else call.arrived.unix_s + max(lifetime_s, 1)
