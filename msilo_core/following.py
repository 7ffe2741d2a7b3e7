"""Where the answers to a stored message lead that are no outcome: challenges, and redirections.

Redirections are followed of the outbound proxy, or of a trusted peer: a phone that is not trusted could have mail sent
to anybody. Challenges are answered of the outbound proxy, for the realm of the account: an answer shows what a guess of
the password can be tried on, and a phone behind the proxy could ask for that of any server.
"""

import ipaddress
from collections.abc import Callable
from typing import Final

import msgspec

from msilo_core.config import Account
from msilo_core.entropy import Entropy
from msilo_core.errors import PeerError
from msilo_core.fields import STAR
from msilo_core.flow import Flow
from msilo_core.keyring import Keyring
from msilo_core.message import Response
from msilo_core.nexthop import NextHop
from msilo_core.targets import Target
from msilo_core.transport import TRANSPORTS
from msilo_core.uri import SipUri

__all__ = ["Following"]

_FOLLOWED_MAX: Final = 4
"""One challenge of the proxy, one of a server behind it, a nonce that had become stale, and one redirection."""


class Following:
    """Says what to send again at once, and where.

    Args:
        account: what answers challenges of its realm, or None.
        entropy: for cnonces.
        next_hop: the outbound proxy, or None.
        is_trusted: whether a flow leads to a trusted peer.
    """

    def __init__(
        self,
        account: Account | None,
        entropy: Entropy,
        next_hop: NextHop | None,
        is_trusted: Callable[[Flow], bool],
    ) -> None:
        self._realm = "" if account is None else account.realm
        self._keyring = None if account is None else Keyring(account.username, account.password, entropy)
        self._next_hop = next_hop
        self._is_trusted = is_trusted

    def follow(self, body: bytes, target: Target, response: Response) -> Target | None:
        """Return what to try instead of a target that failed, or None (:data:`msilo_core.fork.Follow`).

        Args:
            body: of the message.
            target: what failed.
            response: with what.
        """
        if target.followed >= _FOLLOWED_MAX or (self._next_hop is None and not self._is_trusted(target.flow)):
            return None
        try:
            if response.status in (401, 407):
                return self._answered(body, target, response)
            if response.status in (300, 301, 302):
                return self._redirected(target, response)
        except PeerError:
            # What cannot be read leads nowhere.
            pass
        return None

    def _answered(self, body: bytes, target: Target, response: Response) -> Target | None:
        """RFC 3261 section 22.2 and 22.3."""
        if self._keyring is None or self._next_hop is None:
            return None
        www, proxy = (
            [challenge for challenge in offered if challenge.realm == self._realm]
            for offered in (response.www_authenticate, response.proxy_authenticate)
        )
        if not self._keyring.challenged(www, proxy, target.credentials):
            return None
        answers = self._keyring.answers("MESSAGE", target.request_uri, body)
        return msgspec.structs.replace(target, credentials=answers, followed=target.followed + 1)

    def _redirected(self, target: Target, response: Response) -> Target | None:
        """RFC 3261 section 8.1.3.4: the first contact of the highest q that can be reached."""
        contacts = response.contacts
        if contacts is STAR:
            return None
        for contact in sorted(contacts, key=lambda contact: -(1000 if contact.q is None else contact.q)):
            uri = contact.uri
            request_uri = contact.uri_text.removesuffix(uri.headers)
            if uri.scheme != "sip" or request_uri == target.request_uri:
                continue
            if self._next_hop is not None:
                flow, request_uri, route = self._next_hop.towards(request_uri, target.flow)
                return _elsewhere(target, request_uri, flow, route)
            way = _way_to(uri, target.flow)
            if way is not None:
                return _elsewhere(target, request_uri, way)
        return None


def _elsewhere(target: Target, request_uri: str, flow: Flow, route: str = "") -> Target:
    followed = target.followed + 1
    return Target(target.contact, request_uri, flow, route, target.q, followed=followed, is_elsewhere=True)


def _way_to(uri: SipUri, flow: Flow) -> Flow | None:
    """Return the way to an IP address, from where a flow leaves; None for a name, or another family or transport."""
    transport = TRANSPORTS.get(uri.transport or "udp")
    host = uri.host.strip("[]")
    try:
        is_ipv6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        return None
    if transport is None or is_ipv6 != (":" in flow.local[0]):
        return None
    return Flow(transport, flow.local, (host, uri.port or 5060))
