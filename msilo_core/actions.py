"""What the engine asks for, and the completions that answer.

Actions are orders, completions and observations are past facts. Each action with a ``token`` (but :class:`Send`) is
answered by exactly one completion with the same token, given to :meth:`msilo_core.Engine.complete`: the one named at
the action, or :class:`StorageFailed`. Times are Unix times: ``_s`` seconds, ``_ms`` milliseconds.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from msilo_core.flow import Flow
from msilo_core.message import Request
from msilo_core.uri import Aor
from msilo_core.users import User

__all__ = [
    "Action",
    "Answered",
    "Arrived",
    "Bind",
    "Binding",
    "Bound",
    "CloseFlow",
    "Completion",
    "Dropped",
    "Due",
    "Dump",
    "Dumped",
    "Expire",
    "Expired",
    "FindUser",
    "HandOver",
    "LookUp",
    "LookedUp",
    "Message",
    "Outcome",
    "Refused",
    "Remind",
    "Renew",
    "Renewed",
    "Retry",
    "Send",
    "Settle",
    "Settled",
    "StorageAction",
    "StorageFailed",
    "Store",
    "Stored",
    "Unbind",
    "Unbound",
    "UserFound",
]


class Message(msgspec.Struct, frozen=True, gc=False):
    """A MESSAGE as the silo keeps it: a row of the table ``silo``.

    Text of header fields is as it came, decoded as UTF-8 with ``surrogateescape``, so that encoding it the same way
    gives the octets back. `src_addr`, `dst_addr`, `ctype`, `callid`, `from_tag` and `owner` hold valid UTF-8 only.

    Attributes:
        owner: whose inbox it is in (columns ``username``, ``domain``).
        src_addr: From URI without display name and tag.
        dst_addr: To URI.
        inc_time_s: arrival.
        exp_time_s: from this second on it is never delivered.
        snd_time_s: when to send a reminder; 0 for an ordinary offline message.
        ctype: value of Content-Type with its parameters; empty if there was none.
        body: octets, as received.
        extra_hdrs: header lines kept for delivery, each ending in CRLF.
        callid: Call-ID; with `cseq` and `from_tag` it tells a repeat from a new message (RFC 3261 section 8.2.2.2).
        cseq: CSeq number, 0 to 2**31 - 1; -1 in a row that Kamailio wrote.
        from_tag: tag of From; empty for an RFC 2543 sender.
        from_hdr: value of From as received, tag included; empty in a row that Kamailio wrote.
        to_hdr: value of To as received; empty in a row that Kamailio wrote.
        date_hdr: value of Date as received; empty if there was none.
        message_id: number of the row; 0 before it is stored. Ascending in the order of arrival.
        attempts: deliveries begun and failed so far.
        reached: deliveries after which a phone may have it: its answer was lost, or a failure, or the node that had
            leased it was gone.
        next_time_s: when it is to be tried again, which a REGISTER does not wait for; 0: whenever there is a reason.
        imdn: 1 if its sender is to be told should it never be delivered (RFC 5438), as he asked, and was not told yet;
            else 0.
        status: 0 while it waits for delivery; 200 where a device took it and it is kept for others (:attr:`taken_by`);
            otherwise the status of the response that set it aside.
        reason: why it was set aside, or why the last attempt failed.
        taken_by: the devices that need it no more (:func:`msilo_core.targets.device_of`), separated by blanks, the
            latest first, 64 at most; empty where each message goes to one device alone.
    """

    owner: Aor
    src_addr: str
    dst_addr: str
    inc_time_s: int
    exp_time_s: int
    snd_time_s: int = 0
    ctype: str = ""
    body: bytes = b""
    extra_hdrs: str = ""
    callid: str = ""
    cseq: int = -1
    from_tag: str = ""
    from_hdr: str = ""
    to_hdr: str = ""
    date_hdr: str = ""
    message_id: int = 0
    attempts: int = 0
    reached: int = 0
    next_time_s: int = 0
    imdn: int = 0
    status: int = 0
    reason: str = ""
    taken_by: str = ""


class Binding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A contact that an address of record is registered at (RFC 3261 section 10.3).

    Attributes:
        contact: the Contact URI as the last REGISTER wrote it; the key within the owner.
        params: Contact parameters as received, from the first ``;`` on, or empty.
        q: preference in thousandths, 0 to 1000 (RFC 3261 section 20.10); 1000 where none was given.
        expires_s: end of the binding.
        callid: Call-ID of the REGISTER.
        cseq: CSeq number of the REGISTER.
        path: value of Path as received, comma-separated, or empty (RFC 3327).
        instance: ``+sip.instance`` without quotes, or empty (RFC 5626).
        reg_id: ``reg-id``, 0 if none.
        methods: methods of the Contact's ``methods`` parameter, else of Allow, else empty (all).
        flow: the flow that the REGISTER came by.
        node: name of the server that holds the flow.
        updated_ms: when the REGISTER arrived.
    """

    contact: str
    params: str = ""
    q: int = 1000
    expires_s: int
    callid: str
    cseq: int
    path: str = ""
    instance: str = ""
    reg_id: int = 0
    methods: str = ""
    flow: Flow
    node: str = ""
    updated_ms: int = 0


class Outcome(StrEnum):
    """What became of a leased message."""

    DELIVERED = "delivered"
    """A 2xx came: the row is deleted."""
    REFUSED = "refused"
    """It can never be delivered: the row is set aside with `status` and `reason` for an operator to see."""
    FAILED = "failed"
    """It was tried and may be tried again: attempts, `status` and `reason` are noted and the lease is given up."""
    UNREACHED = "unreached"
    """As FAILED, and no phone has it: none was reached."""
    RELEASED = "released"
    """It was not tried: the lease is given up and nothing else changes."""
    MISSED = "missed"
    """It was due and could not be tried: as RELEASED, but ``snd_time`` becomes 0, and it is an ordinary message."""
    WITHDRAWN = "withdrawn"
    """A phone took it live after all, while it was being stored: the row is deleted."""
    TAKEN = "taken"
    """Devices took it, and it is kept for others: see :attr:`Settle.taken_by`."""


# Actions


class Send(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Put `data` on `flow`.

    A `token` other than 0 asks for :meth:`msilo_core.Engine.send_failed` when that cannot be done; it needs no
    answer otherwise, and may stand in more than one Send.
    """

    flow: Flow
    data: bytes
    token: int = 0


class CloseFlow(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Close a stream after what was sent before it; `flow_closed` need not follow."""

    flow: Flow
    reason: str


class HandOver(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Let another worker take a response by :meth:`msilo_core.Engine.receive_handed_over`, for its branch says so.

    It may be lost, as on UDP. There is none where :attr:`msilo_core.Config.worker` names no others.

    Attributes:
        worker: number of the one.
        flow: where it came from.
        data: the response.
    """

    worker: int
    flow: Flow
    data: bytes


class Dropped(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Observation: something that came by `flow` was ignored. There is nothing to do but count it."""

    flow: Flow
    reason: str


class Answered(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Observation of a :class:`msilo_core.UserAgent`: a request of ours has its final status.

    Attributes:
        number: what :meth:`UserAgent.message` or :meth:`UserAgent.register` returned for it.
        method: of the request.
        status: 200 to 699; 408 also for no answer in time, 503 for a transport that failed.
        reason: reason phrase, or empty where no response came.
        received: whether a response came.
    """

    number: int
    method: str
    status: int
    reason: str
    received: bool


class Arrived(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Observation of a :class:`msilo_core.UserAgent`: a MESSAGE came for the first time, and was answered 200."""

    request: Request


class LookUp(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Where is `owner` registered at `now_s`, and does anything wait in the inbox? Answer: :class:`LookedUp`.

    Attributes:
        each: what one device took waits, too, if another that is registered lacks it.
    """

    token: int
    owner: Aor
    now_s: int
    each: bool = False


class Bind(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Change the bindings of `owner` as one REGISTER says, all or nothing. Answer: :class:`Bound` or :class:`Refused`.

    The rules are in :func:`msilo_core.registrar.rebind`, which the store calls inside its transaction. If messages
    wait, and a contact takes them, others look for the oldest half a minute later (:class:`Retry`), should the node
    that asks die before it leases it.

    Attributes:
        contacts: bindings to add or refresh, and with ``expires_s`` not after `now_s` to remove; empty to ask only.
        remove_all: ``Contact: *`` with ``Expires: 0``; `contacts` is empty then.
        callid: Call-ID of the REGISTER.
        cseq: CSeq number of the REGISTER.
        bindings_max: most bindings that may result.
        bindings_bytes_max: most octets that the Contact headers of those may have.
        each: as in :class:`LookUp`.
    """

    token: int
    owner: Aor
    now_s: int
    callid: str
    cseq: int
    contacts: tuple[Binding, ...] = ()
    remove_all: bool = False
    bindings_max: int = 16
    bindings_bytes_max: int = 24_576
    each: bool = False


class Store(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Keep `message` durably. Answer: :class:`Stored`, after the commit, or :class:`Refused`.

    A row of the same owner, Call-ID, CSeq and From tag is the same message: it is answered with that row's number and
    nothing is added. Rows of one batch, and of successive batches of one server, get ascending numbers.

    Where the owner has a binding by then, one that is not deferred and has no ``next_time`` gets its arrival for that:
    he may have registered at another node after this one looked for him, and that knew of no message. Whichever node
    looks first for what is to be tried finds it.

    Past one of the bounds it is refused with 480. What counts is kept for delivery, deferred messages too, and expired
    ones until they are deleted, but not those that were set aside. 0: no bound.

    Attributes:
        messages_max: most messages of the owner.
        bytes_max: most octets of them: of bodies and header values, as :func:`msilo_storage.rules.size_of` adds up.
        sender_messages_max: most messages of the owner that are from the sender of this one (`src_addr`).
    """

    token: int
    message: Message
    messages_max: int = 0
    bytes_max: int = 0
    sender_messages_max: int = 0

    @property
    def is_bounded(self) -> bool:
        """Whether it may be refused."""
        return bool(self.messages_max or self.bytes_max or self.sender_messages_max)


class FindUser(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Who is `owner`, for whom a request with Digest credentials came? Answer: :class:`UserFound`."""

    token: int
    owner: Aor


class Dump(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Lease the oldest messages that wait for `owner`. Answer: :class:`Dumped`.

    Taken are rows whose ``snd_time`` has come (0: it was never deferred), not set aside, not expired at `now_ms`, in
    the order of their numbers, without a gap: where the oldest is leased by another node, or is to be tried later,
    nothing is taken. The row behind those, or where there is none the last of them, gets a ``next_time`` soon after the
    end of the lease, at which others look whether the node is still there; those before it have none from then on.

    Leases run by the clock of the store: those of the nodes need not agree.

    Attributes:
        messages_max: most rows to take.
        lease: name of the lease, of this node and no other; a row that has it is taken again with a new end.
        now_ms: the present.
        lease_ms: how long the lease runs, from the moment that the store grants it.
        is_early: take what is to be tried later, too.
        devices: take also what others took and one of these devices lacks, and what others took and is to be tried
            again by now; none of that is too early. Too early is then all if the oldest is that nobody took.
    """

    token: int
    owner: Aor
    messages_max: int
    lease: str
    now_ms: int
    lease_ms: int
    is_early: bool = True
    devices: tuple[str, ...] = ()


class Renew(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Let leases run on. Answer: :class:`Renewed`.

    Attributes:
        message_ids: numbers of rows of `owner`, ascending, at least one.
        lease: name that they were leased under.
        lease_ms: how long they run from now on.
    """

    token: int
    owner: Aor
    message_ids: tuple[int, ...]
    lease: str
    lease_ms: int


class Settle(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Record what became of a message. Answer: :class:`Settled`.

    Only who holds the lease may settle; DELIVERED, WITHDRAWN and TAKEN need none: a phone has it. `status` and `reason`
    say more for REFUSED, FAILED and UNREACHED. A deferred message that was tried in vain or MISSED is an ordinary one
    from then on: its ``snd_time`` becomes 0. Of one that is REFUSED its sender has been told, and of one that is TAKEN
    there is nothing to tell: its ``imdn`` becomes 0.

    Where a row with a ``next_time`` is deleted or set aside or first TAKEN, as here, by Expire or by an operator, the
    oldest of its owner that waits and is not deferred gets that, unless it has one: others look for those that are
    left, too.

    Attributes:
        lease: name that it was leased under.
        next_time_s: when to try again what stays; 0: at the next REGISTER.
        taken_by: for TAKEN, devices to add to :attr:`Message.taken_by`, separated by blanks; none where it was tried in
            vain at some that lack it still. The message gets status 200, and is delivered: nobody else is told of it,
            and what becomes of it further is no failure.
        until_s: for TAKEN, it expires then at the latest.
        is_late: for TAKEN, it was settled before, and nothing but the devices is new: a lease, and when to try again,
            stay as they are.
    """

    token: int
    owner: Aor
    message_id: int
    lease: str
    outcome: Outcome
    status: int = 0
    reason: str = ""
    next_time_s: int = 0
    taken_by: str = ""
    until_s: int = 0
    is_late: bool = False


class Expire(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Delete what expired: messages (without a lease that still runs) and bindings. Answer: :class:`Expired`."""

    token: int
    now_ms: int


class Retry(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Whose messages are to be tried again, or were left by a node that is gone? Answer: :class:`Due`.

    They are rows with a ``next_time`` from 1 to `now_s` that are neither deferred nor set aside nor expired nor leased;
    what a device took and others lack is among them, deferred or not.
    Those of an owner without a binding wait for his next REGISTER from then on, with ``next_time`` 0. Those behind one
    that is to be tried later wait for that, and get its ``next_time``; those behind one that is leased wait for the end
    of the lease. Those that are only reached by a connection of another node are left to that; where it has not taken
    them for `pause_s`, they are put off by as long, for they must not hide others. What is returned no other node gets
    within `pause_s`; of two that ask at the same moment both may get an owner with several rows, and leases part them.

    Attributes:
        now_s: the present.
        node: who asks.
        owners_max: most owners to return, those whose messages have been due longest.
        pause_s: how long they are left to who asks.
        unregistered: owners without a binding count too, as where an outbound proxy knows them.
    """

    token: int
    now_s: int
    node: str
    owners_max: int
    pause_s: int
    unregistered: bool = False


class Unbind(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Remove the binding of `owner` at `contact`, if no REGISTER came since `updated_ms`. Answer: :class:`Unbound`.

    It leads nowhere: its connection is gone, or an edge proxy said so (430, RFC 5626 section 5.3).
    """

    token: int
    owner: Aor
    contact: str
    updated_ms: int


class Remind(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Whose deferred messages have come due? Answer: :class:`Due`.

    Due are rows with a ``snd_time`` from 1 to `now_s` that are neither set aside nor expired nor leased. Those of an
    owner without a binding become ordinary messages, with ``snd_time`` 0. So do those, for Retry to find, that nobody
    took for `pause_s` since they were first returned, and those that are due for `pause_s` and only reached by a
    connection of another node: they must not hide others. When it is returned is the ``next_time`` of a row that had
    none.

    Attributes:
        now_s: the present.
        node: who asks.
        owners_max: most owners to return, those whose messages have been due longest.
        pause_s: how long they are left to those who ask.
        unregistered: owners without a binding count too, as where an outbound proxy knows them.
    """

    token: int
    now_s: int
    node: str
    owners_max: int
    pause_s: int
    unregistered: bool = False


StorageAction: TypeAlias = LookUp | Bind | Unbind | Store | FindUser | Dump | Renew | Settle | Expire | Remind | Retry
Action: TypeAlias = Send | CloseFlow | HandOver | Dropped | Answered | Arrived | StorageAction


# Completions


class LookedUp(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Bindings that are alive, by descending q, then latest first; `waiting`: a message waits for delivery.

    `waiting` is only said of an owner with bindings; it is False otherwise.
    """

    token: int
    bindings: tuple[Binding, ...]
    waiting: bool


class Bound(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The REGISTER is durable; all bindings alive after it, ordered as in :class:`LookedUp`, and `waiting` as there."""

    token: int
    bindings: tuple[Binding, ...]
    waiting: bool


class Refused(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The REGISTER or the MESSAGE changed nothing; answer it with `status`."""

    token: int
    status: int
    reason: str


class Stored(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The message is durable in row `message_id`; `repeated`: it was before."""

    token: int
    message_id: int
    repeated: bool = False


class UserFound(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The user, or None if there is no such one."""

    token: int
    user: User | None


class Dumped(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Messages leased, oldest first.

    Attributes:
        messages: none if there are none, or the first cannot be had now.
        busy_ms: if not 0, there are none because another node holds the first, for so long at most.
        is_early: there are none because the first is to be tried later.
    """

    token: int
    messages: tuple[Message, ...]
    busy_ms: int = 0
    is_early: bool = False


class Renewed(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Numbers of those rows whose leases run on; the others are not ours any more."""

    token: int
    message_ids: tuple[int, ...]


class Unbound(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The binding is gone, or has changed since."""

    token: int


class Settled(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Recorded; `lost`: the row was no longer ours, nothing was recorded."""

    token: int
    lost: bool = False


class Expired(msgspec.Struct, frozen=True, tag=True, gc=False):
    """How many messages were deleted.

    Attributes:
        messages: how many; 0: there are no more that can be deleted now.
        untold: those of them with an :attr:`Message.imdn`, oldest end first, a bounded number: their senders have not
            been told yet, and nobody else will do it.
        taken: those of them that a device had taken.
    """

    token: int
    messages: int
    untold: tuple[Message, ...] = ()
    taken: int = 0


class Due(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Owners with messages that are due, each once."""

    token: int
    owners: tuple[Aor, ...]


class StorageFailed(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The store could not do it, or nobody knows; `reason` is for the log."""

    token: int
    reason: str


Completion: TypeAlias = (
    LookedUp
    | Bound
    | Unbound
    | Refused
    | Stored
    | UserFound
    | Dumped
    | Renewed
    | Settled
    | Expired
    | Due
    | StorageFailed
)
