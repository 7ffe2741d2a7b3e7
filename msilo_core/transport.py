"""The transport layer's marks on messages (RFC 3261 section 18, RFC 3581): our Via, what we saw, where answers go."""

from typing import Final

from msilo_core.fields import Via
from msilo_core.flow import Flow, TransportName

__all__ = ["TRANSPORTS", "reply_flow", "seen_at", "sent_by", "via_value"]

TRANSPORTS: Final[dict[str, TransportName]] = {"udp": "udp", "tcp": "tcp"}
"""What we can send by, by the name in a ``transport`` parameter."""


def sent_by(flow: Flow) -> str:
    """Return what we call ourselves in a Via: host and port of our socket."""
    host, port = flow.local
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def via_value(flow: Flow, branch: str) -> str:
    """Return the value of our Via (RFC 3261 section 18.1.1; ``rport`` of RFC 3581 section 3)."""
    return f"SIP/2.0/{flow.transport.upper()} {sent_by(flow)};branch={branch};rport"


def seen_at(via: Via, flow: Flow) -> str:
    """Return the parameters that tell the sender what we saw (RFC 3261 section 18.2.1, RFC 3581 section 4)."""
    host, port = flow.remote
    if via.rport is not None:
        return f";received={host};rport={port}"
    return f";received={host}" if via.host.strip("[]") != host else ""


def reply_flow(via: Via, flow: Flow) -> Flow:
    """Say where the responses to a request go (RFC 3261 section 18.2.2, RFC 3581 section 4).

    The address is always the one that the request came from; a ``maddr`` is not followed, since it would let a sender
    point our answers at somebody else.
    """
    if flow.is_stream or via.rport is not None:
        return flow
    return Flow(flow.transport, flow.local, (flow.remote[0], via.port or 5060))
