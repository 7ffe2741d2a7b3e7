"""What is under way for one owner; :mod:`msilo_core.silo` says how it changes."""

import msgspec

from msilo_core.actions import Binding, Message, Settle
from msilo_core.fork import Fork
from msilo_core.route import Call
from msilo_core.targets import Target
from msilo_core.uri import Aor

__all__ = ["Inbox"]


class Inbox(msgspec.Struct, eq=False):
    """What is under way for one owner.

    Attributes:
        owner: whose it is.
        bindings: contacts, as last heard of.
        busy: MESSAGEs outstanding, by fork and contact.
        arriving: MESSAGEs whose look-up is under way.
        storing: Stores under way.
        storing_relayed: those of them of messages that were relayed before, which a phone may still take; no page is
            leased until they are done, or such a message could be in it and nobody knew.
        has_stored: whether the store may hold messages that wait.
        registrations: REGISTERs carried out since the inbox was made: a look-up that was asked at a lower count does
            not know of the last.
        is_asked_again: since the first of `sending` began a REGISTER came, or the application asked for a delivery.
        extra_hdrs: header lines that are added to what is delivered, made of the REGISTER that brought it on.
        dump_wanted: stored messages are to be delivered.
        is_early: those too that were to be tried later.
        has_turn: it is one of the `deliveries_max` owners that are delivered to at the same time.
        leasing: a Dump is under way.
        page: leased messages, oldest first; as many of the first are being sent as there are in `sending`.
        is_long: the last page was full.
        lease: name that they are leased under; empty before the first page.
        lease_spent: the store failed to record an outcome under that name, and may do so any time: the next page needs
            another, for which that means nothing.
        lease_end_ms: until when they are ours at least, on the scale of ``mono_ms``; 0: nothing is leased.
        renewing: a Renew is under way.
        withdrawn: numbers of messages that a phone took live while a Dump was under way, which may bring them, or while
            they were being sent to another.
        withdrawn_next: numbers of messages that are to be withdrawn when the outcome that is being recorded is.
        settling: numbers of messages whose outcome is not recorded yet; no page is leased until it is, or a message
            that was just delivered could be in it again.
        untold: outcomes that the store is to be told together; their messages are in `settling`.
        taken_next: what is to be recorded of messages when the outcome that is being recorded is: devices took them
            late.
        taken_meanwhile: numbers of messages, and the device that took each late while a Dump was under way, which may
            not know of it.
        walkers: devices that the page is for and that have taken all before it, where each device is to have each
            message.
        left_out: devices that did not take what was sent to them, and until when (Unix s) they get nothing, unless a
            REGISTER comes before, or the application asks.
        is_walk_early: the page has what was to be tried later, too.
        stream: the one target of the first of `sending`, if it is reached by a stream, which more can follow it on.
        sending: what is being sent of `page` and not decided, in its order.
        fork: what is being relayed and not decided.
        line: live calls, oldest first; the first is being relayed if `fork`.
    """

    owner: Aor
    bindings: tuple[Binding, ...] = ()
    busy: set[tuple[Fork[Aor], str]] = set()
    arriving: int = 0
    storing: int = 0
    storing_relayed: int = 0
    has_stored: bool = False
    registrations: int = 0
    is_asked_again: bool = False
    extra_hdrs: str = ""
    dump_wanted: bool = False
    is_early: bool = False
    has_turn: bool = False
    leasing: bool = False
    page: list[Message] = []
    is_long: bool = False
    lease: str = ""
    lease_spent: bool = False
    lease_end_ms: int = 0
    renewing: bool = False
    settling: set[int] = set()
    untold: list[Settle] = []
    withdrawn: set[int] = set()
    withdrawn_next: set[int] = set()
    taken_next: dict[int, Settle] = {}
    taken_meanwhile: list[tuple[int, str]] = []
    walkers: set[str] = set()
    left_out: dict[str, int] = {}
    is_walk_early: bool = False
    stream: Target | None = None
    sending: list[Fork[Aor]] = []
    fork: Fork[Aor] | None = None
    line: list[Call] = []
