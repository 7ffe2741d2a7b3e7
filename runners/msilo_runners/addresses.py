"""Listen and server URIs: ``udp://127.0.0.1:5060``, ``tcp://[::1]:5060``; and domains."""

import ipaddress
import re
from typing import Final, Self

import msgspec

from msilo_core import Address, TransportName
from msilo_core.errors import PeerError
from msilo_core.uri import parse_uri
from msilo_runners.errors import SettingsError

__all__ = ["TransportAddress", "parse_domain", "parse_transport_address"]

SIP_PORT: Final = 5060
PORT_MAX: Final = 65535

# Host in brackets is an IPv6 literal, where a zone (RFC 6874) may follow; a port has at most five digits.
_TRANSPORT_ADDRESS: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:\[(?P<ipv6>[^\[\]/]+)\]|(?P<host>[^\[\]:/]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_TRANSPORTS: Final[dict[str, TransportName]] = {"udp": "udp", "tcp": "tcp"}
_LATER_SCHEMES: Final = frozenset({"tls", "ws", "wss"})


class TransportAddress(msgspec.Struct, frozen=True, gc=False):
    """A transport and an address to listen on or to send to.

    Attributes:
        transport: ``udp`` or ``tcp``.
        host: an IP literal without brackets; of a server that is sent to also a host name.
        port: 0 to 65535; 0 lets the system choose when it is listened on.
    """

    transport: TransportName
    host: str
    port: int

    @classmethod
    def of(cls, transport: TransportName, address: Address) -> Self:
        """Return the address of a socket that is bound to `address`."""
        return cls(transport, *address)

    @property
    def address(self) -> Address:
        """Host and port as a socket takes them."""
        return (self.host, self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can send here."""
        literal = _literal(self.host)
        return literal is not None and literal.is_loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}"


def parse_transport_address(text: str, *, names_allowed: bool = False) -> TransportAddress:
    """Read a listen URI, or with `names_allowed` the URI of a server; the port is 5060 where none is given.

    Raises:
        SettingsError: it is not one, or its transport is not supported yet.
    """
    match = _TRANSPORT_ADDRESS.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is not a transport address: give one such as udp://127.0.0.1:5060")
    scheme = match["scheme"].lower()
    if scheme in _LATER_SCHEMES:
        raise SettingsError(f"{text!r}: {scheme} is not supported yet: give udp or tcp")
    if scheme not in _TRANSPORTS:
        raise SettingsError(f"{text!r}: {scheme} is not a transport: give udp or tcp")
    port = int(match["port"]) if match["port"] else SIP_PORT
    if port > PORT_MAX:
        raise SettingsError(f"{text!r}: port {port} is out of range: give 0 to {PORT_MAX}")
    host: str = match["ipv6"] or match["host"]
    literal = _literal(host)
    if match["ipv6"] and (literal is None or literal.version == 4):
        raise SettingsError(f"{text!r}: {host!r} is not an IPv6 address")
    if literal is None and not names_allowed:
        raise SettingsError(f"{text!r}: {host!r} is not an IP address: give one such as 127.0.0.1")
    return TransportAddress(_TRANSPORTS[scheme], host, port)


def parse_domain(text: str) -> str:
    """Return a domain as the addresses of record have it that are in it.

    Args:
        text: a host name, an IPv4 address, or an IPv6 address with brackets or without.

    Raises:
        SettingsError: it is none of these.
    """
    host = f"[{text}]" if isinstance(_literal(text), ipaddress.IPv6Address) else text
    try:
        uri = parse_uri(f"sip:any@{host}")
        if uri.host == host:
            return uri.aor().domain
    except PeerError:
        pass
    raise SettingsError(f"{text!r} is not a domain: give a host name such as example.com, or an IP address")


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
