"""A proxy that all requests of one kind go on to (RFC 3261 section 16.6 steps 6 and 7)."""

import ipaddress
from collections.abc import Sequence
from typing import Final

import msgspec

from msilo_core.errors import LocalError, PeerError
from msilo_core.fields import Hop
from msilo_core.flow import Address, Flow, TransportName
from msilo_core.targets import routed
from msilo_core.transport import TRANSPORTS
from msilo_core.uri import parse_uri

__all__ = ["PROXY_FORMS", "NextHop", "Proxy", "parse_proxy"]

PROXY_FORMS: Final = "the URI of a proxy such as sip:192.0.2.9:5060"


class Proxy(msgspec.Struct, frozen=True, gc=False):
    """A proxy, as an operator names it.

    Attributes:
        hop: its SIP URI, as a value of Route.
        transport: how it is reached.
        address: where.
    """

    hop: Hop
    transport: TransportName
    address: Address


def parse_proxy(name: str, text: str, forms: str = PROXY_FORMS) -> Proxy:
    """Read the SIP URI of a proxy, with an IP address for a host.

    Args:
        name: of the setting.
        text: its value.
        forms: what it may be, for the error.

    Raises:
        LocalError: it is none; the text says what to give.
    """
    try:
        uri = parse_uri(text)
    except PeerError:
        raise LocalError(f"{name} = {text!r} is not known: give {forms}") from None
    transport = TRANSPORTS.get(uri.transport or "udp")
    if uri.scheme != "sip" or transport is None:
        raise LocalError(f"{name} = {text!r}: only UDP and TCP are supported: give {forms}")
    if uri.headers:
        raise LocalError(f"{name} = {text!r}: the URI of a proxy has no headers: give {forms}")
    host = uri.host.strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise LocalError(f"{name} = {text!r}: host names are not looked up: give {forms}") from None
    # Section 16.6 step 6: "A proxy MUST ensure that all such proxies are loose routers."
    loose = text if uri.param("lr") is not None else f"{text};lr"
    return Proxy(Hop(parse_uri(loose), loose), transport, (host, uri.port or 5060))


class NextHop:
    """The way to a proxy.

    It leaves from the address that what goes on came to, or where that is of the other family than the proxy's, from
    the one that something last came to.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._is_ipv6 = ":" in proxy.address[0]
        self._local: Address | None = None

    def note(self, flow: Flow) -> None:
        """Something came by `flow`."""
        if (":" in flow.local[0]) == self._is_ipv6:
            self._local = flow.local

    @property
    def flow(self) -> Flow | None:
        """The way for what nothing leads to, or None as long as nobody knows where it would leave from."""
        return None if self._local is None else Flow(self._proxy.transport, self._local, self._proxy.address)

    def towards(self, request_uri: str, came_by: Flow, route: Sequence[Hop] = ()) -> tuple[Flow, str, str]:
        """Return flow, Request-URI and value of Route for a request that goes by way of the proxy and of `route`."""
        request_uri, route_value = routed(request_uri, [self._proxy.hop, *route])
        is_usable = (":" in came_by.local[0]) == self._is_ipv6 or self._local is None
        local = came_by.local if is_usable else self._local
        assert local is not None, "it is usable then"
        return Flow(self._proxy.transport, local, self._proxy.address), request_uri, route_value
