"""Our settings, made of what a ``kamailio.cfg`` says.

Nothing is guessed silently. What was carried over names the line that it came from, what could not be is a comment that
says why, and where Kamailio does otherwise by default, its default is written out.
"""

import ipaddress
import json
import re
import textwrap
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from msilo_core import LocalError, SiloConfig
from msilo_core.nexthop import parse_proxy
from msilo_runners.addresses import parse_domain, parse_transport_address
from msilo_runners.errors import SettingsError
from msilo_runners.kamailio.preprocessor import Define, Defines, Place, posix_pattern
from msilo_runners.kamailio.statements import Address, Named, Parameter, Statements, parse_statements
from msilo_runners.kamailio.tokens import Tokens
from msilo_runners.logs import printable
from msilo_storage import redact

__all__ = ["Imported", "import_kamailio"]


class Imported(msgspec.Struct, frozen=True):
    """What became of a file.

    Attributes:
        text: our settings, in TOML.
        carried: settings that were carried over.
        left: those that were not.
    """

    text: str
    carried: int
    left: int


def import_kamailio(
    path: Path, *, defines: Mapping[str, Define], environ: Mapping[str, str], zone: tuple[str, str] | None
) -> Imported:
    """Make our settings of a ``kamailio.cfg``.

    Args:
        path: the file.
        defines: names that Kamailio is started with (``-A``).
        environ: the environment, for ``#!defenv`` and ``$env``.
        zone: the time zone that Kamailio works in, and what told it; None: not known.

    Raises:
        SettingsError: the file or one that it includes cannot be read, or not be understood. The text has file and
            line.
    """
    tokens = Tokens(path, defines, environ)
    statements = parse_statements(tokens)
    conversion = _Conversion(str(path), statements, tokens.notes, tokens.defines, zone)
    return Imported(conversion.run(), conversion.carried, conversion.left)


NOT_CARRIED: Final = "not carried over"

_WIDTH: Final = 118
_TEXTS: Final = frozenset({
    "db_url", *[name for name, default in msgspec.structs.asdict(SiloConfig()).items() if isinstance(default, str)],
})  # fmt: skip
_OURS: Final = frozenset(
    {"reminder_sender", "time_zone", "content_types", "imdn", "max_bytes", "max_messages_per_sender"}
)
_PARAMETERS: Final = frozenset({"db_url", *SiloConfig.__struct_fields__}) - _OURS

ROLE: Final = (
    "msilo in Kamailio's place: registrar, relay and silo in one. If Kamailio stays, and sends here what is for people "
    'who are away, write "silo", another address to listen on, and trust = ["CIDR"] with Kamailio\'s.'
)
DOORS: Final = (
    "Before others than this machine can be served, say who may: the networks that are believed, trust = "
    '["192.0.2.0/24"], or people with passwords, users = "store" under [auth].'
)
UNSET_LISTEN: Final = (
    'listen is not set: Kamailio then listens on every address of the machine. For that write ["udp://0.0.0.0:PORT", '
    '"tcp://0.0.0.0:PORT"]; here it is this machine alone.'
)
UNSET_DOMAIN: Final = (
    "No alias is set and no address to listen on could be carried over. Empty is any domain, which suits trusted "
    "senders only: name yours."
)
AUTO_ALIASES: Final = (
    "Unless auto_aliases = no, Kamailio also takes for its own what the DNS calls its addresses by. Here only those "
    "count that are named."
)
UNSET_DB_URL: Final = (
    "db_url is not set: Kamailio's default is a MySQL on this machine, which is not supported. This is a new file."
)
OTHER_DATABASE: Final = "This is a new file: what waits in Kamailio's database is not in it."
PASSWORD: Final = "The URL holds a password: keep this file from others."
NO_MSILO: Final = "The module msilo is not loaded in this file, nor is there a parameter of it."

PLACE: Final = (
    "it is Kamailio itself, whose place msilo takes: what is stored goes to the contacts of its owner. Where Kamailio "
    "stays, write it as it is"
)


ROUTES: Final = (
    "Here a MESSAGE for somebody who is away is stored, and a REGISTER brings its delivery, without a route that says "
    "so. What else the routes decide is for a route function in Python."
)


class _Conversion:
    def __init__(
        self,
        path: str,
        statements: Statements,
        notes: list[tuple[Place, str]],
        defines: Defines,
        zone: tuple[str, str] | None,
    ) -> None:
        self.carried = 0
        self.left = 0
        self._path = path
        self._said = statements
        self._notes = notes
        self._defines = defines
        self._zone = zone
        self._lines: list[str] = []
        self._listens: Mapping[str, object] = {}
        # Parameters that are given again further on, each with the later one.
        self._replaced: list[tuple[Parameter, Parameter]] = []

    def run(self) -> str:
        self._comment(f"Made by msilo config import-kamailio from {self._path}, which stays as it is.")
        self._comment(f'What could not be taken from there says "{NOT_CARRIED}".')
        for place, note in self._notes:
            self._comment(f"{place}: {note}.")
        parameters = self._own_parameters()
        if not parameters and all(module.name != "msilo" for module in self._said.modules):
            self._comment(NO_MSILO)
        self._server()
        self._storage(parameters.pop("db_url", None))
        self._auth()
        self._silo(parameters)
        self._rest()
        return "\n".join(self._lines) + "\n"

    # -- Lines ---------------------------------------------------------------------------------------------------------

    def _comment(self, text: str) -> None:
        self._lines += textwrap.wrap(
            printable(text), _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip

    def _table(self, name: str) -> None:
        self._lines += ["", f"[{name}]"]

    def _set(self, key: str, value: str | int, source: object = "") -> None:
        self._lines.append(f"{key} = {_toml(value)}" + (f"  # {printable(str(source))}" if source else ""))

    def _list(self, key: str, values: Mapping[str, object]) -> None:
        self._lines.append(f"{key} = [")
        self._lines += [f"    {_toml(value)},  # {printable(str(source))}" for value, source in values.items()]
        self._lines.append("]")

    def _leave(self, place: Place, what: str, why: str) -> None:
        self.left += 1
        self._comment(f"{NOT_CARRIED}: {place}: {what}: {why}")

    # -- [server] ------------------------------------------------------------------------------------------------------

    def _server(self) -> None:
        self._table("server")
        self._comment(ROLE)
        self._set("role", "server")
        listen = self._listens = self._listen()
        self._domain(listen)
        if any(not parse_transport_address(uri).is_loopback for uri in listen):
            self._comment(DOORS)
            self._lines += ['# trust = ["192.0.2.0/24"]']

    def _listen(self) -> dict[str, object]:
        uris: dict[str, object] = {}
        before = self.left
        for address in self._said.listen:
            found = self._uris(address)
            for uri in found:
                uris.setdefault(uri, address.place)
            self.carried += bool(found)
        if uris:
            self._list("listen", uris)
            return uris
        if self.left == before:
            self._comment(UNSET_LISTEN.replace("PORT", str(self._port)))
        self._lines.append(f"listen = {json.dumps([f'{transport}://127.0.0.1:{self._port}' for transport in _BOTH])}")
        return {}

    @property
    def _port(self) -> int:
        port, _ = self._said.numbers.get("port", (0, None))
        return port or 5060

    def _uris(self, address: Address) -> list[str]:
        what = f"listen = {address.text}"
        if address.unknown or not address.host:
            self._leave(address.place, what, address.unknown or "this is no address that can be listened on here")
            return []
        if address.more:
            self._leave(address.place, address.more, "there is nothing like it here")
        host = f"[{address.host}]" if ":" in address.host else address.host
        uris: list[str] = []
        for transport in (address.transport,) if address.transport else _BOTH:
            uri = f"{transport}://{host}:{address.port or self._port}"
            no_tcp, where = self._said.numbers.get("disable_tcp", (0, address.place))
            if transport == "tcp" and no_tcp:
                if address.transport:
                    self._leave(address.place, what, f"disable_tcp at {where}")
                continue
            try:
                uris.append(str(parse_transport_address(uri)))
            except SettingsError as error:
                self._leave(address.place, what, str(error))
                break
        return uris

    def _domain(self, listen: Mapping[str, object]) -> None:
        domains: dict[str, object] = {}
        for alias in self._said.aliases:
            why = alias.unknown or _why_no_domain(alias.host)
            if why:
                self._leave(alias.place, f"alias = {alias.text}", why)
                continue
            self.carried += 1
            narrower = f", {alias.text} there: a domain is served at every port" if alias.text != alias.host else ""
            domains.setdefault(_host(alias.host), f"{alias.place}{narrower}")
        for uri, place in listen.items():
            host = parse_transport_address(uri).host
            if not ipaddress.ip_address(host).is_unspecified:
                domains.setdefault(_host(host), f"{place}, for Kamailio takes for its own what it listens on")
        if domains and self._said.numbers.get("auto_aliases", (1, None))[0]:
            self._comment(AUTO_ALIASES)
        tables = [module for module in self._said.modules if module.name == "domain"]
        for module in tables:
            self._leave(module.place, "module domain", "domains that are in its table must be named here")
        if domains:
            self._list("domain", domains)
        else:
            self._comment(UNSET_DOMAIN)
            self._lines += ["domain = []"]

    # -- [storage], [auth] ---------------------------------------------------------------------------------------------

    def _storage(self, given: Parameter | None) -> None:
        self._table("storage")
        if given is None:
            self._comment(UNSET_DB_URL)
            self._set("url", NEW_FILE)
            return
        url, why = "", _refusal(given)
        if not why:
            url, why = _storage_url(str(given.value))
        if why:
            self._leave_parameter(given, why)
            self._comment(OTHER_DATABASE)
            self._set("url", NEW_FILE)
            return
        if redact(url) != url:
            self._comment(PASSWORD)
        if url.startswith("sqlite:"):
            self._comment(
                "A file that Kamailio made is looked over first: msilo db check --storage URL says whether it is as it "
                "must be."
            )
        self.carried += 1
        self._set("url", url, given.place)

    def _auth(self) -> None:
        loaded = [module for module in self._said.modules if module.name == "auth_db"]
        if not loaded:
            return
        self._lines.append("")
        self._leave(
            loaded[0].place, "module auth_db",
            'its users can log in here, if its table subscriber is in the database above, with users = "store" under '
            "[auth]: the hashes in the column ha1 are used, and passwords in clear text are not.",
        )  # fmt: skip
        self._lines += ["# [auth]", '# users = "store"']

    # -- [msilo] -------------------------------------------------------------------------------------------------------

    def _own_parameters(self) -> dict[str, Parameter]:
        """Return the parameters of msilo by name; what is given twice counts as it was given last."""
        found: dict[str, Parameter] = {}
        for parameter in self._said.parameters:
            if _is_for(parameter, "msilo"):
                earlier = found.pop(parameter.name, None)
                if earlier is not None:
                    self._replaced.append((earlier, parameter))
                found[parameter.name] = self._evaluated(parameter)
        return found

    def _evaluated(self, parameter: Parameter) -> Parameter:
        if not parameter.evaluated or isinstance(parameter.value, int):
            return parameter
        value, why = self._defines.evaluate(parameter.value)
        return msgspec.structs.replace(parameter, value=value, unknown=parameter.unknown or why)

    def _leave_parameter(self, parameter: Parameter, why: str) -> None:
        self.left += 1
        self._comment(f"{NOT_CARRIED}: {parameter.place}: {why}")
        self._lines.append(f"# {printable(_shown(parameter))}")

    def _silo(self, found: Mapping[str, Parameter]) -> None:
        self._table("msilo")
        for earlier, later in self._replaced:
            self._leave_parameter(earlier, f"it has another value at {later.place}")
        for parameter in self._said.parameters:
            if _is_for(parameter, "msilo") is None:
                self._leave_parameter(parameter, f"the expression {parameter.modules!r} for modules is not understood")
        refused = {name: why for name, parameter in found.items() if (why := _refusal(parameter))}
        refused |= _refused({name: parameter.value for name, parameter in found.items() if name not in refused})
        proxy = found.get("outbound_proxy")
        if proxy is not None and "outbound_proxy" not in refused and self._is_kamailio(str(proxy.value)):
            refused["outbound_proxy"] = PLACE
        for name, parameter in found.items():
            if name in refused:
                self._leave_parameter(parameter, refused[name])
            else:
                self.carried += 1
                self._set(name, parameter.value, parameter.place)
        if "add_date" not in found or "add_date" in refused:
            self._set("add_date", 1, "Kamailio's default, ours is 0")
        if self._zone is None:
            self._comment(
                "Kamailio works in the time zone of its machine, which could not be told. Here it is UTC until another "
                "is named:"
            )
            self._lines.append('# time_zone = "Europe/Rome"')
        else:
            zone, source = self._zone
            self._set("time_zone", zone, f"of this machine, by {source}; Kamailio has that of its own")

    def _is_kamailio(self, proxy: str) -> bool:
        if not proxy:
            return False
        hop = parse_proxy("outbound_proxy", proxy)
        listen = map(parse_transport_address, self._listens)
        return any(
            (where.transport, ipaddress.ip_address(where.host), where.port)
            == (hop.transport, ipaddress.ip_address(hop.address[0]), hop.address[1])
            for where in listen
        )

    # -- The rest ------------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        said = self._said
        self._lines.append("")
        for strange in said.strange:
            self._leave(strange.place, strange.name, "this is not understood")
        self._comment(f"The rest of {self._path}, with its lines, which is {NOT_CARRIED}:")
        self._names("routes", said.routes)
        self._names("modules that are loaded", said.modules)
        others: dict[str, list[Named]] = {}
        for parameter in said.parameters:
            if _is_for(parameter, "msilo") is False:
                others.setdefault(parameter.modules, []).append(Named(parameter.name, parameter.place))
        for modules, parameters in others.items():
            self._names(f"parameters of {modules}", parameters)
        numbers = [Named(name, place) for name, (_, place) in said.numbers.items() if name == "enable_tls"]
        self._names("core", [*said.core, *numbers])
        if said.calls:
            calls = [Named(call.function, call.place) for call in said.calls]
            self._names("functions of msilo that the routes call", calls)
            self._comment(ROUTES)

    def _names(self, what: str, found: Iterable[Named]) -> None:
        names = [f"{named.name} ({self._line(named.place)})" for named in found]
        if names:
            self._comment(f"{what}: {', '.join(names)}")

    def _line(self, place: Place) -> str:
        return str(place.line) if place.file == self._path else str(place)


_BOTH: Final = ("udp", "tcp")
NEW_FILE: Final = "sqlite:///msilo.db"


def _toml(value: str | int) -> str:
    # JSON's strings are TOML's, but for DEL.
    return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _why_no_domain(host: str) -> str:
    """Return what is said of a host that is no domain; empty for one that is."""
    try:
        parse_domain(_host(host))
    except SettingsError as error:
        return str(error)
    return ""


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _shown(parameter: Parameter) -> str:
    value = str(parameter.value)
    if parameter.name == "db_url":
        value = redact(value)
    if isinstance(parameter.value, str) and not parameter.unknown:
        value = _toml(value)
    return f"{parameter.name} = {value}"


def _is_for(parameter: Parameter, module: str) -> bool | None:
    """Whether a ``modparam`` is for a module, which it names by an expression for the whole name; None: not known."""
    pattern = posix_pattern(parameter.modules, ignore_case=True)
    return None if pattern is None else pattern.fullmatch(module) is not None


def _refusal(parameter: Parameter) -> str:
    """Return why a parameter is nothing that Kamailio's msilo takes, or not known; empty: it is."""
    if parameter.unknown:
        return parameter.unknown
    if parameter.name not in _PARAMETERS:
        return "msilo has no such parameter"
    if isinstance(parameter.value, str):
        if parameter.name not in _TEXTS:
            return "Kamailio wants a number"
        try:
            parameter.value.encode()
        except UnicodeEncodeError:
            return "it is not UTF-8"
        return "it holds a NUL" if "\0" in parameter.value else ""
    return "Kamailio wants a text" if parameter.name in _TEXTS else ""


def _refused(values: dict[str, str | int]) -> dict[str, str]:
    """Return which of the values nobody can run with, and why: as few of them as make the rest good."""
    refused: dict[str, str] = {}
    left = dict(values)
    while True:
        try:
            msgspec.structs.replace(SiloConfig(), **left)
        except LocalError as error:
            why = str(error)
            # The text names the parameter first. Where that is one that was not given, it is another in the text.
            named = [word for word in re.findall(r"\w+", why) if word in left]
            name = named[0] if named else next(reversed(left))
            refused[name] = why
            del left[name]
        else:
            return refused


def _storage_url(url: str) -> tuple[str, str]:
    """Return the storage URL of a database URL of Kamailio's, or why there is none."""
    scheme, colon, rest = url.partition("://")
    # The name of a module may stand for that of the scheme.
    kind = scheme.removeprefix("db_")
    if not colon:
        return "", "this is no database URL"
    if kind == "sqlite":
        if not rest.startswith("/"):
            return "", "this is no absolute path: where it is depends on where Kamailio was started"
        return f"sqlite:////{rest.lstrip('/')}", ""
    if kind != "postgres":
        return "", f"{kind} is not supported: msilo has PostgreSQL and SQLite"
    match = _DATABASE.fullmatch(rest)
    if match is None:
        return "", "this is no database URL"
    # Kamailio takes what stands there as it is, and a URL has escapes.
    login = "".join([
        urllib.parse.quote(match["user"] or "", safe=""),
        ":" + urllib.parse.quote(match["password"], safe="") if match["password"] is not None else "",
        "@" if match["user"] is not None else "",
    ])  # fmt: skip
    return f"postgresql://{login}{match['host']}/{match['database']}", ""


_DATABASE: Final = re.compile(
    r"(?:(?P<user>[^:/]*)(?::(?P<password>.*))?@)?"
    r"(?P<host>(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]*)(?::\d{1,5})?)/(?P<database>[\w.-]+)",
    re.ASCII | re.DOTALL,
)
