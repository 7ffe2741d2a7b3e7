"""Connections to PostgreSQL that survive it: lost ones are replaced, and nothing waits for a server that is away.

A :class:`Lane` holds one connection, and its calls take turns. It is not a pool: asyncpg's sends a query to reset a
connection whenever it is given back, which costs nearly as much as what we use it for.

Every call ends within a bounded time, in one of these ways:

- It is done.
- The connection turns out to be lost: the call is made again, once, on a new one. All calls of the store bear that.
- A deadlock, or a serialisation failure: it is made again, a few times.
- No answer in time, as from a frozen server: the connection is cut and the call fails.
- No connection can be had: the call fails, and for a while, growing from a tenth of a second to some seconds, so does
  every other at once. After that one call tries again while the others still fail, so that nothing piles up behind a
  server that is away. When it is back that call finds out; nothing need be restarted.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Final, TypeAlias, TypeVar

import asyncpg

from msilo_core.errors import Full, LocalError, SchemaError, StorageError, Unavailable
from msilo_storage.rules import RowError
from msilo_storage.urls import redact

__all__ = ["Connection", "Connector", "Lane", "transaction"]

T = TypeVar("T")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# A restart of a server takes about a second, a failover some: nobody should wait much longer than that.
_BACKOFF_MIN_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0

# Each time PostgreSQL takes a second to find a deadlock, and breaks the circle at one call at least.
_CONFLICT_PAUSE_S: Final = 0.05
_CONFLICTS_MAX: Final = 3

_CLOSE_TIMEOUT_S: Final = 2.0

# How long a plan is used. One that was made when PostgreSQL had just analysed a table of a few rows reads all of it,
# however many there are by now, until the table is analysed again: a minute later, or never. To plan a statement takes
# a millisecond or two.
_PLAN_S: Final = 5

# How much later than the server's own limit ours cuts the connection: a server that lives answers first.
_WATCHDOG_MARGIN_S: Final = 0.5


class Connector:
    """Makes connections to the hosts of one URL.

    Args:
        url: as asyncpg takes it. Of several hosts each is tried in turn with a time limit of its own, beginning with
            the one that was taken last: asyncpg's limit is for all together, so that one host that swallows packets
            would hide the others.
        name: the application name that PostgreSQL shows, unless the URL has one.
        timeout_s: for each host.

    Raises:
        LocalError: the URL cannot be read.
    """

    def __init__(self, url: str, *, name: str, timeout_s: float) -> None:
        self._urls = _one_for_each_host(url)
        self._name = name
        self._timeout_s = timeout_s

    async def connect(self, statement_timeout_s: float) -> Connection:
        """Return a new connection whose statements the server gives up after `statement_timeout_s`.

        Raises:
            Unavailable: no host answers as it should.
            SchemaError: the database does not exist, or we may not use it.
            LocalError: the URL cannot be read, or asyncpg does not understand what it says.
        """
        failure: StorageError | None = None
        for url in tuple(self._urls):
            try:
                connection = await self._connect(url, statement_timeout_s)
            except asyncpg.ClientConfigurationError as error:
                raise LocalError(f"{_text(error)}: mend the URL {redact(url)}") from None
            except TimeoutError:
                failure = Unavailable(f"PostgreSQL did not answer within {self._timeout_s:g} s: {_is_it_up(url)}")
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                if _kind(error) is _Kind.SCHEMA:
                    failure = SchemaError(f"{_text(error)}: mend that there, or the URL {redact(url)}")
                elif isinstance(error, OSError):
                    failure = Unavailable(f"{_text(error)}: {_is_it_up(url)}")
                else:
                    failure = Unavailable(f"{_text(error)}: try again, or see the log of the server of {redact(url)}")
            except ValueError:
                # What it says may be a piece of a password that was taken for something else.
                raise LocalError(_unreadable(url)) from None
            else:
                self._urls.remove(url)
                self._urls.insert(0, url)
                return connection
        assert failure is not None
        raise failure

    async def _connect(self, url: str, statement_timeout_s: float) -> Connection:
        async with asyncio.timeout(self._timeout_s):
            connection = await asyncpg.connect(url, max_cached_statement_lifetime=_PLAN_S)
            try:
                settings = _settings(self._name, statement_timeout_s)
                await connection.execute(_SET, list(settings), list(settings.values()))
            except BaseException:
                connection.terminate()
                raise
        return connection


class Lane:
    """One connection, made when it is needed, and the calls that take turns on it in the order in which they come.

    Args:
        connector: makes the connection.
        timeout_s: for each call, once its turn has come and there is a connection.
    """

    def __init__(self, connector: Connector, timeout_s: float) -> None:
        self._connector = connector
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._is_closing = False
        # Set while no connection can be had: why, how long the wait is at present, and until when it lasts.
        self._down: StorageError | None = None
        self._backoff_s = 0.0
        self._retry_at_s = 0.0

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Await ``work(connection)``; see the head of this file for what happens when it fails.

        Args:
            work: may be called again, and must bear that its last call was carried out.

        Raises:
            RowError: the database does not take the data.
            StorageError: the call failed otherwise.
        """
        if self._down is not None and self._turn.locked():
            raise self._fresh(self._down)
        async with self._turn:
            losses = conflicts = 0
            while True:
                connection = await self._connected()
                try:
                    return await self._bounded(connection, work)
                except _LostError as error:
                    losses += 1
                    if losses > 1:
                        raise self._went_down(Unavailable(str(error))) from error
                except _ConflictError as error:
                    conflicts += 1
                    if conflicts >= _CONFLICTS_MAX:
                        raise Unavailable(str(error)) from error
                    # Whoever was in the way has what it waited for, if it is left the time to take it.
                    await asyncio.sleep(conflicts * _CONFLICT_PAUSE_S)

    async def close(self) -> None:
        """Close the connection after the calls that came before; cut it if they, or it, take too long."""
        self._is_closing = True
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S), self._turn:
                if self._connection is not None:
                    await self._connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if self._connection is not None:
                self._connection.terminate()
            # What was under way ends with the connection.
            async with self._turn:
                pass

    async def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._is_closing:
            raise Unavailable("the store is being closed")
        if self._down is not None and asyncio.get_running_loop().time() < self._retry_at_s:
            raise self._fresh(self._down)
        try:
            self._connection = await self._connector.connect(self._timeout_s)
        except StorageError as error:
            raise self._went_down(error) from error.__cause__
        self._down = None
        self._backoff_s = 0.0
        return self._connection

    async def _bounded(self, connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Await ``work(connection)``; cut the connection when time is up or its state is not known."""
        loop = asyncio.get_running_loop()
        # Not a cancellation: asyncpg would answer that by asking the server, over a new connection, to cancel, and wait
        # for a server that may be frozen. A connection that is cut ends whatever waits for it, at once.
        watchdog = loop.call_later(self._timeout_s + _WATCHDOG_MARGIN_S, connection.terminate)
        try:
            return await work(connection)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if loop.time() >= watchdog.when():
                connection.terminate()
                raise self._went_down(Unavailable(f"PostgreSQL did not answer within {self._timeout_s:g} s")) from error
            kind = _kind(error)
            if kind is _Kind.LOST:
                connection.terminate()
            raise _OUTCOMES[kind](_text(error)) from error
        except asyncio.CancelledError:
            connection.terminate()
            raise
        finally:
            watchdog.cancel()

    def _went_down(self, error: StorageError) -> StorageError:
        self._down = error
        self._backoff_s = min(max(2 * self._backoff_s, _BACKOFF_MIN_S), _BACKOFF_MAX_S)
        self._retry_at_s = asyncio.get_running_loop().time() + self._backoff_s
        return error

    @staticmethod
    def _fresh(error: StorageError) -> StorageError:
        # One instance raised by many would gather all their tracebacks.
        return type(error)(*error.args)


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncGenerator[None]:
    """Commit what the body does, or nothing of it.

    Raises:
        Unavailable: the connection was lost while committing; nobody knows, and it must not be done again.
    """
    await connection.execute("BEGIN")
    try:
        yield
    except Exception:
        await connection.execute("ROLLBACK")
        raise
    try:
        await connection.execute("COMMIT")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if _kind(error) is not _Kind.LOST:
            raise
        raise Unavailable(f"{_text(error)}; the last change may have been made") from error


# What an error of the driver means


class _LostError(Exception):
    """The connection is gone, or to a server that is no longer the primary one."""


class _ConflictError(Exception):
    """The statement met another one, or a change of the schema; made again it may work."""


class _Kind(Enum):
    LOST = auto()
    CONFLICT = auto()
    ROW = auto()
    FULL = auto()
    SCHEMA = auto()
    OTHER = auto()


_OUTCOMES: Final[dict[_Kind, type[Exception]]] = {
    _Kind.LOST: _LostError,
    _Kind.CONFLICT: _ConflictError,
    _Kind.ROW: RowError,
    _Kind.FULL: Full,
    _Kind.SCHEMA: SchemaError,
    _Kind.OTHER: Unavailable,
}

# Of SQLSTATE (PostgreSQL documentation, appendix A) the longest beginning that is listed counts.
_KINDS: Final = {
    "08": _Kind.LOST,  # connection exception
    "0A000": _Kind.CONFLICT,  # a cached plan no longer fits the table; the driver has forgotten it now
    "22": _Kind.ROW,  # data exception
    "23": _Kind.ROW,  # integrity constraint violation
    "25006": _Kind.LOST,  # read-only: this host has become a standby
    "25P03": _Kind.LOST,  # idle in transaction for too long
    "28": _Kind.SCHEMA,  # invalid authorization
    "3D": _Kind.SCHEMA,  # no such database
    "3F": _Kind.SCHEMA,  # no such schema
    "40": _Kind.CONFLICT,  # serialisation failure, deadlock
    "42": _Kind.SCHEMA,  # undefined table or column, insufficient privilege
    "53100": _Kind.FULL,  # disk full
    "54": _Kind.ROW,  # program limit exceeded, as by an index entry
    "57P": _Kind.LOST,  # the server shuts down, or an administrator ended the connection
}


def _kind(error: Exception) -> _Kind:
    if isinstance(error, asyncpg.DataError):
        # The driver could not encode a value: nothing was sent.
        return _Kind.ROW
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        for length in (5, 3, 2):
            if kind := _KINDS.get(state[:length]):
                return kind
        return _Kind.OTHER
    if isinstance(error, asyncpg.OutdatedSchemaCacheError):
        return _Kind.CONFLICT
    # OSError and InterfaceError: the connection is closed or breaks.
    return _Kind.LOST


def _is_it_up(url: str) -> str:
    return f"is the server of {redact(url)} up?"


def _unreadable(url: str) -> str:
    return (
        f"PostgreSQL: {redact(url)} cannot be read: in a name or a password write %40, %2F, %3F and %23 in place of "
        "@, /, ? and #, and the port in digits"
    )


def _text(error: Exception) -> str:
    # Further lines hold details and hints, and perhaps data of a message.
    lines = str(error).splitlines() or [type(error).__name__]
    return f"PostgreSQL: {lines[0]}"


# Connection settings


# Only those that the server knows: what speaks PostgreSQL's protocol need not have them all.
_SET: Final = """
    SELECT set_config(given.name, given.value, false)
    FROM unnest($1::text[], $2::text[]) AS given (name, value) JOIN pg_settings USING (name)
    WHERE given.name <> 'application_name' OR pg_settings.setting = ''
"""


def _settings(name: str, statement_timeout_s: float) -> dict[str, str]:
    timeout_ms = str(round(statement_timeout_s * 1000))
    return {
        "application_name": name,
        # What the watchdog gives up must not go on in the server, once for each attempt, until no connection is left.
        "statement_timeout": timeout_ms,
        # A node that dies between two statements must not keep others from the rows that it locked.
        "idle_in_transaction_session_timeout": timeout_ms,
        # Every statement of ours finds its rows by an index. A plan made while the table is small would scan it, and
        # be used for a while when there are thousands of rows.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        # A plan for the values of one call would look better and be no other: it saves planning each call anew.
        "plan_cache_mode": "force_generic_plan",
    }


def _one_for_each_host(url: str) -> list[str]:
    """Return a URL for each host of one with several: ``//user:secret@one:5432,two:5432/database``."""
    scheme, slashes, rest = url.partition("//")
    end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    userinfo, at, hosts = rest[:end].rpartition("@")
    if "@" in userinfo:
        # For asyncpg the host begins behind the first.
        raise LocalError(_unreadable(url))
    return [f"{scheme}{slashes}{userinfo}{at}{host}{rest[end:]}" for host in hosts.split(",")]
