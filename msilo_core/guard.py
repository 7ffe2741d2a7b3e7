"""Who is served: trusted networks, and users who prove by Digest who they are (RFC 3261 section 22, RFC 8760).

A request from a trusted network is believed in what it says. Anybody else has to own the address of record that the
request speaks for: To of a REGISTER, From of a MESSAGE. The realm is the domain of that address, so that the HA1s are
those of Kamailio's ``subscriber`` table.
"""

import ipaddress
from typing import Final

import msgspec

from msilo_core.clock import Moment
from msilo_core.config import Config
from msilo_core.digest import Algorithm, Verdict, admit, challenges, names_target, select
from msilo_core.entropy import Entropy
from msilo_core.errors import LocalError, ParseError, PeerError
from msilo_core.fields import Credentials
from msilo_core.flow import Flow
from msilo_core.grammar import normalise_host
from msilo_core.limits import Limits
from msilo_core.message import Request
from msilo_core.nonces import Nonces
from msilo_core.uri import Aor, parse_uri
from msilo_core.users import User

__all__ = ["Claim", "Guard"]

# Hosts whose trust has been decided are remembered, so that a datagram costs a dict look-up; a scan of addresses
# must not grow it for ever.
_TRUST_CACHE_MAX: Final = 10_000

_SECRET_BYTES: Final = 32


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Somebody says to be a user, and it is to be checked.

    Attributes:
        user: who that is.
        owner: the address of record that the request speaks for.
        credentials: what is to prove it.
    """

    user: Aor
    owner: Aor
    credentials: Credentials


class Guard:
    """See the module.

    Args:
        config: whom to trust, and how users prove themselves.
        limits: bounds.
        entropy: source of the secret and the nonces.
        now: the present.

    Raises:
        LocalError: a network is not one.
    """

    def __init__(self, config: Config, limits: Limits, entropy: Entropy, now: Moment) -> None:
        self._networks = _networks(config.trusted)
        self._trust: dict[str, bool] = {}
        self._domains = config.domains
        self._limits = limits
        self._algorithms: tuple[Algorithm, ...] = ()
        if config.auth is not None:
            self._algorithms = tuple(map(Algorithm, config.auth.algorithms))
            lifetime_s = config.auth.nonce_lifetime_s
            self._nonces = Nonces(
                entropy.octets(_SECRET_BYTES), lifetime_s=lifetime_s, entropy=entropy, now=now, limits=limits
            )

    @property
    def knows_users(self) -> bool:
        """Whether there are users who may prove themselves; else only trusted networks are served."""
        return bool(self._algorithms)

    def is_trusted(self, flow: Flow) -> bool:
        """Say whether a flow leads to a trusted network."""
        host = flow.remote[0]
        known = self._trust.get(host)
        if known is None:
            if len(self._trust) >= _TRUST_CACHE_MAX:
                self._trust.clear()
            known = self._trust[host] = _in_networks(host, self._networks)
        return known

    def owner_of(self, request: Request) -> Aor:
        """Return the address of record that a request speaks for.

        Raises:
            PeerError: it is none; the answer is its `status_hint`.
        """
        return (request.to if request.method == "REGISTER" else request.from_).uri.aor(self._limits)

    def claim_of(self, request: Request, flow: Flow, owner: Aor, now: Moment) -> Claim | None:
        """Return what is to be checked of a request that speaks for `owner`; None if there is nothing: challenge it.

        Raises:
            ParseError: its credentials are malformed, or are for the request of another server.
        """
        values = request.authorization if request.method == "REGISTER" else request.proxy_authorization
        credentials = select(values, owner.domain, self._algorithms, self._nonces, now)
        if credentials is None:
            return None
        if not (names_target(credentials, request.request_uri) or self._is_ours(credentials.uri, flow)):
            raise ParseError("credentials for this Request-URI", credentials.uri)
        return Claim(Aor(credentials.username, owner.domain), owner, credentials)

    def is_name(self, username: str) -> bool:
        """Say whether an address of record may have this name: no store can be asked for any other."""
        try:
            parse_uri(str(Aor(username, "localhost")), self._limits).aor(self._limits)
        except (PeerError, UnicodeEncodeError):
            return False
        return True

    def admit(self, claim: Claim, request: Request, user: User | None, now: Moment) -> Verdict:
        """Say what a claim is worth, of a user that was looked up."""
        algorithm = Algorithm.named(claim.credentials.algorithm)
        ha1 = None if user is None or algorithm is None else user.ha1_for(algorithm)
        return admit(claim.credentials, request.method, request.body, ha1, self._nonces, now)

    def challenge(
        self, request: Request, owner: Aor, now: Moment, *, stale: bool = False
    ) -> tuple[int, list[tuple[str, str]]]:
        """Return status and headers of an answer that asks for credentials.

        A registrar asks as the one who answers (401), whoever passes a MESSAGE on as a proxy (407).
        """
        values = challenges(owner.domain, self._nonces.issue(owner.domain, now), self._algorithms, stale=stale)
        if request.method == "REGISTER":
            return 401, [("WWW-Authenticate", value) for value in values]
        return 407, [("Proxy-Authenticate", value) for value in values]

    def _is_ours(self, digest_uri: str, flow: Flow) -> bool:
        # RFC 8760 section 2.6 item 6: a proxy may have changed the Request-URI. And some name the address that they
        # send to.
        try:
            host = normalise_host(parse_uri(digest_uri, self._limits).host)
        except PeerError:
            return False
        return not self._domains or host in self._domains or host.strip("[]") == flow.local[0]


def _networks(texts: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(text) for text in texts]
    except ValueError as error:
        raise LocalError(f"{error}: give a network such as 10.0.0.0/8") from None


def _in_networks(host: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in networks)
