"""What becomes of a request for a domain that is not ours: refused, or sent on by way of a proxy (RFC 3261 section 16).

Nothing is kept of what goes on and no order is made. The sender gets what the proxy answers.
"""

from collections.abc import Callable
from typing import TypeAlias

from msilo_core.actions import Action
from msilo_core.clock import Moment
from msilo_core.fork import Fork
from msilo_core.message import Response
from msilo_core.nexthop import PROXY_FORMS, NextHop, Proxy, parse_proxy
from msilo_core.relay import Relay
from msilo_core.route import Call
from msilo_core.targets import Target

__all__ = ["Outbound", "parse_foreign"]

Answer: TypeAlias = Callable[[Call, int, Response | None, Moment], list[Action]]


def parse_foreign(text: str) -> int | Proxy:
    """Read the setting `foreign`: ``404`` or ``403``, or the SIP URI of a proxy.

    Raises:
        LocalError: it is neither; the text says what to give.
    """
    return int(text) if text in ("403", "404") else parse_proxy("foreign", text, f"404, 403, or {PROXY_FORMS}")


class Outbound:
    """Sends on what is for others.

    Args:
        next_hop: the proxy.
        relay: makes the request.
        pass_on: answers a call with the 2xx that came back.
        fail_call: runs the failure route for a call.
    """

    def __init__(self, next_hop: NextHop, relay: Relay, pass_on: Answer, fail_call: Answer) -> None:
        self._next_hop = next_hop
        self._relay = relay
        self._pass_on = pass_on
        self._fail_call = fail_call

    def forward(self, call: Call, now: Moment) -> list[Action]:
        """Send a MESSAGE to the proxy, its answer to whoever sent it."""
        flow, request_uri, route = self._next_hop.towards(call.request_uri, call.flow, call.route)
        target = Target(request_uri, request_uri, flow, route)
        call.fork = fork = self._relay.fork(self, call, call, [target], lambda target, _: target)
        return fork.begin(now)

    def branch_began(self, fork: Fork[Call], contact: str) -> None:
        """It is on its way (:class:`msilo_core.fork.ForkUser`)."""

    def branch_ended(self, fork: Fork[Call], target: Target, status: int, now: Moment) -> list[Action]:
        """It has its answer, which :meth:`fork_decided` was told (:class:`msilo_core.fork.ForkUser`)."""
        del fork, target, status, now
        return []

    def fork_decided(self, fork: Fork[Call], status: int, response: Response | None, now: Moment) -> list[Action]:
        """Answer its sender (:class:`msilo_core.fork.ForkUser`)."""
        if status < 300:
            return self._pass_on(fork.subject, status, response, now)
        return self._fail_call(fork.subject, status, response, now)
