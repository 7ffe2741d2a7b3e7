"""A MESSAGE on its way to the contacts of its owner: where each contact is reached, and which answer counts.

RFC 3261 section 16.6 (forwarding), 16.7 (choosing the response). A live request and a stored message go the same way;
they differ in the octets, which the caller makes for each target.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from msilo_core.actions import Action, Binding
from msilo_core.clock import Moment
from msilo_core.compose import forward
from msilo_core.entropy import Entropy
from msilo_core.errors import PeerError
from msilo_core.fields import parse_name_addr, split_list
from msilo_core.flow import Flow
from msilo_core.message import Request, Response
from msilo_core.transactions import TIMED_OUT, TRANSPORT_FAILED, ClientTransaction, ClientTransactions
from msilo_core.transport import via_value
from msilo_core.uri import Aor, SipUri, parse_uri

__all__ = [
    "DATAGRAM_BYTES_MAX",
    "Fork",
    "ForkUser",
    "Target",
    "best_first",
    "capable",
    "serialise_live",
    "target_of",
]

DATAGRAM_BYTES_MAX = 65_507
"""Most octets in a UDP datagram over IPv4: 65,535 less 20 of IP header and 8 of UDP header."""

MAX_FORWARDS = 70
"""Where a request has no Max-Forwards: "the element ... SHOULD [use] 70" (RFC 3261 section 16.6 step 3)."""

_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")


class Target(msgspec.Struct, frozen=True, gc=False):
    """One contact and how it is reached.

    Attributes:
        contact: its URI as registered, the key of the window (RFC 3428 section 8).
        request_uri: the same without the headers that a URI may carry, which a Request-URI may not (RFC 3261 section
            19.1.1).
        flow: the next hop.
        route: value of the Route header to add (the Path of the binding, RFC 3327), or empty.
    """

    contact: str
    request_uri: str
    flow: Flow
    route: str = ""


def capable(bindings: Iterable[Binding], now: Moment) -> list[Binding]:
    """Return those that are alive and take MESSAGE: an empty `methods` takes everything."""
    return [
        binding
        for binding in bindings
        if binding.expires_s > now.unix_s
        and (not binding.methods or "MESSAGE" in re.split(r"[\s,]+", binding.methods.upper()))
    ]


def target_of(binding: Binding, is_ours: Callable[[Binding], bool]) -> Target | None:
    """Say how a binding is reached, or None if it is not, or cannot be understood.

    The stream that the REGISTER came by, where it is ours and open: nothing else leads through a NAT. Else the address
    in the Contact, or with a Path in its first element, where it is the one that the REGISTER came from. Else, on UDP,
    the address that it came from: a Contact may name a private address, a host name, or somebody else, and mail goes
    to its owner's device only. Not so for a stream that is closed: its port may be anybody's by now.
    """
    try:
        contact = parse_uri(binding.contact)
        next_hop = parse_name_addr(split_list(binding.path)[0]).uri if binding.path else contact
    except PeerError:
        # Checked at the REGISTER, perhaps by another release.
        return None
    flow = _flow_to(next_hop, binding, is_ours)
    if flow is None:
        return None
    return Target(binding.contact, binding.contact.removesuffix(contact.headers), flow, binding.path)


def serialise_live(request: Request, via_suffix: str, target: Target, via: str) -> bytes:
    """Return a request as it is passed on to a contact (RFC 3261 section 16.6); it must allow another hop.

    `via_suffix` completes the Via that was topmost (section 18.2.1), so that the answer finds back through it.
    """
    hops = request.max_forwards
    return forward(
        request,
        request_uri=target.request_uri,
        via=via,
        max_forwards=(MAX_FORWARDS if hops is None else hops) - 1,
        via_suffix=via_suffix,
        route=target.route,
        drop=("route", "record-route"),
    )


def best_first(status: int) -> int:
    """Rank the failures of a live message: the lowest is the one to pass on (RFC 3261 section 16.7 step 6).

    A 6xx wins, else the lowest class; a time-out or a 503 says least about the request.
    """
    if status >= 600:
        return 0
    return 9 if status in (TIMED_OUT, TRANSPORT_FAILED) else status // 100


class ForkUser(Protocol):
    """Who wants to know what became of a fork."""

    def fork_decided(self, fork: "Fork", status: int, response: Response | None, now: Moment) -> list[Action]:
        """The first 2xx, or the best failure once no target is left; told once.

        `response` is None for a status made here: 408 time-out, 503 transport error, 513 too long for a datagram.
        """
        ...

    def branch_ended(self, fork: "Fork", contact: str, status: int, now: Moment) -> list[Action]:
        """One target gave its final `status`; told for each, after :meth:`fork_decided` if that came of it."""
        ...


class Fork:
    """The response context of one MESSAGE sent to several targets in parallel (RFC 3261 section 16).

    Where all fail, the status that `rank` puts lowest is the one that counts, the first of several.

    Attributes:
        owner: whose contacts they are.
        contacts: their URIs.
        row: the row that the message was stored in after the fork was decided, by owner and number, or None; for the
            user.
        taken: a target took it; for the user.
    """

    __slots__ = ("_best", "_decided", "_pending", "_rank", "_user", "contacts", "owner", "row", "taken")

    def __init__(self, user: ForkUser, owner: Aor, contacts: frozenset[str], rank: Callable[[int], int]) -> None:
        self.owner = owner
        self.contacts = contacts
        self.row: tuple[Aor, int] | None = None
        self.taken = False
        self._user = user
        self._rank = rank
        self._pending: dict[str, str] = {}
        self._best: tuple[int, Response | None] | None = None
        self._decided = False

    def begin(
        self,
        targets: Sequence[Target],
        serialise: Callable[[Target, str], bytes],
        clients: ClientTransactions,
        entropy: Entropy,
        now: Moment,
    ) -> list[Action]:
        """Send to all of `targets`.

        Args:
            targets: at least one.
            serialise: makes the octets for a target and the value of our Via.
            clients: where the transactions live.
            entropy: for branches.
            now: the present.
        """
        sends: list[tuple[str, Target, bytes]] = []
        ended: list[tuple[str, int]] = []
        for target in targets:
            branch = entropy.branch()
            data = serialise(target, via_value(target.flow, branch))
            if len(data) > DATAGRAM_BYTES_MAX and not target.flow.is_stream:
                ended.append((target.contact, 513))
            elif clients.is_full:
                ended.append((target.contact, TRANSPORT_FAILED))
            else:
                sends.append((branch, target, data))
                self._pending[branch] = target.contact
        actions: list[Action] = []
        for branch, target, data in sends:
            actions += clients.begin(branch, "MESSAGE", target.flow, data, self, now)
        # All are weighed before the first of them may decide.
        for _, status in ended:
            self._weigh(status, None)
        for contact, status in ended:
            actions += self._end(contact, status, None, now)
        return actions

    def answered(
        self, transaction: ClientTransaction, status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        """A branch was answered (:class:`msilo_core.transactions.ClientUser`)."""
        if status < 200:
            return []
        return self._end(self._pending.pop(transaction.branch), status, response, now)

    def give_up(self, now: Moment) -> list[Action]:
        """Wait no longer: decide by what there is. The branches go on and are told to the user as they end."""
        return self._decide(*(self._best or (TIMED_OUT, None)), now)

    def abandon(self) -> None:
        """Let the user not be told of a decision any more, only of branches that end."""
        self._decided = True

    def _end(self, contact: str, status: int, response: Response | None, now: Moment) -> list[Action]:
        actions: list[Action] = []
        if status < 300:
            actions += self._decide(status, response, now)
        else:
            best = self._weigh(status, response)
            if not self._pending:
                actions += self._decide(*best, now)
        actions += self._user.branch_ended(self, contact, status, now)
        return actions

    def _weigh(self, status: int, response: Response | None) -> tuple[int, Response | None]:
        if self._best is None or self._rank(status) < self._rank(self._best[0]):
            self._best = (status, response)
        return self._best

    def _decide(self, status: int, response: Response | None, now: Moment) -> list[Action]:
        if self._decided:
            return []
        self._decided = True
        return self._user.fork_decided(self, status, response, now)


def _flow_to(next_hop: SipUri, binding: Binding, is_ours: Callable[[Binding], bool]) -> Flow | None:
    came_by = binding.flow
    if came_by.is_stream and is_ours(binding):
        return came_by
    host = _literal(next_hop)
    if host is not None and host == came_by.remote[0]:
        wants_stream = (next_hop.transport or came_by.transport) != "udp"
        return Flow("tcp" if wants_stream else "udp", came_by.local, (host, next_hop.port or 5060))
    return None if came_by.is_stream else came_by


def _literal(uri: SipUri) -> str | None:
    host = uri.host
    if host.startswith("["):
        return host[1:-1].lower()
    return host if _IPV4.fullmatch(host) else None
