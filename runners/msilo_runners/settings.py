"""What a server is told: :class:`ServerConfig`, and the TOML file it can be read from.

::

    [server]
    listen = ["udp://192.0.2.2:5060", "tcp://192.0.2.2:5060"]
    role = "server"               # or "silo": beside a proxy
    route = "my_routes:MyRoute"   # route functions of your own instead of the role's
    backend = "asyncio"           # or "trio"
    domain = ["example.com"]
    trust = ["192.0.2.0/24"]
    foreign = "404"               # or "403", or a proxy for other domains such as "sip:192.0.2.9:5060"
    path_mode = "strict"          # or "lazy": Path of phones that do not say that they support it
    expires_default = 3600        # seconds; a binding asks for less than expires_min in vain
    expires_min = 60
    expires_max = 86400
    grace = 8                     # seconds

    [storage]
    url = "sqlite:///msilo.db"

    [auth]
    users = "store"               # or the name of a file of users; none if it is left out
    algorithms = ["SHA-256", "SHA-512-256", "MD5"]
    nonce_lifetime = 300          # seconds

    [delivery]                    # of stored messages
    lease = 15                    # seconds; what a server held that died waits for so long
    retry_min = 5                 # seconds before a message is tried again that a phone did not take
    retry_max = 900
    retry_look = 5
    window = 1                    # messages outstanding to a phone that is reached by TCP
    devices = "any"               # or "each": of an owner's devices
    device_window = 86400         # seconds
    username = "silo"             # answers challenges of the outbound proxy
    password = "…"
    realm = "example.com"         # of the proxy

    [limits]                      # names of msilo_core.Limits
    batch_max = 512

    [msilo]                       # parameters of Kamailio's msilo: names of msilo_core.SiloConfig
    expire_time = 259200
"""

import difflib
import ipaddress
import math
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import msgspec

from msilo_core import Account, AuthConfig, Config, DeliveryConfig, Limits, LocalError, PathMode, SiloConfig
from msilo_core.config import Devices
from msilo_core.outbound import parse_foreign
from msilo_runners.addresses import parse_domain, parse_transport_address
from msilo_runners.errors import SettingsError

__all__ = [
    "STORE",
    "Backend",
    "Role",
    "ServerConfig",
    "Settings",
    "parse_settings",
    "read_settings",
    "with_parameters",
]

Role: TypeAlias = Literal["server", "silo"]
Backend: TypeAlias = Literal["asyncio", "trio"]

STORE: Final = "store"
"""What stands for the table ``subscriber`` where the users are named."""

S = TypeVar("S", bound=msgspec.Struct)


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What :class:`msilo_runners.Server` is told.

    Attributes:
        listen: where to listen, such as ``udp://127.0.0.1:5060``; with port 0 the system chooses one.
        storage: a storage URL, such as ``sqlite:///relative.db``, ``sqlite:////absolute/path.db``,
            ``postgresql://…`` or ``memory:``.
        role: ``server``, registrar, relay and silo in one, or ``silo``, which stores what a proxy sends it.
        route: route functions of your own, such as ``my_routes:MyRoute``, instead of those of the role; empty:
            none. For `msilo serve`; :class:`msilo_runners.Server` takes an instance.
        domains: host parts whose users are ours, names or IP addresses; empty: any, which cannot be with `users`.
        trusted: networks in CIDR form whose requests are believed; None: this machine, or nobody if there are `users`.
        users: who may log in with a password: ``store``, for the table ``subscriber``, or the name of a file; empty:
            nobody.
        auth: how they do it.
        foreign: what a MESSAGE for another domain gets: see :class:`msilo_core.Config`.
        path_mode: see :class:`msilo_core.Config`.
        expires_default_s: seconds that a binding lives which asks for no time.
        expires_min_s: less is refused.
        expires_max_s: more is shortened.
        grace_s: seconds that the end may take to finish what is under way. A live message is stored after 6 s
            without an answer, and a container is killed after 10.
        delivery: how stored messages are delivered.
        limits: bounds.
        silo: the parameters of msilo.

    Raises:
        SettingsError: a value that nobody can run with, or an address that others reach while nobody is
        trusted.
    """

    listen: tuple[str, ...] = ("udp://127.0.0.1:5060", "tcp://127.0.0.1:5060")
    storage: str = "sqlite:///msilo.db"
    role: Role = "server"
    route: str = ""
    domains: tuple[str, ...] = ()
    trusted: tuple[str, ...] | None = None
    users: str = ""
    auth: AuthConfig = AuthConfig()
    foreign: str = "404"
    path_mode: PathMode = "strict"
    expires_default_s: int = 3600
    expires_min_s: int = 60
    expires_max_s: int = 86_400
    grace_s: float = 8.0
    delivery: DeliveryConfig = DeliveryConfig()
    limits: Limits = Limits()
    silo: SiloConfig = SiloConfig()

    def __post_init__(self) -> None:
        if not self.listen:
            raise SettingsError("nowhere to listen: give a transport address such as udp://127.0.0.1:5060")
        for text in self.listen:
            parse_transport_address(text)
        for text in self.domains:
            parse_domain(text)
        for text in self.trusted or ():
            _check_network(text)
        try:
            parse_foreign(self.foreign)
            self.engine_config("")
        except LocalError as error:
            raise SettingsError(str(error)) from None
        if not (math.isfinite(self.grace_s) and self.grace_s >= 0):
            raise SettingsError(f"a grace of {self.grace_s} is out of range: give seconds, 0 or more")

    def engine_config(self, node: str) -> Config:
        """Return what the engine is told.

        Args:
            node: name of the server in leases.
        """
        # Where passwords are asked for, this machine is asked too: a proxy on it may be what all requests come by.
        by_default = () if self.users else Config().trusted
        return Config(
            node=node,
            domains=frozenset(map(parse_domain, self.domains)),
            foreign=self.foreign,
            trusted=by_default if self.trusted is None else self.trusted,
            auth=self.auth if self.users else None,
            path_mode=self.path_mode,
            expires_default_s=self.expires_default_s,
            expires_min_s=self.expires_min_s,
            expires_max_s=self.expires_max_s,
            delivery=self.delivery,
            silo=self.silo,
        )


class Settings(msgspec.Struct, frozen=True):
    """A whole settings file: the server's configuration and the event loop to run it on."""

    server: ServerConfig = ServerConfig()
    backend: Backend = "asyncio"


def read_settings(path: Path) -> Settings:
    """Read a TOML file.

    Raises:
        SettingsError: it cannot be read, is not TOML, or has a key or a value that is not known.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a text in UTF-8") from None
    try:
        return parse_settings(text)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def parse_settings(text: str) -> Settings:
    """Read the text of a TOML file; what it does not say has its default.

    Raises:
        SettingsError: as with :func:`read_settings`.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not TOML: {error}") from None
    file = _convert(_File, "", tables)
    server = file.server
    return Settings(
        ServerConfig(
            listen=server.listen,
            storage=file.storage.url,
            role=server.role,
            route=server.route,
            domains=server.domain,
            trusted=server.trust,
            users=file.auth.users,
            auth=_auth_of(file.auth),
            foreign=server.foreign,
            path_mode=server.path_mode,
            expires_default_s=server.expires_default,
            expires_min_s=server.expires_min,
            expires_max_s=server.expires_max,
            grace_s=server.grace,
            delivery=_delivery_of(file.delivery),
            limits=file.limits,
            silo=file.msilo,
        ),
        server.backend,
    )


def with_parameters(silo: SiloConfig, assignments: Iterable[str]) -> SiloConfig:
    """Return `silo` changed by assignments such as ``expire_time=3600``, the later one winning.

    The values of a list are parted by commas: ``content_types=text/plain,text/html``.

    Raises:
        SettingsError: one that is none, an unknown parameter, or a value that does not fit.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"{assignment!r} sets nothing: give PARAM=VALUE, such as expire_time=3600")
        # Blanks only: header lines end in CRLF.
        values[name.strip()] = value.strip(" ")
    return _convert(SiloConfig, "msilo.", values, base=silo, strict=False)


class _ServerTable(msgspec.Struct):
    listen: tuple[str, ...] = ServerConfig().listen
    role: Role = "server"
    route: str = ""
    backend: Backend = "asyncio"
    domain: tuple[str, ...] = ()
    trust: tuple[str, ...] | None = None
    foreign: str = ServerConfig().foreign
    path_mode: PathMode = "strict"
    expires_default: int = ServerConfig().expires_default_s
    expires_min: int = ServerConfig().expires_min_s
    expires_max: int = ServerConfig().expires_max_s
    grace: float = ServerConfig().grace_s


class _StorageTable(msgspec.Struct):
    url: str = ServerConfig().storage


class _AuthTable(msgspec.Struct):
    users: str = ServerConfig().users
    algorithms: tuple[str, ...] = AuthConfig().algorithms
    nonce_lifetime: int = AuthConfig().nonce_lifetime_s


class _DeliveryTable(msgspec.Struct):
    lease: int = DeliveryConfig().lease_s
    retry_min: int = DeliveryConfig().retry_min_s
    retry_max: int = DeliveryConfig().retry_max_s
    retry_look: int = DeliveryConfig().retry_look_s
    window: int = DeliveryConfig().window
    devices: Devices = DeliveryConfig().devices
    device_window: int = DeliveryConfig().device_window_s
    username: str = ""
    password: str = ""
    realm: str = ""


class _File(msgspec.Struct):
    server: _ServerTable = msgspec.field(default_factory=_ServerTable)
    storage: _StorageTable = msgspec.field(default_factory=_StorageTable)
    auth: _AuthTable = msgspec.field(default_factory=_AuthTable)
    delivery: _DeliveryTable = msgspec.field(default_factory=_DeliveryTable)
    limits: Limits = Limits()
    msilo: SiloConfig = SiloConfig()


_TABLES: Final = frozenset({_ServerTable, _StorageTable, _AuthTable, _DeliveryTable, Limits, SiloConfig})


def _auth_of(table: _AuthTable) -> AuthConfig:
    try:
        return AuthConfig(algorithms=table.algorithms, nonce_lifetime_s=table.nonce_lifetime)
    except LocalError as error:
        raise SettingsError(f"auth.{error}") from None


def _delivery_of(table: _DeliveryTable) -> DeliveryConfig:
    if (table.password or table.realm) and not table.username:
        raise SettingsError("delivery.username is empty: give the name that the password is of")
    try:
        return DeliveryConfig(
            lease_s=table.lease,
            retry_min_s=table.retry_min,
            retry_max_s=table.retry_max,
            retry_look_s=table.retry_look,
            window=table.window,
            devices=table.devices,
            device_window_s=table.device_window,
            account=Account(table.username, table.password, table.realm) if table.username else None,
        )
    except LocalError as error:
        raise SettingsError(f"delivery.{error}") from None


def _convert(
    kind: type[S], prefix: str, values: Mapping[str, object], *, base: S | None = None, strict: bool = True
) -> S:
    """Make a Struct of a table, key by key, so that a refusal can name the key, its value and the remedy."""
    known: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(kind)}
    converted: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            raise SettingsError(_unknown(key, prefix, known))
        wanted = known[key]
        if wanted in _TABLES:
            if not isinstance(value, dict):
                raise SettingsError(f"{key} = {_shown(value)} is not a table: write [{key}] above its keys")
            converted[key] = _convert(wanted, f"{key}.", cast("dict[str, object]", value))
            continue
        if not strict and wanted == tuple[str, ...]:
            value = [part.strip() for part in str(value).split(",")] if value else []
        try:
            converted[key] = msgspec.convert(value, wanted, strict=strict)
        except msgspec.ValidationError:
            shown = "…" if key == "password" else _shown(value)
            raise SettingsError(f"{prefix}{key} = {shown} does not fit: give {_remedy(wanted)}") from None
    try:
        return kind(**converted) if base is None else msgspec.structs.replace(base, **converted)
    except LocalError as error:
        raise SettingsError(f"{prefix}{error}") from None


def _unknown(key: str, prefix: str, known: Iterable[str]) -> str:
    if prefix == "msilo." and key == "db_url":
        return "msilo.db_url has another place here: give --storage URL, or url under [storage]"
    if prefix == "server." and key == "workers":
        return "server.workers is not for a file: give --workers N to msilo serve"
    nearest = difflib.get_close_matches(key, known, n=1)
    what = "table" if not prefix else "key"
    remedy = f"did you mean {prefix}{nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}"
    return f"{prefix}{key} is not a known {what}: {remedy}"


def _shown(value: object) -> str:
    # As the file has it, near enough: JSON writes texts, numbers, booleans and lists as TOML does.
    return msgspec.json.encode(value).decode()


def _remedy(wanted: Any) -> str:
    if typing.get_origin(wanted) is Literal:
        return " or ".join(f'"{choice}"' for choice in typing.get_args(wanted))
    return _REMEDIES[wanted]


_REMEDIES: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    tuple[str, ...]: 'a list of texts, such as ["one", "two"]',
    tuple[str, ...] | None: 'a list of texts, such as ["one", "two"]',
}


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise SettingsError(f"{text!r} is not a network: give one such as 10.0.0.0/8") from None
        raise SettingsError(f"{text!r} is an address within a network: give {network}") from None
