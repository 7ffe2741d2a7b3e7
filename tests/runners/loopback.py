"""A peer on loopback for async tests."""

import socket
from typing import Self

import anyio

from msilo_core.flow import Address

__all__ = ["UdpPeer"]


class UdpPeer:
    """A plain UDP socket; the event loops' own do not send empty datagrams."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        self.address: Address = self._socket.getsockname()[:2]

    @property
    def sent_by(self) -> str:
        """The address as it stands in a Via or a Contact."""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, data: bytes, remote: Address) -> None:
        self._socket.sendto(data, remote)

    async def receive(self) -> tuple[bytes, Address]:
        with anyio.fail_after(5):
            await anyio.wait_readable(self._socket)
        data, address = self._socket.recvfrom(65535)
        return data, address[:2]
