"""Counters of one engine."""

import msgspec

__all__ = ["Statistics"]


def _no_drops() -> dict[str, int]:
    return {}


class Statistics(msgspec.Struct, kw_only=True):
    """What happened since the engine was made; the first five under the names of Kamailio's msilo.

    Attributes:
        stored_messages: MESSAGEs answered 202 after they were stored.
        dumped_messages: stored messages that a phone took.
        failed_messages: attempts to deliver a stored message that failed, those refused for good included.
        dumped_reminders: deferred messages that a phone took.
        failed_reminders: deferred messages that could not be delivered when they were due, and became ordinary ones.
        notifications: senders that were told that their message was stored.
        imdns: senders that were told by IMDN (RFC 5438), as they asked, that their message was stored or can never be
            delivered.
        lost_imdns: those that asked for it and were not told: nobody knows how to reach them, or there was no room.
        refused_messages: stored messages that were set aside because they can never be delivered.
        expired_messages: stored messages deleted because their time was up.
        repeated_messages: MESSAGEs answered 202 that were in the store already.
        relayed_messages: live MESSAGEs that a phone took.
        registrations: REGISTERs answered 200.
        lost_leases: outcomes that could not be recorded because the lease had ended: the message may come again.
        route_errors: exceptions out of route functions; each is a bug of the route.
        storage_failures: storage actions that failed or came late.
        overloads: requests answered 503 because there was no room for them, or they came faster than they may.
        dropped: what was ignored, by reason.
    """

    stored_messages: int = 0
    dumped_messages: int = 0
    failed_messages: int = 0
    dumped_reminders: int = 0
    failed_reminders: int = 0
    notifications: int = 0
    imdns: int = 0
    lost_imdns: int = 0
    refused_messages: int = 0
    expired_messages: int = 0
    repeated_messages: int = 0
    relayed_messages: int = 0
    registrations: int = 0
    lost_leases: int = 0
    route_errors: int = 0
    storage_failures: int = 0
    overloads: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=_no_drops)
