"""The whole server as an async context manager, for any trio or asyncio application."""

import ipaddress
import logging
import secrets
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import anyio
import msgspec

from msilo_core import (
    Address,
    Aor,
    Engine,
    LocalError,
    Route,
    ServerRoute,
    SiloConfig,
    SiloRoute,
    Statistics,
    StorageError,
)
from msilo_core.nexthop import parse_proxy
from msilo_runners.addresses import TransportAddress, parse_transport_address
from msilo_runners.batches import BatchCounts, Batches
from msilo_runners.driver import Driver, TransportStatistics, read_clock
from msilo_runners.errors import SettingsError, StartError
from msilo_runners.routes import with_log
from msilo_runners.seats import Seat
from msilo_runners.settings import STORE, ServerConfig
from msilo_storage import Storage, TableNames, UserFile, Users, open_store

__all__ = ["BatchCounts", "Server", "check", "new_node"]

logger = logging.getLogger(__name__)

IDLE_POLL_S: Final = 0.01
"""How often the end looks whether the engine has finished: it happens once in the life of a server."""

ABANDON_S: Final = 1.0
"""Time for the store to note, when the grace is over, that nobody holds the messages that phones did not answer."""

STORE_CLOSE_S: Final = 2.0
"""Time for the store to close when the application is being cancelled; a database that is down takes none."""


class Server:
    """A running server between entering and leaving::

        async with Server(config) as server:
            print(server.addresses)
            await anyio.sleep_forever()

    Leaving it stops taking new requests, waits until what is under way has ended, `grace_s` at most, and
    closes everything. When it is left because it is cancelled it ends at once; what was answered 202 is
    durable in any case. Once left, it may be entered again.

    Args:
        config: where to listen, what to serve, where to store; the defaults of :class:`ServerConfig` if None.
        route: what becomes of a request; the one of the configured role if None. What it raises is logged, and the
            request answered 500.
        seat: that of a worker, which shares the addresses with others; it has opened them. For ``msilo serve``.

    Attributes:
        addresses: where it listens, with the real ports, such as ``udp://127.0.0.1:5060``.
        users: those who can log in: the store's, or those of a file.
        store: the open store; its `list`, `find`, `requeue`, `purge` and `stats` are what ``msilo silo`` calls.
        engine: the engine, to look at. Only the server may give it input.
    """

    addresses: list[str]
    users: Users
    store: Storage
    engine: Engine

    def __init__(
        self, config: ServerConfig | None = None, route: Route | None = None, *, seat: Seat | None = None
    ) -> None:
        self._config = config if config is not None else ServerConfig()
        self._route = route
        self._seat = seat

    async def __aenter__(self) -> Self:
        """Open the store, bind the sockets, and begin.

        Raises:
            SettingsError: others can reach an address while it is not said who is trusted, there are users of no
                domain, the outbound proxy is the server itself, or the storage URL is none.
            StartError: the store cannot be opened, or an address is taken.
        """
        config = self._config
        limits = config.limits
        check(config)
        user_file = _user_file(config.users)
        seat = self._seat
        engine_config = config.engine_config(new_node() if seat is None else seat.node)
        exchange = None
        self._is_drained = False
        if seat is not None:
            engine_config = msgspec.structs.replace(engine_config, worker=seat.worker)
            exchange = seat.exchange
        self.engine = Engine(engine_config, limits, now=read_clock(), route=self._chosen_route())
        self._driver = Driver(self.engine, limits=limits, observe=self._observe, exchange=exchange)
        async with AsyncExitStack() as opened:
            opened.callback(self._driver.close)
            # First what is most often wrong, and leaves nothing behind. Datagrams wait in the socket meanwhile.
            self.addresses = [str(where) for where in self._listen()]
            self.store = await opened.enter_async_context(_Opening(config.storage, config.silo))
            self.users = self.store if user_file is None else user_file
            self._batches = Batches(self.store, self.users, self._driver.complete, rows_max=limits.batch_max)
            self._tasks = await opened.enter_async_context(anyio.create_task_group())
            self._tasks.start_soon(self._batches.run)
            await self._tasks.start(self._driver.run)
            self._opened = opened.pop_all()
        logger.info("listening on %s", " ".join(self.addresses))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """End; an exception of the body leaves as it is."""
        try:
            if exc is None or isinstance(exc, Exception):
                await self.drain()
        finally:
            self._tasks.cancel_scope.cancel()
            try:
                is_handled = await self._opened.__aexit__(exc_type, exc, traceback)
            except BaseExceptionGroup as group:
                # The task group wraps also what is not its own.
                if group.exceptions != (exc,):
                    raise
                is_handled = False
        return is_handled

    @property
    def statistics(self) -> Statistics:
        """Counters of the engine."""
        return self.engine.statistics

    @property
    def transport(self) -> TransportStatistics:
        """What the sockets saw."""
        return self._driver.statistics

    @property
    def batches(self) -> Mapping[str, BatchCounts]:
        """How well storage actions were batched, by the name of the action."""
        return self._batches.counts

    async def drain(self) -> None:
        """Take no new requests, and wait until what is under way has ended, `grace_s` at most.

        Leaving the server does it, too, if it has not been done.
        """
        if self._is_drained:
            return
        self._is_drained = True
        logger.info("ending")
        now = read_clock()
        self._driver.perform(self.engine.close(now), now)
        if not await self._becomes_idle(self._config.grace_s):
            logger.warning("some requests were still under way after %g s", self._config.grace_s)
            now = read_clock()
            if unanswered := self.engine.abandon(now):
                self._driver.perform(unanswered, now)
                await self._becomes_idle(ABANDON_S)

    def dump(self, aor: Aor | str, contact: str | None = None) -> None:
        """Begin to deliver what waits for `aor`, as its REGISTER would.

        Args:
            aor: the owner, such as ``sip:bob@example.com``.
            contact: deliver only if this Contact URI is registered; if any is, if None.

        Raises:
            ParseError: `aor` is not an address of record.
            Unavailable: the store has so much to do that nothing new is begun; it is delivered at the next REGISTER.
        """
        now = read_clock()
        self._driver.perform(self.engine.dump(aor, contact, now), now)

    async def _becomes_idle(self, within_s: float) -> bool:
        with anyio.move_on_after(within_s):
            # An event instead of looking would cost every input a test.
            while not (self.engine.is_idle and self._driver.is_flushed):  # noqa: ASYNC110  # once in the life of a server
                await anyio.sleep(IDLE_POLL_S)
            return True
        return False

    def _chosen_route(self) -> Route:
        if self._route is not None:
            return with_log(self._route)
        return with_log(SiloRoute() if self._config.role == "silo" else ServerRoute())

    def _listen(self) -> list[TransportAddress]:
        if self._seat is not None:
            return [self._driver.adopt(bound) for bound in self._seat.listening]
        return [self._bind(parse_transport_address(text)) for text in self._config.listen]

    def _bind(self, where: TransportAddress) -> TransportAddress:
        try:
            return self._driver.bind(where)
        except OSError as error:
            raise StartError(f"cannot listen on {where}: {error.strerror}") from None

    def _observe(self, action: object) -> None:
        self._batches.put(action)


def new_node() -> str:
    """Return a name that tells the leases of this run from those of any other, also after a restart."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


def check(config: ServerConfig) -> None:
    """Refuse what nobody should serve with.

    Raises:
        SettingsError: others can reach an address while it is not said who is trusted, there are users of no domain,
            or the outbound proxy is the server itself.
    """
    _check_doors(config)
    _check_proxy(config)


class _Opening:
    """A store that opens with a :class:`StartError`, and closes also while everything is being cancelled."""

    def __init__(self, url: str, silo: SiloConfig) -> None:
        try:
            self._store = open_store(url, names=TableNames.of(silo))
        except LocalError as error:
            raise SettingsError(str(error)) from None

    async def __aenter__(self) -> Storage:
        try:
            return await self._store.__aenter__()
        except LocalError as error:
            raise SettingsError(str(error)) from None
        except StorageError as error:
            raise StartError(str(error)) from None

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(STORE_CLOSE_S, shield=True):
            await self._store.__aexit__(exc_type, exc, traceback)


def _check_doors(config: ServerConfig) -> None:
    # Whoever is trusted may open any mailbox, so that nobody but this machine is by default.
    open_to_others = [text for text in config.listen if not parse_transport_address(text).is_loopback]
    if open_to_others and not config.trusted and not config.users:
        raise SettingsError(
            f"{open_to_others[0]} can be reached by others, and it is not said who is trusted: give --trust CIDR or "
            '--users store, or trust = ["CIDR"] under [server] or users = "store" under [auth]'
        )
    # Where every host is ours, whoever has a password may store for anybody anywhere.
    if config.users and not config.domains:
        raise SettingsError(
            "users log in to the domain that they belong to, and it is not said which are ours: give --domain NAME, "
            'or domain = ["NAME"] under [server]'
        )


def _check_proxy(config: ServerConfig) -> None:
    # What comes out of a silo is not taken by one, so that nothing stored would ever be delivered.
    if not config.silo.outbound_proxy:
        return
    proxy = parse_proxy("outbound_proxy", config.silo.outbound_proxy)
    host = ipaddress.ip_address(proxy.address[0])
    for where in map(parse_transport_address, config.listen):
        own = ipaddress.ip_address(where.host)
        if (where.transport, where.port) != (proxy.transport, proxy.address[1]):
            continue
        if own == host or (own.is_unspecified and own.version == host.version and _is_here(proxy.address)):
            raise SettingsError(
                f"outbound_proxy = {config.silo.outbound_proxy!r} is this server itself: leave it out, and what is "
                "stored goes to the contacts of its owner"
            )


def _is_here(address: Address) -> bool:
    """Say whether an address is one of this machine's: what goes there leaves from it."""
    host = ipaddress.ip_address(address[0])
    if host.is_loopback:
        return True
    try:
        with socket.socket(socket.AF_INET if host.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            # Nothing is sent.
            probe.connect(address)
            return ipaddress.ip_address(probe.getsockname()[0]) == host
    except OSError:
        # No way there, or no such family on this machine.
        return False


def _user_file(users: str) -> UserFile | None:
    if users in ("", STORE):
        return None
    file = UserFile(users)
    try:
        file.load()
    except StorageError as error:
        raise StartError(str(error)) from None
    return file
