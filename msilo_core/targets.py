"""Where a MESSAGE for somebody goes: the contacts that take it, and how each is reached.

RFC 3261 section 16.6 steps 2, 6 and 7, and RFC 3327 section 5.4.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from msilo_core.actions import Binding
from msilo_core.clock import Moment
from msilo_core.errors import PeerError
from msilo_core.fields import Hop, parse_hops
from msilo_core.flow import Flow
from msilo_core.keyring import Answer
from msilo_core.transport import TRANSPORTS
from msilo_core.uri import SipUri, parse_uri

__all__ = ["Target", "capable", "device_of", "devices_of", "routed", "target_of"]


class Target(msgspec.Struct, frozen=True, gc=False):
    """One contact and how it is reached.

    Attributes:
        contact: its URI as registered, the key of the window (RFC 3428 section 8).
        request_uri: the same without the headers that a URI may carry, which a Request-URI may not (RFC 3261 section
            19.1.1).
        flow: the next hop.
        route: value of the Route header to add (the Path of the binding, RFC 3327), or empty.
        q: preference in thousandths, 0 to 1000.
        credentials: what answers the challenges that came before.
        followed: how many answers have led here, challenges and redirections.
        is_elsewhere: a redirection was among them: it is not where the contact is.
    """

    contact: str
    request_uri: str
    flow: Flow
    route: str = ""
    q: int = 1000
    credentials: tuple[Answer, ...] = ()
    followed: int = 0
    is_elsewhere: bool = False


def device_of(binding: Binding) -> str:
    """Return what tells a device from others: 16 hexadecimal digits.

    It is made of its instance, which it keeps when it registers from another address (RFC 5626 section 4.1), or of its
    Contact URI where it names none.
    """
    text = binding.instance or binding.contact
    return hashlib.blake2s(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def capable(bindings: Iterable[Binding], now: Moment) -> list[Binding]:
    """Return those that are alive and take MESSAGE: an empty `methods` takes everything."""
    return [binding for binding in bindings if binding.expires_s > now.unix_s and _takes_message(binding)]


def devices_of(bindings: Iterable[Binding]) -> tuple[str, ...]:
    """Return the devices that take MESSAGE at some of these bindings, each once."""
    return tuple({device_of(binding): None for binding in bindings if _takes_message(binding)})


def _takes_message(binding: Binding) -> bool:
    return not binding.methods or _MESSAGE.search(binding.methods) is not None


def target_of(binding: Binding, is_ours: Callable[[Binding], bool]) -> Target | None:
    """Say how a binding is reached, or None if it is not, or cannot be understood.

    The stream that the REGISTER came by, where it is ours and open: nothing else leads through a NAT. Else the address
    in the Contact, or with a Path in its first element, where it is the one that the REGISTER came from. Else, on UDP,
    the address that it came from: a Contact may name a private address, a host name, or somebody else, and mail goes
    to its owner's device only. Not so for a stream that is closed: its port may be anybody's by now.
    """
    return _target_of(binding, binding.flow.is_stream and is_ours(binding))


@lru_cache(maxsize=1000)  # of whoever gets several messages, one after the other
def _target_of(binding: Binding, is_open: bool) -> Target | None:
    try:
        contact = parse_uri(binding.contact)
        path = parse_hops((binding.path,)) if binding.path else ()
        flow = binding.flow if is_open else _flow_to(path[0].uri if path else contact, binding.flow)
        request_uri, route = routed(binding.contact.removesuffix(contact.headers), path)
    except PeerError:
        # Checked at the REGISTER, perhaps by another release.
        return None
    if flow is None:
        return None
    return Target(binding.contact, request_uri, flow, route, binding.q)


def routed(request_uri: str, route: Sequence[Hop]) -> tuple[str, str]:
    """Return Request-URI and value of Route with which a request is sent by way of `route` (section 16.6 step 6)."""
    texts = [str(hop) for hop in route]
    if route and not route[0].is_loose:
        # It finds itself in the Request-URI, and the target behind all others.
        return route[0].uri_text.removesuffix(route[0].uri.headers), ", ".join([*texts[1:], f"<{request_uri}>"])
    return request_uri, ", ".join(texts)


_MESSAGE: Final = re.compile(r"(?<![^\s,])MESSAGE(?![^\s,])", re.IGNORECASE)
_IPV4: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")


def _flow_to(next_hop: SipUri, came_by: Flow) -> Flow | None:
    if next_hop.scheme == "sips":
        # "... secure transport (TLS) is used" (section 26.2.2), which we do not have: not in clear text instead.
        return None
    transport = TRANSPORTS.get(next_hop.transport or came_by.transport)
    host = came_by.remote[0]
    if transport is not None and _literal(next_hop) == host:
        return Flow(transport, came_by.local, (host, next_hop.port or 5060))
    return None if came_by.is_stream else came_by


def _literal(uri: SipUri) -> str | None:
    host = uri.host
    if host.startswith("["):
        return host[1:-1].lower()
    return host if _IPV4.fullmatch(host) else None
