"""Every bound that a peer can run into, with its unit, its default and the reason for the number."""

from typing import Final

import msgspec

from msilo_core.errors import LocalError

__all__ = ["Limits"]

# What fits every column and every count of the databases, and more octets than any message has.
_LIMIT_MAX: Final = 2**31 - 1

_MAY_BE_NONE: Final = frozenset({"sender_rate", "registrations_per_s"})


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the parser, the engine and the transports. Past each of them there is an answer, never growth.

    ``_bytes`` are octets, ``_ms`` milliseconds, ``_s`` seconds; the others are counts. All are 1 to 2**31 - 1, and the
    two rates may be 0.

    Raises:
        LocalError: one is not.
    """

    message_bytes_max: int = 65535
    """A whole message. RFC 3261 section 18.1.1 asks every element to take datagrams up to this size."""

    head_bytes_max: int = 32768
    """Start-line and headers. Proxies add a Via and a Record-Route each; 16 hops stay far below."""

    line_bytes_max: int = 8192
    """A start-line, or a header line with its folds. An Identity header with a certificate reference is the longest."""

    headers_max: int = 128
    """Header lines in one message, as in the usual HTTP servers."""

    body_bytes_max: int = 65535
    """A body: what fits into one message in any case."""

    uri_bytes_max: int = 1024
    """A URI. A URI can never be long enough to overflow an index entry of the store."""

    user_bytes_max: int = 255
    """The user part of an address of record, and its host: indexed in the store."""

    call_id_bytes_max: int = 512
    """A Call-ID; with tag, user and host it must fit an index entry of 2,700 octets."""

    tag_bytes_max: int = 255
    """A From tag; see `call_id_bytes_max`."""

    stream_message_ms: int = 30_000
    """From the first octet of a message on a stream to its last; a slower peer is cut off. Its Timer F ends at 32 s."""

    streams_bytes_max: int = 67_108_864
    """Octets of unfinished messages on all streams together: a thousand of the longest. Past it the stream that grows
    is cut off."""

    server_transactions_max: int = 20_000
    """Requests under way at once. Past it a new request is answered 503 without a transaction, past three quarters of
    it a MESSAGE."""

    server_transactions_bytes_max: int = 268_435_456
    """Octets of the requests under way at once, which are kept whole; past it as past `server_transactions_max`. Four
    thousand of the longest."""

    finished_transactions_max: int = 50_000
    """Answered requests remembered for repeats: some 600 octets each. Past it the oldest are forgotten, and
    the store's unique key still tells a repeated MESSAGE."""

    finished_transactions_bytes_max: int = 67_108_864
    """Octets of the answers kept for repeats; past it as past `finished_transactions_max`. A usual one has 400, and
    then it is the number that counts; one whose request came with kilobytes of Via headers repeats those."""

    client_transactions_max: int = 20_000
    """Requests of ours under way at once; past it a live message is stored, and a delivery waits."""

    client_transactions_bytes_max: int = 268_435_456
    """Octets of our requests under way at once; past it as past `client_transactions_max`. Four thousand of the
    longest. The request that one of them passes on is kept as well."""

    storage_actions_max: int = 10_000
    """Completions awaited from the store of each kind: for who sent a MESSAGE and where it goes, for messages that are
    stored, and for REGISTERs. Past it a request of that kind is answered 503, and no delivery is begun for the
    application or because a message is due. Where the store is slow fewer are awaited: as many as it carries out in a
    quarter of `storage_ms`, and `batch_max` at least."""

    storage_ms: int = 8_000
    """A completion that takes longer is given up and the request answered 503: before the sender's Timer F (32 s)
    and after a database's failover, which takes a few seconds."""

    retry_after_s: int = 10
    """The Retry-After of a 503: time for a database to come back, short enough for a person who waits."""

    retry_after_max_s: int = 300
    """The longest Retry-After of a REGISTER; where more than come in that time have to wait, some have to twice."""

    sender_rate: int = 0
    """MESSAGEs of one sender a second: of who proved to have sent them, or whom a trusted peer asserts that it was, or
    else of From and the host that they came from. Past it: 503. 0: any number, for a machine that writes to many is one
    sender too."""

    sender_burst: int = 20
    """MESSAGEs of one sender at once, where there is a `sender_rate`."""

    senders_max: int = 100_000
    """Senders whose rate is remembered: some 500 octets each. Who may send a whole burst again is forgotten; past it
    those first who come nearest to that."""

    registrations_per_s: int = 0
    """REGISTERs that are carried out a second. Those past it get 503 with a Retry-After, each another one, so that they
    come back at this rate. 0: as many as the store does; those that there is no room for come back after one to two
    `retry_after_s`."""

    registrations_burst: int = 1_000
    """REGISTERs that are carried out at once, where there is a `registrations_per_s`."""

    bindings_per_aor_max: int = 16
    """Contacts registered for one address of record: a person has a handful of devices."""

    bindings_bytes_max: int = 24_576
    """Octets of the Contact headers that list them: 1.5 kB for each of `bindings_per_aor_max`. With the headers that a
    200 takes over from its request, `head_bytes_max` at most, they fit one datagram of 65,507."""

    nonces_max: int = 50_000
    """Used Digest nonces that are remembered against replays: some 300 octets each. Past it the oldest are stale before
    their time, and their devices are challenged once more."""

    waiting_per_owner_max: int = 64
    """Live messages that wait in memory behind one that is being relayed to the same owner; past it: 503."""

    notified_max: int = 10_000
    """Pairs of sender and owner remembered so that none is notified twice in a minute; past it the oldest may be."""

    imdns_per_sender_max: int = 16
    """IMDNs that wait until the one before to the same sender is answered, for a person writes a few messages in half a
    minute; past it none is sent."""

    imdns_waiting_max: int = 10_000
    """The same for all senders: some 1,200 octets each."""

    reminders_max: int = 1_000
    """Owners whose deferred messages are begun to be delivered at one look for those that are due."""

    retries_max: int = 1_000
    """Owners whose messages are tried again at one look for those that are due."""

    deliveries_max: int = 1_000
    """Owners whose inbox is delivered at the same time; others wait their turn."""

    deliveries_waiting_max: int = 100_000
    """Owners that wait for their turn; past it a REGISTER brings no delivery until its next refresh."""

    page_messages_max: int = 16
    """Messages of one inbox held in memory while it is delivered: memory does not grow with the inbox. With
    `deliveries_max` inboxes at the same time this is 1 GB of the longest messages, 5 MB of usual ones. A long inbox has
    four times as many while no more than a quarter of those are delivered, which makes it less than twice that."""

    connections_max: int = 10_000
    """Open stream connections in all."""

    connections_per_host_max: int = 1_000
    """Open stream connections from one remote host: a proxy may hold many, nobody may hold all."""

    connection_buffer_bytes_max: int = 1_048_576
    """Octets waiting to be sent on one connection; a peer that does not read is cut off."""

    datagrams_per_wakeup_max: int = 256
    """Datagrams taken from a socket before the writers have their turn."""

    outbox_datagrams_max: int = 10_000
    """Datagrams kept while the socket takes no more; past it they are dropped and the transactions repeat them."""

    batch_max: int = 512
    """Actions in one statement of the store; more brought nothing when measured."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value: int = getattr(self, name)
            least = 0 if name in _MAY_BE_NONE else 1
            if not least <= value <= _LIMIT_MAX:
                raise LocalError(f"{name} = {value} is out of range: give {least} to {_LIMIT_MAX}")
