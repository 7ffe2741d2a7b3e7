"""A flow: the path between us and one peer, as a value."""

from typing import Literal, TypeAlias

import msgspec

__all__ = ["Address", "Flow", "TransportName"]

TransportName: TypeAlias = Literal["udp", "tcp"]

Address: TypeAlias = tuple[str, int]
"""(host, port): an IP literal without brackets, and 1 to 65535."""


class Flow(msgspec.Struct, frozen=True, gc=False):
    """Where octets came from, or are to go (RFC 5626 section 3.1 has the idea).

    Attributes:
        transport: ``udp`` or ``tcp``.
        local: the address of our socket as it was bound.
        remote: the peer.
        token: 0 for datagrams; for a stream the runner's number of the connection. A stream flow with token 0 is one
            that may have to be opened: the runner takes a connection it has to `remote`, or makes one.
    """

    transport: TransportName
    local: Address
    remote: Address
    token: int = 0

    @property
    def is_stream(self) -> bool:
        """Whether the transport is reliable (RFC 3261 section 17: no retransmissions)."""
        return self.transport != "udp"

    def __str__(self) -> str:
        host, port = self.remote
        return f"{self.transport}:[{host}]:{port}" if ":" in host else f"{self.transport}:{host}:{port}"
