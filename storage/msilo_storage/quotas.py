"""What an inbox may hold: how much there is in it, and for which new messages it has no room.

What counts is what waits for delivery: deferred messages too, and expired ones until they are deleted, but not those
that were set aside.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Final, Self

import msgspec

from msilo_core.actions import Message, Refused, Store
from msilo_core.errors import PeerError
from msilo_core.uri import Aor, parse_uri
from msilo_storage.rows import octets_of, repeat_key

__all__ = ["Kept", "Question", "refusals", "size_of"]

# An inbox that is counted has a few dozen senders, and the same ones write to many.
_SENDERS_REMEMBERED: Final = 4096


class Question(msgspec.Struct, frozen=True):
    """What a batch needs to know of its inboxes.

    Attributes:
        rows_max: most messages to count in each; None: all.
        is_weighed: their octets too.
        is_by_sender: by sender.
    """

    rows_max: int | None
    is_weighed: bool
    is_by_sender: bool

    @classmethod
    def of(cls, bounded: Sequence[Store]) -> Self:
        """Return what those of a batch ask that have a bound; at least one."""
        # One that any number of messages may wait beside asks for all of them.
        is_counted = all(store.messages_max for store in bounded)
        return cls(
            rows_max=max(store.messages_max for store in bounded) if is_counted else None,
            is_weighed=any(store.bytes_max for store in bounded),
            is_by_sender=any(store.sender_messages_max for store in bounded),
        )


class Kept(msgspec.Struct):
    """What is in one inbox.

    Attributes:
        messages: how many messages.
        octets: of all of them, as :func:`size_of`; 0 where nobody asked.
        by_sender: how many of each sender; empty where nobody asked.
    """

    messages: int = 0
    octets: int = 0
    by_sender: dict[str, int] = msgspec.field(default_factory=dict[str, int])

    def count(self, src_addr: str | None, messages: int, octets: int) -> None:
        """Add what there is of one sender; None: of all."""
        self.messages += messages
        self.octets += octets
        if src_addr is not None:
            sender = _sender_of(src_addr)
            self.by_sender[sender] = self.by_sender.get(sender, 0) + messages

    def add(self, message: Message) -> None:
        """Add a message."""
        self.count(message.src_addr, 1, size_of(message))

    def refusal(self, store: Store) -> Refused | None:
        """Return the answer to a message that there is no room for, None if there is."""
        message = store.message
        if store.messages_max and self.messages >= store.messages_max:
            return Refused(store.token, 480, "Inbox Full")
        if store.bytes_max and self.octets + size_of(message) > store.bytes_max:
            return Refused(store.token, 480, "Inbox Full")
        if store.sender_messages_max and self._from(message.src_addr) >= store.sender_messages_max:
            return Refused(store.token, 480, "Too Many Messages from This Sender")
        return None

    def _from(self, src_addr: str) -> int:
        return self.by_sender.get(_sender_of(src_addr), 0)


def size_of(message: Message) -> int:
    """Return the octets of a message that a quota counts: the body, and all header values that are kept."""
    texts = (message.ctype, message.extra_hdrs, message.from_hdr, message.to_hdr, message.date_hdr)
    return len(message.body) + sum(len(octets_of(text)) for text in texts)


def refusals(
    stores: Sequence[Store], kept: dict[Aor, Kept], owners: Collection[Aor], known: Iterable[object] = ()
) -> dict[int, Refused]:
    """Say which messages of a batch there is no room for, one after the other.

    Args:
        stores: the batch.
        kept: what is in the inboxes of `owners`; what comes into them is added.
        owners: whose messages are looked at.
        known: keys (:func:`~msilo_storage.rows.repeat_key`) of those that are there already, which take no room.

    Returns:
        The answers, by place in the batch.
    """
    seen = set(known)
    answers: dict[int, Refused] = {}
    for place, store in enumerate(stores):
        owner, key = store.message.owner, repeat_key(store.message)
        if owner not in owners or key in seen:
            continue
        refused = kept[owner].refusal(store)
        if refused is not None:
            answers[place] = refused
            continue
        kept[owner].add(store.message)
        if key is not None:
            seen.add(key)
    return answers


@lru_cache(_SENDERS_REMEMBERED)
def _sender_of(src_addr: str) -> str:
    """Return what all URIs of one sender have in common: its address of record, or itself where it names none.

    There are many ways to write one URI (RFC 3261 section 19.1.4), and whoever writes it could use another each time.
    """
    try:
        return str(parse_uri(src_addr).aor())
    except PeerError:
        return src_addr
