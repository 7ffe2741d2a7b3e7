"""The non-INVITE server transaction: RFC 3261 section 17.2.2, figure 8, and what RFC 4320 adds to it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import IntEnum
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from msilo_core.actions import Action, Send
from msilo_core.clock import Moment
from msilo_core.compose import build_response
from msilo_core.config import Config
from msilo_core.entropy import MAGIC_COOKIE
from msilo_core.flow import Flow
from msilo_core.limits import Limits
from msilo_core.message import Request
from msilo_core.transactions.timers import TIMED_OUT
from msilo_core.transport import way_back

__all__ = ["SERVER_TABLE", "ServerEvent", "ServerState", "ServerTransaction", "ServerTransactions", "server_key"]

# Timer J ends are rounded up to whole seconds, so that thousands of transactions cost one wake-up a second.
_J_GRAIN_MS = 1000


class ServerState(IntEnum):
    """States of figure 8. IntEnum, because it is hashed for each message."""

    TRYING = 0
    PROCEEDING = 1
    COMPLETED = 2
    TERMINATED = 3


class ServerEvent(IntEnum):
    """What can happen to a server transaction."""

    REQUEST = 0
    """The request came again."""
    PROVISIONAL = 1
    """The user answers 1xx."""
    FINAL = 2
    """The user answers 200 to 699."""
    TIMER_J = 3
    TRANSPORT_ERROR = 4
    """Drawn in the figure, and never told to us: a response that did not leave is asked for again by a repeat."""
    SILENCE = 5
    """The user will not answer (RFC 4320 section 4.2: not with a 408)."""
    TIMER_F = 6
    """The client has given up: 64*T1 after the request, or after the silence began."""


# An attribute of an enumeration takes ten times as long to look up, and these are for each message.
_TRYING, _PROCEEDING, _COMPLETED, _TERMINATED = ServerState
_FINAL: Final = ServerEvent.FINAL


class ServerTransaction(msgspec.Struct, eq=False, gc=False):
    """One request that came to us, until its repeats can no longer come.

    Attributes:
        key: as :func:`server_key` gives it.
        came_by: the flow that the request came by.
        flow: where responses go (section 18.2.2).
        via_suffix: what they say in the topmost Via of how the request was seen.
        request: the request, or None once nobody will answer it any more: what stays must be small.
        size_bytes: octets of the request.
        ends_ms: when the present timer fires: TRYING, then F, then J.
        response: the last response sent; what a repeat is answered with.
        claims: see :meth:`ServerTransactions.claim`.
    """

    key: str
    came_by: Flow
    flow: Flow
    via_suffix: str
    request: Request | None
    size_bytes: int
    ends_ms: int
    response: bytes = b""
    state: ServerState = ServerState.TRYING
    claims: tuple[Hashable, ...] = ()


def server_key(request: Request) -> str:
    """Return what a request has in common with its repeats only (RFC 3261 section 17.2.3).

    The branch and sent-by of the topmost Via and the method; for a sender of RFC 2543, whose branch lacks the magic
    cookie, the fields that the section lists.
    """
    via = request.via
    method = request.method
    if via.branch.startswith(MAGIC_COOKIE) and len(via.branch) > len(MAGIC_COOKIE):
        return f"{via.branch}|{via.sent_by}|{method}"
    cseq = request.cseq
    return "|".join(
        (
            request.request_uri,
            request.from_.tag,
            request.to.tag,
            request.call_id,
            str(cseq.number),
            via.branch,
            via.sent_by,
            method,
        )
    )


def _server_ignore(_layer: "ServerTransactions", _transaction: ServerTransaction, _now: Moment) -> list[Action]:
    # "While in the Trying state, if the transaction receives a retransmission of the request, it is discarded."
    return []


def _server_respond(_layer: "ServerTransactions", transaction: ServerTransaction, _now: Moment) -> list[Action]:
    return [Send(transaction.flow, transaction.response)]


def _server_finish(layer: "ServerTransactions", transaction: ServerTransaction, now: Moment) -> list[Action]:
    layer.retire(transaction, now)
    return [Send(transaction.flow, transaction.response)]


def _server_fall_silent(layer: "ServerTransactions", transaction: ServerTransaction, now: Moment) -> list[Action]:
    layer.retire(transaction, now)
    return []


_ServerHandler: TypeAlias = Callable[["ServerTransactions", ServerTransaction, Moment], list[Action]]

SERVER_TABLE: Final[dict[tuple[ServerState, ServerEvent], tuple[_ServerHandler, ServerState]]] = {
    (ServerState.TRYING, ServerEvent.REQUEST): (_server_ignore, ServerState.TRYING),
    (ServerState.TRYING, ServerEvent.PROVISIONAL): (_server_respond, ServerState.PROCEEDING),
    (ServerState.TRYING, ServerEvent.FINAL): (_server_finish, ServerState.COMPLETED),
    (ServerState.PROCEEDING, ServerEvent.REQUEST): (_server_respond, ServerState.PROCEEDING),
    (ServerState.PROCEEDING, ServerEvent.PROVISIONAL): (_server_respond, ServerState.PROCEEDING),
    (ServerState.PROCEEDING, ServerEvent.FINAL): (_server_finish, ServerState.COMPLETED),
    (ServerState.PROCEEDING, ServerEvent.TRANSPORT_ERROR): (_server_ignore, ServerState.TERMINATED),
    (ServerState.COMPLETED, ServerEvent.REQUEST): (_server_respond, ServerState.COMPLETED),
    (ServerState.COMPLETED, ServerEvent.TIMER_J): (_server_ignore, ServerState.TERMINATED),
    (ServerState.COMPLETED, ServerEvent.TRANSPORT_ERROR): (_server_ignore, ServerState.TERMINATED),
    # RFC 4320 section 4.2: "an element that cannot respond before the transaction expires will not send a final
    # response at all". Until then its repeats are told from new requests.
    (ServerState.TRYING, ServerEvent.SILENCE): (_server_fall_silent, ServerState.TRYING),
    (ServerState.TRYING, ServerEvent.TIMER_F): (_server_ignore, ServerState.TERMINATED),
    (ServerState.PROCEEDING, ServerEvent.SILENCE): (_server_fall_silent, ServerState.PROCEEDING),
    (ServerState.PROCEEDING, ServerEvent.TIMER_F): (_server_ignore, ServerState.TERMINATED),
}


class ServerTransactions:
    """All server transactions of one engine, bounded by `limits` in number and in octets.

    The timers have one length each, so that transactions wait for the same one in the order in which they began to:
    three queues in place of a heap. In `_trying` they wait for the time of the 100, in `_proceeding` for the end of the
    client's patience, in `_finished` for the last repeat. There are never too many in the third: the oldest leave it.
    """

    def __init__(self, config: Config, limits: Limits) -> None:
        self._wait_f_ms = self._wait_j_ms = 64 * config.t1_ms
        self._wait_trying_ms = _reaches_t2_ms(config)
        self._limits = limits
        self._messages_max = limits.server_transactions_max - limits.server_transactions_max // 4
        self._messages_bytes_max = limits.server_transactions_bytes_max - limits.server_transactions_bytes_max // 4
        # Taken from the front: a plain dict would walk over all that was deleted there before.
        self._trying: OrderedDict[str, ServerTransaction] = OrderedDict()
        self._proceeding: OrderedDict[str, ServerTransaction] = OrderedDict()
        self._finished: OrderedDict[str, ServerTransaction] = OrderedDict()
        self._active_bytes = 0
        self._finished_bytes = 0
        self._claims: dict[Hashable, ServerTransaction] = {}

    @property
    def active_count(self) -> int:
        """Requests that somebody still means to answer."""
        return len(self._trying) + len(self._proceeding)

    @property
    def finished_count(self) -> int:
        """Requests that are remembered for their repeats only."""
        return len(self._finished)

    @property
    def finished_bytes(self) -> int:
        """Octets of the answers that are kept for repeats."""
        return self._finished_bytes

    @property
    def is_full(self) -> bool:
        """Whether no further request may begin."""
        limits = self._limits
        return (
            self.active_count >= limits.server_transactions_max
            or self._active_bytes >= limits.server_transactions_bytes_max
        )

    @property
    def is_crowded(self) -> bool:
        """Whether no further MESSAGE may begin: a quarter of the room is for requests that nobody else holds up."""
        active_count = len(self._trying) + len(self._proceeding)
        return active_count >= self._messages_max or self._active_bytes >= self._messages_bytes_max

    def find(self, key: str) -> ServerTransaction | None:
        """Return the transaction that a request with this key belongs to, or None for a new request."""
        return self._trying.get(key) or self._finished.get(key) or self._proceeding.get(key)

    def begin(self, key: str, request: Request, came_by: Flow, now: Moment) -> ServerTransaction:
        """Begin a transaction in Trying for a request with this key that came by a flow."""
        flow, via_suffix = way_back(request.via, came_by)
        size_bytes = request.head.size_bytes + len(request.body)
        ends_ms = now.mono_ms + self._wait_trying_ms
        transaction = ServerTransaction(key, came_by, flow, via_suffix, request, size_bytes, ends_ms)
        self._trying[key] = transaction
        self._active_bytes += size_bytes
        return transaction

    def claim(self, transaction: ServerTransaction, identity: Hashable) -> bool:
        """Take `identity` for a request until it is answered; say whether another one has not taken it before.

        Nothing happens if it was answered, or its client has given up; or if it took the identity before.

        With the From tag, Call-ID and CSeq as the identity this tells requests that came by several ways apart from
        their first (section 8.2.2.2).
        """
        holder = self._claims.get(identity)
        if holder is None and transaction.request is not None:
            self._claims[identity] = transaction
            transaction.claims += (identity,)
        return holder is None or holder is transaction

    def repeat(self, transaction: ServerTransaction, now: Moment) -> list[Action]:
        """The request came again."""
        return self._fire(transaction, ServerEvent.REQUEST, now)

    def respond(self, transaction: ServerTransaction, status: int, response: bytes, now: Moment) -> list[Action]:
        """Answer; `status` 100 to 699. Nothing happens if it was finally answered before, or is not to be any more.

        A 408 is not sent: the client has seen its own time-out, or will (RFC 4320 section 4.2).
        """
        if transaction.request is None:
            return []
        if status == TIMED_OUT:
            return self._fire(transaction, ServerEvent.SILENCE, now)
        transaction.response = response
        return self._fire(transaction, _FINAL if status >= 200 else ServerEvent.PROVISIONAL, now)

    def abandon(self, transaction: ServerTransaction) -> None:
        """Forget a request that is answered without a transaction after all; its repeat is a new one."""
        if transaction.request is not None:
            transaction.state = _TERMINATED
            self._release(transaction)

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Send the 100s that are due, and forget the transactions that can have no repeats any more."""
        actions: list[Action] = []
        while self._trying:
            transaction = next(iter(self._trying.values()))
            if transaction.ends_ms > now.mono_ms:
                break
            actions += self.respond(transaction, 100, _trying_response(transaction), now)
        for queue in (self._proceeding, self._finished):
            while queue:
                transaction = next(iter(queue.values()))
                if transaction.ends_ms > now.mono_ms:
                    break
                is_answered = transaction.state is _COMPLETED
                self._fire(transaction, ServerEvent.TIMER_J if is_answered else ServerEvent.TIMER_F, now)
        return actions

    def next_timeout(self) -> int | None:
        """Return when the next timer fires, in ``mono_ms``, or None."""
        return min(
            (
                transaction.ends_ms
                for queue in (self._trying, self._proceeding, self._finished)
                for transaction in islice(queue.values(), 1)
            ),
            default=None,
        )

    def retire(self, transaction: ServerTransaction, now: Moment) -> None:
        """Arm Timer J, or F for one without an answer, and keep of the transaction only what a repeat needs."""
        self._release(transaction)
        if transaction.flow.is_stream:
            # "... for reliable transports": Timer J is zero seconds.
            transaction.ends_ms = now.mono_ms
            return
        ends_ms = now.mono_ms + self._wait_j_ms
        transaction.ends_ms = -(-ends_ms // _J_GRAIN_MS) * _J_GRAIN_MS
        self._finished[transaction.key] = transaction
        self._finished_bytes += len(transaction.response)
        limits = self._limits
        while (
            len(self._finished) > limits.finished_transactions_max
            or self._finished_bytes > limits.finished_transactions_bytes_max
        ):
            self._finished_bytes -= len(self._finished.popitem(last=False)[1].response)

    def _release(self, transaction: ServerTransaction) -> None:
        assert transaction.request is not None, "a transaction is released once"
        transaction.request = None
        self._active_bytes -= transaction.size_bytes
        if self._trying.pop(transaction.key, None) is None:
            del self._proceeding[transaction.key]
        for identity in transaction.claims:
            del self._claims[identity]
        transaction.claims = ()

    def _forget(self, transaction: ServerTransaction) -> None:
        if transaction.request is not None:
            self._release(transaction)
        else:
            del self._finished[transaction.key]
            self._finished_bytes -= len(transaction.response)

    def _fire(self, transaction: ServerTransaction, event: ServerEvent, now: Moment) -> list[Action]:
        entry = SERVER_TABLE.get((transaction.state, event))
        if entry is None:
            return []
        handler, state = entry
        actions = handler(self, transaction, now)
        was, transaction.state = transaction.state, state
        if was is _TRYING and state is _PROCEEDING:
            transaction.ends_ms += self._wait_f_ms - self._wait_trying_ms
            self._proceeding[transaction.key] = self._trying.pop(transaction.key)
        elif state is _TERMINATED:
            self._forget(transaction)
        return actions


def _reaches_t2_ms(config: Config) -> int:
    """Return how long after a request a client's Timer E is reset to T2 (section 17.1.2.2)."""
    passed_ms = interval_ms = config.t1_ms
    while (interval_ms := min(2 * interval_ms, config.t2_ms)) < config.t2_ms:
        passed_ms += interval_ms
    return passed_ms


def _trying_response(transaction: ServerTransaction) -> bytes:
    request = transaction.request
    assert request is not None, "an answered transaction is in another queue"
    # Section 8.2.6.1: "any Timestamp header field present in the request MUST be copied into this 100".
    timestamp = request.get("timestamp")
    headers = [] if timestamp is None else [("Timestamp", timestamp)]
    return build_response(request, 100, "Trying", via_suffix=transaction.via_suffix, headers=headers)
