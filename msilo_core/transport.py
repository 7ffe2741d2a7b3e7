"""The transport layer's marks on messages (RFC 3261 section 18, RFC 3581): our Via, what we saw, where answers go."""

from typing import Final

from msilo_core.fields import Via
from msilo_core.flow import Flow, TransportName

__all__ = ["TRANSPORTS", "sent_by", "via_value", "way_back"]

TRANSPORTS: Final[dict[str, TransportName]] = {"udp": "udp", "tcp": "tcp"}
"""What we can send by, by the name in a ``transport`` parameter."""


def sent_by(flow: Flow) -> str:
    """Return what we call ourselves in a Via: host and port of our socket."""
    host, port = flow.local
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def via_value(flow: Flow, branch: str) -> str:
    """Return the value of our Via (RFC 3261 section 18.1.1; ``rport`` of RFC 3581 section 3)."""
    return f"SIP/2.0/{flow.transport.upper()} {sent_by(flow)};branch={branch};rport"


def way_back(via: Via, flow: Flow) -> tuple[Flow, str]:
    """Say where the responses to a request go, and what they tell its sender in its Via of how it was seen.

    RFC 3261 sections 18.2.1 and 18.2.2, RFC 3581 section 4. The address is always the one that the request came from; a
    ``maddr`` is not followed, since it would let a sender point our answers at somebody else.

    Args:
        via: the topmost Via of the request.
        flow: what it came by.

    Returns:
        The flow, and parameters such as ``;received=192.0.2.1;rport=5060``, or none.
    """
    host, port = flow.remote
    if via.rport is not None:
        return flow, f";received={host};rport={port}"
    via_suffix = f";received={host}" if via.host.strip("[]") != host else ""
    if flow.is_stream:
        return flow, via_suffix
    return Flow(flow.transport, flow.local, (host, via.port or 5060)), via_suffix
