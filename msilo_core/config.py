"""What the engine is told before it starts."""

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from msilo_core.digest import SUPPORTED
from msilo_core.errors import LocalError
from msilo_core.fields.numbers import DELTA_SECONDS_MAX
from msilo_core.flow import TransportName
from msilo_core.parameters import SiloConfig
from msilo_core.worker import Worker

__all__ = ["Account", "AuthConfig", "Config", "DeliveryConfig", "Devices", "PathMode", "TransportName"]

_WINDOW_MAX: Final = 256

PathMode: TypeAlias = Literal["strict", "lazy"]
"""See :class:`Config`."""

Devices: TypeAlias = Literal["any", "each"]
"""See :class:`DeliveryConfig`."""


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How users prove who they are (Digest: RFC 7616, RFC 8760).

    Attributes:
        algorithms: to challenge with, the preferred one first: ``SHA-256``, ``SHA-512-256``, ``MD5``. A phone answers
            the first that it knows, and the store must have the user's HA1 for that: rows of a Kamailio have one for
            MD5 alone.
        nonce_lifetime_s: how long a nonce may be used, 1 to 2**32 - 1; a phone whose nonce is older is asked
            again, and its user is not.
    """

    algorithms: tuple[str, ...] = tuple(algorithm.value for algorithm in SUPPORTED)
    nonce_lifetime_s: int = 300

    def __post_init__(self) -> None:
        known = [algorithm.value for algorithm in SUPPORTED]
        for name in self.algorithms:
            if name not in known:
                raise LocalError(f"algorithms: {name!r} is not one that this machine has: give {' or '.join(known)}")
        if not self.algorithms or len(set(self.algorithms)) < len(self.algorithms):
            raise LocalError(f"algorithms = {list(self.algorithms)} is out of range: give one or more, each once")
        if not 1 <= self.nonce_lifetime_s <= DELTA_SECONDS_MAX:
            raise LocalError(f"nonce_lifetime = {self.nonce_lifetime_s} is out of range: give 1 to {DELTA_SECONDS_MAX}")


class Account(msgspec.Struct, frozen=True, gc=False):
    """Whom a client proves to be when it is challenged; the password does not show in a repr.

    Attributes:
        username: the name.
        password: the password.
        realm: whose challenges it answers; empty: those of every realm.
    """

    username: str
    password: str
    realm: str = ""

    def __repr__(self) -> str:
        """Return who it is."""
        return f"Account(username={self.username!r}, realm={self.realm!r})"


class DeliveryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How stored messages are delivered, and tried again.

    Attributes:
        lease_s: how long a node may hold messages that it delivers without saying so again, 3 to 2**32 - 1. It says so
            each third of it. What a node held that died waits for so long.
        retry_min_s: pause before a message is tried again that a phone did not take, 1 or more; it doubles each time.
        retry_max_s: the longest such pause, not below `retry_min_s`.
        retry_look_s: how often to look for messages that are to be tried again, or were left by a node that is gone, 1
            or more.
        window: most messages of one inbox outstanding to an owner whose only contact is reached by a stream, which
            avoids congestion by itself, 1 to 256, and no more than a page has; else, and where `devices` is ``each``,
            one (RFC 3428 section 8). Where a phone does not take one of them for now, those behind it that were on
            their way overtake it.
        account: what answers a 401 or 407 that comes from the outbound proxy for the account's realm, which must be
            given: the phones behind the proxy can ask too. None: nothing.
        devices: of an owner with several: ``any``, a message is delivered when one took it; ``each``, it is kept for
            those that lack it, and every message for somebody who is there is stored first. With an outbound proxy it
            is always ``any``: which devices there are only the proxy knows.
        device_window_s: how long it is kept after the first took it, 1 to 2**32 - 1, and no longer than it lives.
    """

    lease_s: int = 15
    retry_min_s: int = 5
    retry_max_s: int = 900
    retry_look_s: int = 5
    window: int = 1
    account: Account | None = None
    devices: Devices = "any"
    device_window_s: int = 86_400

    def __post_init__(self) -> None:
        if self.devices not in get_args(Devices):
            raise LocalError(f"devices = {self.devices!r} is not one of {' or '.join(get_args(Devices))}: give one")
        lowest = {"lease": 3, "retry_min": 1, "retry_max": 1, "retry_look": 1, "device_window": 1}
        for name, low in lowest.items():
            value: int = getattr(self, f"{name}_s")
            if not low <= value <= DELTA_SECONDS_MAX:
                raise LocalError(f"{name} = {value} is out of range: give {low} to {DELTA_SECONDS_MAX}")
        if not 1 <= self.window <= _WINDOW_MAX:
            raise LocalError(f"window = {self.window} is out of range: give 1 to {_WINDOW_MAX}")
        if self.account is not None and not self.account.realm:
            raise LocalError(
                "realm is empty: give the realm of the outbound proxy, which username and password are for"
            )
        if self.retry_min_s > self.retry_max_s:
            raise LocalError(
                f"retry_min = {self.retry_min_s}, retry_max = {self.retry_max_s} is out of order: give them ascending"
            )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Policy and timers of one engine.

    Attributes:
        domains: host parts whose users are ours, lower case; empty: any, which only suits trusted senders.
        foreign: what a MESSAGE for any other domain gets: the status 404 or 403, or the SIP URI of a proxy that it goes
            on to, with an IP address for a host.
        trusted: networks in CIDR form whose requests are believed. Loopback by default.
        auth: how everybody else proves who they are; None: they get 403.
        node: name of this server in leases; must be unique among those that share a store and differ after a restart.
            Those of workers differ behind the last dot alone.
        worker: which one this is of those that share their sockets.
        expires_default_s: lifetime of a binding that asks for none (RFC 3261 section 10.2.1.1: one hour).
        expires_min_s: shorter ones get 423, where they are shorter than an hour too (RFC 3261 section 10.3 step 7).
        expires_max_s: longer ones are shortened to this.
        path_mode: what becomes of a REGISTER with a Path of a user agent that does not say that it supports that (RFC
            3327 section 5.3), in the words of Kamailio's registrar: ``strict`` refuses it with 420, as the RFC
            recommends; ``lazy`` takes it, and does not return the Path.
        relay_ms: how long a live MESSAGE may wait for the phone's final answer before it is stored. Well below Timer F
            of the sender (32 s), so that the 202 still finds its transaction (RFC 4321 section 1.1).
        fork_ms: how long contacts of a higher q have a message to themselves before those of the next q are tried too;
            a phone that refuses does not keep them waiting. Two retransmissions, and a third of `relay_ms`.
        delivery: how stored messages are delivered.
        t1_ms: RFC 3261 section 17.1.1.1, estimate of the round trip.
        t2_ms: most time between retransmissions of a non-INVITE request.
        t4_ms: how long a message stays in the network.
        silo: the parameters of msilo.
    """

    domains: frozenset[str] = frozenset()
    foreign: str = "404"
    trusted: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    auth: AuthConfig | None = None
    node: str = "msilo"
    worker: Worker = Worker()
    expires_default_s: int = 3600
    expires_min_s: int = 60
    expires_max_s: int = 86_400
    path_mode: PathMode = "strict"
    relay_ms: int = 6_000
    fork_ms: int = 2_000
    delivery: DeliveryConfig = DeliveryConfig()
    t1_ms: int = 500
    t2_ms: int = 4_000
    t4_ms: int = 5_000
    silo: SiloConfig = SiloConfig()

    @property
    def is_each(self) -> bool:
        """Whether each device of an owner is to have each message."""
        return self.delivery.devices == "each" and not self.silo.outbound_proxy

    def is_worker(self, node: str) -> bool:
        """Whether a node is another worker, which hands on what is to leave by a connection of its own."""
        return self.worker.count > 1 and node.rpartition(".")[0] == self.node.rpartition(".")[0] and node != self.node

    def __post_init__(self) -> None:
        if not 0 < self.expires_min_s <= self.expires_default_s <= self.expires_max_s <= DELTA_SECONDS_MAX:
            raise LocalError(
                f"expires_min = {self.expires_min_s}, expires_default = {self.expires_default_s}, "
                f"expires_max = {self.expires_max_s} is out of order: "
                f"give them ascending, from 1 to {DELTA_SECONDS_MAX}"
            )
