"""The response context of one MESSAGE sent to several targets (RFC 3261 sections 16.6 and 16.7).

Targets of equal q are tried at the same time, groups of them from the highest q to the lowest. The next group begins
when all before it have failed, or when its user says that the head start is over (:meth:`Fork.widen`): a phone that is
switched off gives no answer. By then a phone may have left or moved, so that the user is asked for each target again.
A 6xx ends that: "it MUST NOT create any new branches in this context".

The first that takes it decides. Where each device is to have it, all are waited for, until its user is in a hurry
(:meth:`Fork.hurry`).

RFC 5393 section 5 bounds how many branches there may be at the same time, here and at whoever forks the request after
us: each branch gets its share of the request's Max-Breadth, and what the share does not suffice for waits its turn.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from msilo_core.actions import Action
from msilo_core.clock import Moment
from msilo_core.entropy import Entropy
from msilo_core.flow import Flow
from msilo_core.message import Response
from msilo_core.targets import Target
from msilo_core.transactions import TIMED_OUT, TRANSPORT_FAILED, ClientTransaction, ClientTransactions
from msilo_core.transport import via_value
from msilo_core.uri import Aor

__all__ = ["DATAGRAM_BYTES_MAX", "MAX_BREADTH", "Follow", "Fork", "ForkUser", "Renew", "Serialiser", "best_first"]

S = TypeVar("S")

DATAGRAM_BYTES_MAX: Final = 65_507
"""Most octets in a UDP datagram over IPv4: 65,535 less 20 of IP header and 8 of UDP header."""

MAX_BREADTH: Final = 60
"""For a request without Max-Breadth, and the most that we let one have (RFC 5393 section 5.3.3)."""

Serialiser: TypeAlias = Callable[[Target, str, int], bytes]
"""Makes the request for a target, of the value of our Via and of the branch's share of Max-Breadth."""

Renew: TypeAlias = Callable[[Target, Moment], Target | None]
"""Says how a target is reached by now, or None where it is not to be tried any more."""

Follow: TypeAlias = Callable[[Target, Response, Moment], Target | None]
"""Says where a failure of a target leads, if it is not one: to the same with credentials, or to another address."""

# Section 16.7 step 6: of the 4xx, those first "that provide information affecting resubmission of this request".
_TELLING: Final = frozenset({401, 407, 415, 420, 484})


def best_first(status: int) -> int:
    """Rank the failures of a live message: the lowest is the one to pass on (RFC 3261 section 16.7 step 6).

    A 6xx wins, else the lowest class; a 408 or 503, which a time-out and a transport error count as, says least about
    the request.
    """
    if status >= 600:
        return 0
    if status in (408, 503):
        return 99
    return status // 100 * 10 + (0 if status in _TELLING else 1)


class ForkUser(Protocol[S]):
    """Who wants to know what becomes of a fork."""

    def branch_began(self, fork: "Fork[S]", contact: str) -> None:
        """One target is being tried."""
        ...

    def branch_ended(self, fork: "Fork[S]", target: Target, status: int, now: Moment) -> list[Action]:
        """One target gave its final `status`; told for each, after :meth:`fork_decided` if that came of it."""
        ...

    def fork_decided(self, fork: "Fork[S]", status: int, response: Response | None, now: Moment) -> list[Action]:
        """The first 2xx, or the best failure once no target is left; told once.

        `response` is None for a status made here: 408 time-out, 503 transport error, 513 too long for a datagram.
        """
        ...


class Fork(Generic[S]):
    """See the module. Where all targets fail, the status that `rank` puts lowest counts, the first of several.

    Attributes:
        subject: what is sent; for the user.
        contacts: URIs of the targets.
        answered_by: the flow that the deciding response came by; None before, and for a status made here.
        statuses: failures so far, one for each target that failed.
        row: the row that the message was stored in after the fork was decided, by owner and number, or None; for the
            user.
        taken: a target took it; for the user.
        devices: devices by the contacts that they are tried at, where each is to have it; for the user.
        is_each: each device is to have it.
        finals: the final status of each target, by contact.
    """

    __slots__ = (
        "_awaits_all", "_best", "_challenges", "_clients", "_decided", "_entropy", "_first", "_follow", "_groups",
        "_limit", "_mark", "_pending", "_rank", "_renew", "_serialise", "_share", "_user", "_was_received",
        "answered_by", "contacts", "devices", "finals", "is_each", "row", "statuses", "subject", "taken",
    )  # fmt: skip

    def __init__(
        self,
        user: ForkUser[S],
        subject: S,
        targets: Sequence[Target],
        serialise: Serialiser,
        renew: Renew,
        clients: ClientTransactions,
        entropy: Entropy,
        *,
        rank: Callable[[int], int] = best_first,
        follow: Follow | None = None,
        max_breadth: int = MAX_BREADTH,
        mark: str = "",
        devices: dict[str, str] | None = None,
    ) -> None:
        """Make a fork that has sent nothing yet.

        Args:
            user: is told what becomes of it.
            subject: for the user.
            targets: at least one, by descending q.
            serialise: makes the octets for a target.
            renew: is asked for each target of a later group when that begins.
            clients: where the transactions live.
            entropy: for branches.
            rank: which failure counts; after one that it puts at 0 or below no more branches begin.
            follow: is asked of each failure whether it leads on; none does if None.
            max_breadth: most branches at the same time, at least 1.
            mark: second part of each branch, which tells a loop (RFC 5393 section 4.2.1), or empty.
            devices: devices by contact, where each is to have it.
        """
        self.subject = subject
        self.contacts = frozenset([target.contact for target in targets])
        self.answered_by: Flow | None = None
        self.statuses: list[int] = []
        self.row: tuple[Aor, int] | None = None
        self.taken = False
        self.devices: dict[str, str] = devices or {}
        self.is_each = bool(devices)
        self.finals: dict[str, int] = {}
        self._awaits_all = bool(devices)
        self._first: tuple[int, Response | None, Flow] | None = None
        self._user = user
        self._serialise = serialise
        self._renew = renew
        self._clients = clients
        self._entropy = entropy
        self._rank = rank
        self._follow = follow
        self._mark = f".{mark}" if mark else ""
        self._share = max(max_breadth // len(targets), 1)
        self._limit = max_breadth // self._share
        # The last group first: they are taken from the end.
        self._groups = _cut(targets, self._limit)[::-1]
        self._pending: dict[str, Target] = {}
        self._best: tuple[int, Response | None, Flow] | None = None
        self._challenges: list[Response] = []
        self._decided = False
        self._was_received = False

    @property
    def has_more(self) -> bool:
        """Whether there are targets that :meth:`widen` would try."""
        return bool(self._groups) and not self._decided

    @property
    def is_unanswered(self) -> bool:
        """Whether a target has not given its final answer, or was not tried."""
        return bool(self._pending or self._groups)

    @property
    def is_patient(self) -> bool:
        """Whether all are waited for."""
        return self._awaits_all and not self._decided

    @property
    def may_be_known(self) -> bool:
        """Whether a target may have the request: it answered, or may yet, or its answer was lost."""
        return bool(self._pending) or self._was_received

    def begin(self, now: Moment) -> list[Action]:
        """Send to the targets of the highest q."""
        return self._try(self._groups.pop(), now)

    def widen(self, now: Moment) -> list[Action]:
        """Let the next targets not wait for those before them any more, where Max-Breadth allows that."""
        if not self.has_more or len(self._pending) + len(self._groups[-1]) > self._limit:
            return []
        return self._try_next(now)

    def answered(
        self, transaction: ClientTransaction, status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        """A branch was answered (:class:`msilo_core.transactions.ClientUser`)."""
        if status < 200:
            return []
        target = self._pending.pop(transaction.branch)
        if status < 300:
            self.finals[target.contact] = status
        else:
            if self._follow is not None and response is not None and not self._decided:
                further = self._follow(target, response, now)
                if further is not None:
                    return self._try([further], now)
            self._weigh(target.contact, transaction.flow, status, response)
        return self._end(target, transaction.flow, status, response, now)

    def challenges_beside(self, response: Response) -> list[str]:
        """Return the line of each challenge that came with another 401 or 407 (RFC 3261 section 16.7 step 7)."""
        return [
            line
            for other in self._challenges
            if other is not response
            for key, line in other.head.items()
            if key in ("www-authenticate", "proxy-authenticate")
        ]

    def give_up(self, now: Moment) -> list[Action]:
        """Wait no longer: decide by what there is. The branches go on and are told to the user as they end."""
        status, response, flow = self._first or self._best or (TIMED_OUT, None, None)
        return self._decide(status, response, flow, now)

    def hurry(self, now: Moment, *, is_taken: bool = False) -> list[Action]:
        """Wait for all no longer: decide if a target took it, or it `is_taken` by others; else when one takes it."""
        self._awaits_all = False
        return self.give_up(now) if self._first is not None or is_taken else []

    def abandon(self) -> None:
        """Send nothing any more; let the user not be told of a decision, only of branches that end."""
        self._decided = True
        for branch in self._pending:
            self._clients.be_quiet(branch)

    def _try_next(self, now: Moment) -> list[Action]:
        targets = [self._renew(target, now) for target in self._groups.pop()]
        return self._try([target for target in targets if target is not None], now)

    def _go_on(self, now: Moment) -> list[Action]:
        """No answer is awaited: try the next group that somebody is left of, or decide."""
        actions: list[Action] = []
        while self.has_more and not self._pending:
            actions += self._try_next(now)
        if not self._pending:
            answer = self._first or self._best
            assert answer is not None, "those of the first group have ended"
            actions += self._decide(*answer, now)
        return actions

    def _try(self, targets: list[Target], now: Moment) -> list[Action]:
        sends: list[tuple[str, Target, bytes]] = []
        ended: list[tuple[Target, int]] = []
        for target in targets:
            branch = self._entropy.branch() + self._mark
            data = self._serialise(target, via_value(target.flow, branch), self._share)
            self._user.branch_began(self, target.contact)
            if len(data) > DATAGRAM_BYTES_MAX and not target.flow.is_stream:
                ended.append((target, 513))
            elif len(sends) >= self._clients.room:
                ended.append((target, TRANSPORT_FAILED))
            else:
                sends.append((branch, target, data))
                self._pending[branch] = target
        actions: list[Action] = []
        for branch, target, data in sends:
            actions += self._clients.begin(branch, "MESSAGE", target.flow, data, self, now)
        # All are weighed before the first of them may decide.
        for target, status in ended:
            self._weigh(target.contact, target.flow, status, None)
        for target, status in ended:
            actions += self._end(target, target.flow, status, None, now)
        return actions

    def _end(self, target: Target, flow: Flow, status: int, response: Response | None, now: Moment) -> list[Action]:
        actions: list[Action] = []
        if status < 300 and self._awaits_all:
            self._first = self._first or (status, response, flow)
        if status < 300 and not self._awaits_all:
            actions += self._decide(status, response, flow, now)
        elif not self._pending:
            actions += self._go_on(now)
        actions += self._user.branch_ended(self, target, status, now)
        return actions

    def _weigh(self, contact: str, flow: Flow, status: int, response: Response | None) -> None:
        self.finals[contact] = status
        self.statuses.append(status)
        self._was_received |= response is not None or status == TIMED_OUT
        if self._rank(status) <= 0:
            self._groups.clear()
        if status in (401, 407) and response is not None:
            self._challenges.append(response)
        if self._best is None or self._rank(status) < self._rank(self._best[0]):
            self._best = (status, response, flow)

    def _decide(self, status: int, response: Response | None, flow: Flow | None, now: Moment) -> list[Action]:
        if self._decided:
            return []
        self._decided = True
        self.answered_by = flow if response is not None else None
        return self._user.fork_decided(self, status, response, now)


def _cut(targets: Sequence[Target], size_max: int) -> list[list[Target]]:
    """Part targets into groups of equal q, none larger than `size_max`."""
    if len(targets) == 1:
        return [[*targets]]
    groups: list[list[Target]] = []
    for _, equals in groupby(targets, key=lambda target: target.q):
        group = list(equals)
        groups += [group[at : at + size_max] for at in range(0, len(group), size_max)]
    return groups
