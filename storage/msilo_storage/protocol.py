"""The storage protocol: everything in batches, each batch one transaction.

A store takes the core's storage actions and returns its completions, one for each action in the same order.
An action whose own data cannot be kept is answered :class:`msilo_core.StorageFailed` and harms no other; when
a batch as a whole cannot be carried out a :class:`msilo_core.StorageError` is raised. What was under way may
then have happened, and doing it again does no harm: a message is recognised by (owner, Call-ID, CSeq, From
tag), a lease by its name.

Every method may be cancelled. What it began is then finished or rolled back behind the caller's back, in that
order of preference; nothing is left half done, and the store stays usable. Calls may be made at the same time
from any number of tasks of the event loop that the store was opened in; those of one method are carried out
in the order in which they were made.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import msgspec

from msilo_core.actions import (
    Bind,
    Bound,
    Due,
    Dump,
    Dumped,
    Expire,
    Expired,
    FindUser,
    LookedUp,
    LookUp,
    Message,
    Refused,
    Remind,
    Renew,
    Renewed,
    Retry,
    Settle,
    Settled,
    StorageFailed,
    Store,
    Stored,
    Unbind,
    Unbound,
    UserFound,
)
from msilo_core.uri import Aor
from msilo_core.users import User
from msilo_storage.operators import SWEEP_ROWS_MAX, Entry, Sweep, Totals

__all__ = ["Storage", "StorageReport", "Users"]


class StorageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What :meth:`Storage.check` found in a sound store.

    Attributes:
        url: the storage URL without a password.
        version: version of the ``silo`` table, 8 as Kamailio's.
        messages: rows that wait for delivery.
        deferred: those of them that are for a time of their own (``snd_time``).
        dead: rows that were set aside.
        bindings: registered contacts that are alive or not yet expired from the table.
        users: those who can log in.
    """

    url: str
    version: int
    messages: int
    deferred: int
    dead: int
    bindings: int
    users: int


class Users(Protocol):
    """Those who can log in: the table ``subscriber`` of a store, or a file.

    Raises (by every method): as :class:`Storage`.
    """

    async def find_users(self, finds: Sequence[FindUser]) -> list[UserFound | StorageFailed]:
        """Find users with their HA1s, many in one query."""
        ...

    async def add_user(self, user: User) -> bool:
        """Add a user, or replace the HA1s of the one that is there; say whether it is a new one."""
        ...

    async def remove_user(self, owner: Aor) -> bool:
        """Remove a user; say whether there was one."""
        ...

    async def list_users(self, *, after: Aor | None = None, limit: int = 100) -> list[User]:
        """Return users in the order of domain and name, for an operator.

        Args:
            after: only those behind this one, to page on.
            limit: at most so many.
        """
        ...


class Storage(Users, Protocol):
    """Messages, bindings and users, kept. An async context manager: entering opens the database, leaving closes it.

    Raises (on entering):
        SchemaError: the tables are missing or not ours; the text names the remedy.
        Unavailable: the database cannot be reached.

    Raises (by every method):
        Unavailable: the database does not answer; what was asked for may have happened or not.
        Full: there is no room.
        SchemaError: the database is not what it was when it was opened.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def append(self, stores: Sequence[Store]) -> list[Stored | Refused | StorageFailed]:
        """Keep messages; return when they are durable. One statement, one commit, whatever the number.

        Numbers ascend in the order of `stores`. A repeat, of an earlier call or within `stores`, gets the
        number of the row that is there, also where the inbox is full. No inbox gets fuller than its bound, however
        many servers store at the same time.
        """
        ...

    async def look_up(self, lookups: Sequence[LookUp]) -> list[LookedUp | StorageFailed]:
        """Find the live bindings of many owners in one query."""
        ...

    async def bind(self, binds: Sequence[Bind]) -> list[Bound | Refused | StorageFailed]:
        """Carry out REGISTERs in order, two of the same owner included, and return when they are durable."""
        ...

    async def unbind(self, unbinds: Sequence[Unbind]) -> list[Unbound | StorageFailed]:
        """Remove bindings that lead nowhere; those that a REGISTER came for meanwhile stay."""
        ...

    async def dump(self, dumps: Sequence[Dump]) -> list[Dumped | StorageFailed]:
        """Lease the oldest messages of many owners; no owner occurs twice.

        The rows of a lease end before the first one that another node holds. Leases run by the clock of the database.
        The row behind a page, or the last of it, gets a ``next_time`` behind the end of the lease: if the node is gone
        by then, `retry` of another finds it. Whatever becomes of that row, one that is left of its owner has it then.
        """
        ...

    async def renew(self, renewals: Sequence[Renew]) -> list[Renewed | StorageFailed]:
        """Let leases run on; no owner occurs twice."""
        ...

    async def settle(self, settles: Sequence[Settle]) -> list[Settled | StorageFailed]:
        """Record outcomes.

        One that is repeated after its answer was lost finds the row settled already, and says `lost`.
        """
        ...

    async def expire(self, expires: Sequence[Expire]) -> list[Expired | StorageFailed]:
        """Delete what expired: 10,000 messages at most for each action, so that nothing else waits long.

        Where there are messages with an ``imdn`` these go first, 100 at a time, and are returned. What is returned is
        deleted; if the answer is lost, so are they.
        """
        ...

    async def remind(self, reminds: Sequence[Remind]) -> list[Due | StorageFailed]:
        """Find owners whose deferred messages have come due, and make ordinary ones of those that nobody takes.

        Each action looks at the 10,000 messages that have been due longest.
        """
        ...

    async def retry(self, retries: Sequence[Retry]) -> list[Due | StorageFailed]:
        """Find owners whose messages are to be tried again.

        Each action looks at the 1,000 messages that have been due longest.
        """
        ...

    async def list(
        self, owner: str | None = None, *, after: int = 0, limit: int = 100, dead: bool = False
    ) -> list[Message]:
        """Return messages by ascending number, for an operator.

        Args:
            owner: an address of record such as ``sip:bob@example.com``; None for all.
            after: only numbers above this one, to page on.
            limit: at most so many.
            dead: those that were set aside instead of those that wait.

        Raises:
            ParseError: `owner` is not an address of record.
        """
        ...

    async def find(self, message_id: int) -> Entry | None:
        """Return one message, waiting or set aside, with all that is known of it; None if there is none."""
        ...

    async def requeue(
        self,
        message_ids: Sequence[int] | None = None,
        *,
        owner: str | None = None,
        after: int = 0,
        limit: int = SWEEP_ROWS_MAX,
    ) -> Sweep:
        """Let messages that were set aside wait for delivery again, as if they had never been tried.

        They are delivered at the next REGISTER of their owner; or, where he is registered, when the servers next look
        for what is to be tried again. Why they were set aside stays to be seen until the next attempt. One that has
        expired is left, and deleted as all that expire. How many messages an owner may have is not asked.

        Args:
            message_ids: only these; None for all.
            owner: only those of this address of record; None for all.
            after: only numbers above this one, to go on where the last call ended.
            limit: look at so many, at most 2,000, so that nothing else waits long.

        Raises:
            ParseError: `owner` is not an address of record.
        """
        ...

    async def purge(
        self,
        message_ids: Sequence[int] | None = None,
        *,
        owner: str | None = None,
        received_before_s: int | None = None,
        waiting: bool = False,
        after: int = 0,
        limit: int = SWEEP_ROWS_MAX,
    ) -> Sweep:
        """Delete messages that were set aside. One that a server delivers at present is left.

        Args:
            message_ids: only these; None for all.
            owner: only those of this address of record; None for all.
            received_before_s: only those that arrived before, in Unix s; None for all.
            waiting: delete also what waits for delivery.
            after: only numbers above this one, to go on where the last call ended.
            limit: look at so many, at most 2,000, so that nothing else waits long.

        Raises:
            ParseError: `owner` is not an address of record.
        """
        ...

    async def stats(self, owner: str | None = None, *, owners_max: int = 10) -> Totals:
        """Count what is stored. Without an owner the whole table is read, but no bodies.

        Args:
            owner: only what is of this address of record; None for all.
            owners_max: most owners to name, those with the most messages.

        Raises:
            ParseError: `owner` is not an address of record.
        """
        ...

    async def check(self) -> StorageReport:
        """Look the schema over and count.

        Raises:
            SchemaError: a table, column or version is not what this release works with.
        """
        ...
