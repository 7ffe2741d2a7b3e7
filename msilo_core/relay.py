"""A live MESSAGE on its way to somebody else: what it looks like when it goes on, and whether it has come back.

RFC 3261 section 16.6 and RFC 5393. Where it goes is for :mod:`msilo_core.targets`, which answer counts for
:mod:`msilo_core.fork`.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from msilo_core.compose import forward
from msilo_core.entropy import Entropy
from msilo_core.errors import PeerError
from msilo_core.fields import Via, parse_via, split_list
from msilo_core.flow import Flow
from msilo_core.fork import MAX_BREADTH, Fork, ForkUser, Renew
from msilo_core.identity import hidden_headers
from msilo_core.message import Request
from msilo_core.route import Call
from msilo_core.targets import Target
from msilo_core.transactions import ClientTransactions
from msilo_core.transport import sent_by
from msilo_core.uri import Aor

__all__ = ["DELIVERY_MARK", "MAX_FORWARDS", "Relay", "is_delivery", "loop_mark"]

S = TypeVar("S")

MAX_FORWARDS: Final = 70
"""For a request without Max-Forwards: "the proxy MUST add one with a field value, which SHOULD be 70" (RFC 3261 section
16.6 step 3)."""


DELIVERY_MARK: Final = "msilo"
"""Second part of the branch of each stored MESSAGE that is delivered, in place of that which tells a loop: one that
comes back, because a proxy did not find the phone, is not to be stored again."""


class Relay:
    """Sends live requests on.

    Args:
        clients: where the transactions live.
        entropy: for branches.
        is_trusted: whether a flow leads to a trusted peer.
    """

    def __init__(self, clients: ClientTransactions, entropy: Entropy, is_trusted: Callable[[Flow], bool]) -> None:
        self._clients = clients
        self._entropy = entropy
        self._is_trusted = is_trusted
        # What we called ourselves in Via headers, in lower case.
        self._sent_bys: set[str] = set()

    def fork(self, user: ForkUser[S], subject: S, call: Call, targets: Sequence[Target], renew: Renew) -> Fork[S]:
        """Return a fork of a live MESSAGE that has sent nothing yet.

        Args:
            user: is told what becomes of it.
            subject: for the user.
            call: the request, which must allow another hop.
            targets: at least one, by descending q.
            renew: see :class:`~msilo_core.fork.Fork`.
        """
        request = call.request
        self._sent_bys.update(sent_by(target.flow) for target in targets)
        max_breadth = request.max_breadth
        return Fork(
            user,
            subject,
            targets,
            partial(self._serialise, call),
            renew,
            self._clients,
            self._entropy,
            max_breadth=MAX_BREADTH if max_breadth is None else min(max_breadth, MAX_BREADTH),
            mark=loop_mark(request),
        )

    def is_looped(self, request: Request) -> bool:
        """Say whether a request went through here before, routed as it would be now (RFC 5393 section 4.2.2)."""
        for line in request.head.values("via"):
            for name in self._sent_bys:
                if name in line:
                    return self._is_marked(request)
        return False

    def _is_marked(self, request: Request) -> bool:
        mark = f".{loop_mark(request)}"
        return any(via.branch.endswith(mark) and via.sent_by in self._sent_bys for via in _readable_vias(request))

    def _serialise(self, call: Call, target: Target, via: str, max_breadth: int) -> bytes:
        request = call.request
        hops = request.max_forwards
        return forward(
            request,
            request_uri=target.request_uri,
            via=via,
            counts={"Max-Forwards": MAX_FORWARDS if hops is None else hops - 1, "Max-Breadth": max_breadth},
            # Completes the Via that was topmost (section 18.2.1), so that the answer finds back through it.
            via_suffix=call.transaction.via_suffix,
            route=target.route,
            # The target's Route is all that is left of the way.
            drop=("route", *hidden_headers(request, call.is_trusted, self._is_trusted(target.flow))),
            drop_lines=_consumed(request, call.user),
        )


def is_delivery(request: Request) -> bool:
    """Say whether a MESSAGE comes out of a silo: a stored one on its way, which whoever holds it still answers for."""
    for line in request.head.values("via"):
        if DELIVERY_MARK in line:
            return any(via.branch.endswith(f".{DELIVERY_MARK}") for via in _readable_vias(request))
    return False


def _readable_vias(request: Request) -> Iterator[Via]:
    # Those below the topmost are other elements' business, and nobody has looked at them before.
    for value in request.get_all("via"):
        with suppress(PeerError):
            for element in split_list(value):
                with suppress(PeerError):
                    yield parse_via(element)


def _consumed(request: Request, user: Aor | None) -> list[str]:
    """Return the lines of Proxy-Authorization that were for us; those for a proxy behind us go on (section 22.3)."""
    if user is None:
        return []
    lines = [line for key, line in request.head.items() if key == "proxy-authorization"]
    values = request.proxy_authorization
    return [line for line, value in zip(lines, values, strict=True) if value.realm == user.domain]


def loop_mark(request: Request) -> str:
    """Return the second part of our branches: 16 hexadecimal digits that say how a request was routed when it came.

    RFC 5393 section 4.2.1: "the second part MUST depend at least on the received Request-URI and any Route header field
    values used when processing the received request", and not on its method. To counts where the Request-URI names
    nobody.
    """
    routing = (
        request.request_uri,
        request.to.uri_text,
        *request.get_all("route"),
        request.call_id,
        request.from_.tag,
        str(request.cseq.number),
    )
    return hashlib.blake2s("\0".join(routing).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
