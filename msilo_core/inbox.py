"""What is under way for one owner; :mod:`msilo_core.silo` says how it changes."""

from msilo_core.actions import Binding, Message, Settle
from msilo_core.fork import Fork
from msilo_core.route import Call
from msilo_core.targets import Target
from msilo_core.uri import Aor

__all__ = ["Inbox"]


class Inbox:
    """What is under way for one owner.

    Attributes:
        owner: whose it is.
        bindings: contacts, as last heard of.
        busy: MESSAGEs outstanding, by fork and contact.
        arriving: MESSAGEs whose look-up is under way.
        storing: Stores under way.
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

    __slots__ = (
        "arriving", "bindings", "busy", "dump_wanted", "extra_hdrs", "fork", "has_stored", "has_turn",
        "is_asked_again", "is_early", "is_long", "is_walk_early", "lease", "lease_end_ms", "lease_spent", "leasing",
        "left_out", "line", "owner", "page", "registrations", "renewing", "sending", "settling", "storing", "stream",
        "taken_meanwhile", "taken_next", "untold", "walkers", "withdrawn", "withdrawn_next",
    )  # fmt: skip

    def __init__(self, owner: Aor) -> None:
        self.owner = owner
        self.bindings: tuple[Binding, ...] = ()
        self.busy: set[tuple[Fork[Aor], str]] = set()
        self.arriving = 0
        self.storing = 0
        self.has_stored = False
        self.registrations = 0
        self.is_asked_again = False
        self.extra_hdrs = ""
        self.dump_wanted = False
        self.is_early = False
        self.has_turn = False
        self.leasing = False
        self.page: list[Message] = []
        self.is_long = False
        self.lease = ""
        self.lease_spent = False
        self.lease_end_ms = 0
        self.renewing = False
        self.settling: set[int] = set()
        self.untold: list[Settle] = []
        self.withdrawn: set[int] = set()
        self.withdrawn_next: set[int] = set()
        self.taken_next: dict[int, Settle] = {}
        self.taken_meanwhile: list[tuple[int, str]] = []
        self.walkers: set[str] = set()
        self.left_out: dict[str, int] = {}
        self.is_walk_early = False
        self.stream: Target | None = None
        self.sending: list[Fork[Aor]] = []
        self.fork: Fork[Aor] | None = None
        self.line: list[Call] = []
