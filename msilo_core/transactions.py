"""Non-INVITE transactions: RFC 3261 section 17.1.2 (client, figure 6) and section 17.2.2 (server, figure 8).

Each figure is a table from (state, event) to (handler, next state). A handler returns the actions that the figure's
arrow is labelled with and may arm timers; the state changes in one place, after the handler has returned. A pair that
is not in a table is an event that the figure does not draw for that state (a response after the final one, a timer
that was overtaken): it is ignored.

Outside the tables are, on purpose: finding the transaction (sections 17.1.3 and 17.2.3), which the two classes do
with a dict each; the initial arrow, which is :meth:`begin`; and the bound on their number, which the RFC does not have.

The user of a client transaction (the "TU" of the RFC) is told of each response, and of a time-out or a transport
error as the status that section 8.1.3.1 says to treat it as. Its answer, a list of actions, comes out of the same call.
"""

from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol, TypeAlias

from msilo_core.actions import Action, Send
from msilo_core.clock import Deadlines, Moment
from msilo_core.config import Config
from msilo_core.entropy import MAGIC_COOKIE
from msilo_core.flow import Address, Flow
from msilo_core.limits import Limits
from msilo_core.message import Request, Response

__all__ = [
    "CLIENT_TABLE",
    "SERVER_TABLE",
    "ClientEvent",
    "ClientState",
    "ClientTransaction",
    "ClientTransactions",
    "ClientUser",
    "ServerEvent",
    "ServerState",
    "ServerTransaction",
    "ServerTransactions",
    "Timer",
    "server_key",
]

# Timer J ends are rounded up to whole seconds, so that thousands of transactions cost one wake-up a second.
_J_GRAIN_MS = 1000

# RFC 3261 section 8.1.3.1: a time-out "MUST be treated as if a 408 (Request Timeout) status code has been received",
# a fatal transport error as a 503.
TIMED_OUT: Final = 408
TRANSPORT_FAILED: Final = 503


class Timer(IntEnum):
    """Timers of RFC 3261 table 4 that a non-INVITE transaction has."""

    E = 0
    """Non-INVITE request retransmit interval, UDP only: T1, doubling up to T2."""
    F = 1
    """Non-INVITE transaction timeout: 64*T1."""
    J = 2
    """Wait time for retransmissions of a non-INVITE request: 64*T1 on UDP, 0 on streams."""
    K = 3
    """Wait time for response retransmissions: T4 on UDP, 0 on streams."""


# -- Server: figure 8 --------------------------------------------------------------------------------------------------


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


class ServerTransaction:
    """One request that came to us, until its repeats can no longer come.

    Attributes:
        key: as :func:`server_key` gives it.
        flow: where responses go.
        request: the request, or None once it was finally answered: what stays must be small.
        response: the last response sent; what a repeat is answered with.
        ends_ms: when Timer J fires; meaningful in COMPLETED.
    """

    __slots__ = ("ends_ms", "flow", "key", "request", "response", "state")

    def __init__(self, key: str, request: Request, flow: Flow) -> None:
        self.key = key
        self.flow = flow
        self.request: Request | None = request
        self.response = b""
        self.state = ServerState.TRYING
        self.ends_ms = 0


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
}


class ServerTransactions:
    """All server transactions of one engine, bounded by `limits`.

    Answered ones wait for Timer J in the order of their answers, which is the order of their ends: the timer is the
    head of a queue, and the oldest leave first when there are too many.
    """

    def __init__(self, config: Config, limits: Limits) -> None:
        self._wait_j_ms = 64 * config.t1_ms
        self._limits = limits
        self._active: dict[str, ServerTransaction] = {}
        # Left at the front: a plain dict would walk over all that was deleted there before.
        self._finished: OrderedDict[str, ServerTransaction] = OrderedDict()

    @property
    def active_count(self) -> int:
        """Requests that have no final answer yet."""
        return len(self._active)

    @property
    def finished_count(self) -> int:
        """Answered requests that are remembered for their repeats."""
        return len(self._finished)

    @property
    def is_full(self) -> bool:
        """Whether no further request may begin."""
        return len(self._active) >= self._limits.server_transactions_max

    def find(self, key: str) -> ServerTransaction | None:
        """Return the transaction that a request with this key belongs to, or None for a new request."""
        return self._active.get(key) or self._finished.get(key)

    def begin(self, key: str, request: Request, flow: Flow) -> ServerTransaction:
        """Begin a transaction in Trying; `flow` is where responses are to go (section 18.2.2)."""
        transaction = ServerTransaction(key, request, flow)
        self._active[key] = transaction
        return transaction

    def repeat(self, transaction: ServerTransaction, now: Moment) -> list[Action]:
        """The request came again."""
        return self._fire(transaction, ServerEvent.REQUEST, now)

    def respond(self, transaction: ServerTransaction, status: int, response: bytes, now: Moment) -> list[Action]:
        """Answer; `status` 100 to 699. Nothing happens if it was finally answered before."""
        if transaction.request is None:
            return []
        transaction.response = response
        return self._fire(transaction, ServerEvent.PROVISIONAL if status < 200 else ServerEvent.FINAL, now)

    def handle_timeout(self, now: Moment) -> None:
        """Forget the transactions whose Timer J has fired."""
        while self._finished:
            transaction = next(iter(self._finished.values()))
            if transaction.ends_ms > now.mono_ms:
                return
            self._fire(transaction, ServerEvent.TIMER_J, now)

    def next_timeout(self) -> int | None:
        """Return when the next Timer J fires, in ``mono_ms``, or None."""
        for transaction in self._finished.values():
            return transaction.ends_ms
        return None

    def retire(self, transaction: ServerTransaction, now: Moment) -> None:
        """Arm Timer J and keep of the transaction only what a repeat needs."""
        del self._active[transaction.key]
        transaction.request = None
        if transaction.flow.is_stream:
            # "... for reliable transports": Timer J is zero seconds.
            transaction.ends_ms = now.mono_ms
            return
        ends_ms = now.mono_ms + self._wait_j_ms
        transaction.ends_ms = -(-ends_ms // _J_GRAIN_MS) * _J_GRAIN_MS
        self._finished[transaction.key] = transaction
        if len(self._finished) > self._limits.finished_transactions_max:
            self._finished.popitem(last=False)

    def _fire(self, transaction: ServerTransaction, event: ServerEvent, now: Moment) -> list[Action]:
        entry = SERVER_TABLE.get((transaction.state, event))
        if entry is None:
            return []
        handler, state = entry
        actions = handler(self, transaction, now)
        transaction.state = state
        if state is ServerState.TERMINATED:
            self._finished.pop(transaction.key, None)
        return actions


# -- Client: figure 6 --------------------------------------------------------------------------------------------------


class ClientState(IntEnum):
    """States of figure 6."""

    TRYING = 0
    PROCEEDING = 1
    COMPLETED = 2
    TERMINATED = 3


class ClientEvent(IntEnum):
    """What can happen to a client transaction."""

    TIMER_E = 0
    TIMER_F = 1
    TIMER_K = 2
    PROVISIONAL = 3
    FINAL = 4
    TRANSPORT_ERROR = 5


class ClientUser(Protocol):
    """Who began a client transaction, and is told what becomes of it."""

    def answered(
        self, transaction: "ClientTransaction", status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        """A response came, provisional or the one final; `response` is None for a 408 or 503 made here."""
        ...


class ClientTransaction:
    """One request of ours.

    Attributes:
        branch: branch parameter of our Via; the key.
        method: of the request, which the CSeq of a response must name (section 17.1.3).
        flow: where the request goes.
        data: the request.
        user: who is told.
        token: of its Sends; a transport error is reported under it.
        interval_ms: present interval of Timer E.
        status: of the event that the user is being told; 0 before the first.
        response: the response that the user is being told, where there is one.
    """

    __slots__ = (
        "branch",
        "data",
        "flow",
        "interval_ms",
        "method",
        "response",
        "state",
        "status",
        "token",
        "user",
    )

    def __init__(self, branch: str, method: str, flow: Flow, data: bytes, user: ClientUser, token: int) -> None:
        self.branch = branch
        self.method = method
        self.flow = flow
        self.data = data
        self.user = user
        self.token = token
        self.interval_ms = 0
        self.state = ClientState.TRYING
        self.status = 0
        self.response: Response | None = None


def _client_send_again(layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    # Trying: "the timer is reset ... to MIN(2*T1, T2)" and so on, doubling.
    transaction.interval_ms = min(2 * transaction.interval_ms, layer.t2_ms)
    layer.arm(transaction, Timer.E, now.mono_ms + transaction.interval_ms)
    return [Send(transaction.flow, transaction.data, transaction.token)]


def _client_send_seldom(layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    # Proceeding: "Timer E MUST be reset with a value of T2 seconds."
    transaction.interval_ms = layer.t2_ms
    layer.arm(transaction, Timer.E, now.mono_ms + transaction.interval_ms)
    return [Send(transaction.flow, transaction.data, transaction.token)]


def _client_tell(_layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    return transaction.user.answered(transaction, transaction.status, transaction.response, now)


def _client_finish(layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    layer.retire(transaction, now)
    return transaction.user.answered(transaction, transaction.status, transaction.response, now)


def _client_give_up(layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    layer.forget(transaction)
    return transaction.user.answered(transaction, transaction.status, None, now)


def _client_forget(layer: "ClientTransactions", transaction: ClientTransaction, _now: Moment) -> list[Action]:
    layer.forget(transaction)
    return []


_ClientHandler: TypeAlias = Callable[["ClientTransactions", ClientTransaction, Moment], list[Action]]

CLIENT_TABLE: Final[dict[tuple[ClientState, ClientEvent], tuple[_ClientHandler, ClientState]]] = {
    (ClientState.TRYING, ClientEvent.TIMER_E): (_client_send_again, ClientState.TRYING),
    (ClientState.TRYING, ClientEvent.TIMER_F): (_client_give_up, ClientState.TERMINATED),
    (ClientState.TRYING, ClientEvent.TRANSPORT_ERROR): (_client_give_up, ClientState.TERMINATED),
    (ClientState.TRYING, ClientEvent.PROVISIONAL): (_client_tell, ClientState.PROCEEDING),
    (ClientState.TRYING, ClientEvent.FINAL): (_client_finish, ClientState.COMPLETED),
    (ClientState.PROCEEDING, ClientEvent.TIMER_E): (_client_send_seldom, ClientState.PROCEEDING),
    (ClientState.PROCEEDING, ClientEvent.TIMER_F): (_client_give_up, ClientState.TERMINATED),
    (ClientState.PROCEEDING, ClientEvent.TRANSPORT_ERROR): (_client_give_up, ClientState.TERMINATED),
    (ClientState.PROCEEDING, ClientEvent.PROVISIONAL): (_client_tell, ClientState.PROCEEDING),
    (ClientState.PROCEEDING, ClientEvent.FINAL): (_client_finish, ClientState.COMPLETED),
    (ClientState.COMPLETED, ClientEvent.TIMER_K): (_client_forget, ClientState.TERMINATED),
}


class ClientTransactions:
    """All client transactions of one engine, bounded by `limits`."""

    def __init__(self, config: Config, limits: Limits) -> None:
        self.t2_ms = config.t2_ms
        self._t1_ms = config.t1_ms
        self._t4_ms = config.t4_ms
        self._limits = limits
        self._by_branch: dict[str, ClientTransaction] = {}
        self._completed: OrderedDict[str, ClientTransaction] = OrderedDict()
        self._by_token: dict[int, ClientTransaction] = {}
        # By remote address and connection; connection 0 is one that the runner was asked to find or to open.
        self._on_streams: dict[tuple[Address, int], dict[str, ClientTransaction]] = {}
        self._deadlines: Deadlines[tuple[Timer, str]] = Deadlines()
        self._tokens = 0

    @property
    def active_count(self) -> int:
        """Requests that have no final answer yet."""
        return len(self._by_token)

    @property
    def is_full(self) -> bool:
        """Whether no further request may begin."""
        return len(self._by_token) >= self._limits.client_transactions_max

    def begin(self, branch: str, method: str, flow: Flow, data: bytes, user: ClientUser, now: Moment) -> list[Action]:
        """Send a request and enter Trying (the initial arrow of figure 6)."""
        self._tokens += 1
        transaction = ClientTransaction(branch, method, flow, data, user, self._tokens)
        self._by_branch[branch] = transaction
        self._by_token[transaction.token] = transaction
        if flow.is_stream:
            self._on_streams.setdefault((flow.remote, flow.token), {})[branch] = transaction
        else:
            transaction.interval_ms = self._t1_ms
            self.arm(transaction, Timer.E, now.mono_ms + self._t1_ms)
        self.arm(transaction, Timer.F, now.mono_ms + 64 * self._t1_ms)
        return [Send(flow, data, transaction.token)]

    def find(self, response: Response) -> ClientTransaction | None:
        """Return the transaction that a response answers (section 17.1.3), or None."""
        transaction = self._by_branch.get(response.via.branch)
        if transaction is None or transaction.method != response.cseq.method:
            return None
        return transaction

    def receive(self, transaction: ClientTransaction, response: Response, now: Moment) -> list[Action]:
        """A response to it came."""
        if transaction.state is ClientState.COMPLETED:
            return []
        transaction.status = response.status
        transaction.response = response
        event = ClientEvent.PROVISIONAL if response.status < 200 else ClientEvent.FINAL
        actions = self._fire(transaction, event, now)
        transaction.response = None
        return actions

    def send_failed(self, token: int, now: Moment) -> list[Action]:
        """A Send with `token` could not be carried out; nothing happens if its transaction is over."""
        transaction = self._by_token.get(token)
        if transaction is None:
            return []
        return self._fail(transaction, now)

    def flow_closed(self, flow: Flow, now: Moment) -> list[Action]:
        """The stream is gone: what waits for an answer on it has failed."""
        actions: list[Action] = []
        keys = ((flow.remote, flow.token), (flow.remote, 0))
        # What a failure leads to may begin on a new connection to the same peer: that has not failed.
        for transaction in [transaction for key in keys for transaction in self._on_streams.get(key, {}).values()]:
            actions += self._fail(transaction, now)
        return actions

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Let the timers that are due fire."""
        actions: list[Action] = []
        for timer, branch in self._deadlines.pop_due(now.mono_ms):
            transaction = self._by_branch[branch]
            if timer is Timer.F:
                transaction.status = TIMED_OUT
                actions += self._fire(transaction, ClientEvent.TIMER_F, now)
            else:
                event = ClientEvent.TIMER_E if timer is Timer.E else ClientEvent.TIMER_K
                actions += self._fire(transaction, event, now)
        return actions

    def next_timeout(self) -> int | None:
        """Return when the next timer fires, in ``mono_ms``, or None."""
        return self._deadlines.next_ms()

    # For the handlers

    def arm(self, transaction: ClientTransaction, timer: Timer, at_ms: int) -> None:
        """Let `timer` fire at `at_ms`."""
        self._deadlines.arm((timer, transaction.branch), at_ms)

    def retire(self, transaction: ClientTransaction, now: Moment) -> None:
        """Stop sending; wait for repeated responses where there can be any (Timer K), of a bounded number."""
        self._release(transaction)
        self._completed[transaction.branch] = transaction
        if len(self._completed) > self._limits.finished_transactions_max:
            self.forget(next(iter(self._completed.values())))
        if transaction.flow.is_stream:
            self.arm(transaction, Timer.K, now.mono_ms)
        else:
            self.arm(transaction, Timer.K, now.mono_ms + self._t4_ms)

    def forget(self, transaction: ClientTransaction) -> None:
        """Remove every trace."""
        self._release(transaction)
        self._deadlines.disarm((Timer.K, transaction.branch))
        self._completed.pop(transaction.branch, None)
        del self._by_branch[transaction.branch]

    def _release(self, transaction: ClientTransaction) -> None:
        self._by_token.pop(transaction.token, None)
        transaction.data = b""
        self._deadlines.disarm((Timer.E, transaction.branch))
        self._deadlines.disarm((Timer.F, transaction.branch))
        if transaction.flow.is_stream:
            key = (transaction.flow.remote, transaction.flow.token)
            on_stream = self._on_streams.get(key)
            if on_stream is not None:
                on_stream.pop(transaction.branch, None)
                if not on_stream:
                    del self._on_streams[key]

    def _fail(self, transaction: ClientTransaction, now: Moment) -> list[Action]:
        transaction.status = TRANSPORT_FAILED
        return self._fire(transaction, ClientEvent.TRANSPORT_ERROR, now)

    def _fire(self, transaction: ClientTransaction, event: ClientEvent, now: Moment) -> list[Action]:
        entry = CLIENT_TABLE.get((transaction.state, event))
        if entry is None:
            return []
        handler, state = entry
        actions = handler(self, transaction, now)
        transaction.state = state
        return actions
