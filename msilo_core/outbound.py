"""What becomes of a request for a domain that is not ours: refused, or sent on by way of a proxy (RFC 3261 section 16).

Nothing is kept of what goes on and no order is made. The sender gets what the proxy answers.
"""

import ipaddress
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from msilo_core.actions import Action
from msilo_core.clock import Moment
from msilo_core.errors import LocalError, PeerError
from msilo_core.fields import Hop
from msilo_core.flow import Flow, TransportName
from msilo_core.fork import Fork
from msilo_core.message import Response
from msilo_core.relay import Relay
from msilo_core.route import Call
from msilo_core.targets import Target, routed
from msilo_core.transport import TRANSPORTS
from msilo_core.uri import parse_uri

__all__ = ["Outbound", "Proxy", "parse_foreign"]

Answer: TypeAlias = Callable[[Call, int, Response | None, Moment], list[Action]]


class Proxy(msgspec.Struct, frozen=True, gc=False):
    """The next hop for domains that are not ours.

    Attributes:
        hop: its SIP URI, as a value of Route.
        transport: how it is reached.
        address: where.
    """

    hop: Hop
    transport: TransportName
    address: tuple[str, int]


def parse_foreign(text: str) -> int | Proxy:
    """Read the setting `foreign`: ``404`` or ``403``, or the SIP URI of a proxy.

    Raises:
        LocalError: it is neither; the text says what to give.
    """
    if text in ("403", "404"):
        return int(text)
    try:
        uri = parse_uri(text)
    except PeerError:
        raise LocalError(f"foreign = {text!r} is not known: give {_FORMS}") from None
    transport = TRANSPORTS.get(uri.transport or "udp")
    if uri.scheme != "sip" or transport is None:
        raise LocalError(f"foreign = {text!r}: only UDP and TCP are supported: give {_FORMS}")
    if uri.headers:
        raise LocalError(f"foreign = {text!r}: the URI of a proxy has no headers: give {_FORMS}")
    host = uri.host.strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise LocalError(f"foreign = {text!r}: host names are not looked up: give {_FORMS}") from None
    # Section 16.6 step 6: "A proxy MUST ensure that all such proxies are loose routers."
    loose = text if uri.param("lr") is not None else f"{text};lr"
    return Proxy(Hop(parse_uri(loose), loose), transport, (host, uri.port or 5060))


class Outbound:
    """Sends on what is for others.

    Args:
        proxy: the next hop.
        relay: makes the request.
        pass_on: answers a call with the 2xx that came back.
        fail_call: runs the failure route for a call.
    """

    def __init__(self, proxy: Proxy, relay: Relay, pass_on: Answer, fail_call: Answer) -> None:
        self._proxy = proxy
        self._relay = relay
        self._pass_on = pass_on
        self._fail_call = fail_call

    def forward(self, call: Call, now: Moment) -> list[Action]:
        """Send a MESSAGE to the proxy, its answer to whoever sent it."""
        proxy = self._proxy
        request_uri, route = routed(call.request_uri, [proxy.hop, *call.route])
        flow = Flow(proxy.transport, call.flow.local, proxy.address)
        target = Target(request_uri, request_uri, flow, route)
        call.fork = fork = self._relay.fork(self, call, call, [target], lambda target, _: target)
        return fork.begin(now)

    def branch_began(self, fork: Fork[Call], contact: str) -> None:
        """It is on its way (:class:`msilo_core.fork.ForkUser`)."""

    def branch_ended(self, fork: Fork[Call], contact: str, status: int, now: Moment) -> list[Action]:
        """It has its answer, which :meth:`fork_decided` was told (:class:`msilo_core.fork.ForkUser`)."""
        del fork, contact, status, now
        return []

    def fork_decided(self, fork: Fork[Call], status: int, response: Response | None, now: Moment) -> list[Action]:
        """Answer its sender (:class:`msilo_core.fork.ForkUser`)."""
        if status < 300:
            return self._pass_on(fork.subject, status, response, now)
        return self._fail_call(fork.subject, status, response, now)


_FORMS: Final = "404, 403, or the URI of a proxy such as sip:192.0.2.9:5060"
