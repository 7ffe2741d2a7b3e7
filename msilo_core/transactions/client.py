"""The non-INVITE client transaction: RFC 3261 section 17.1.2, figure 6."""

from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol, TypeAlias

import msgspec

from msilo_core.actions import Action, Send
from msilo_core.clock import Deadlines, Moment
from msilo_core.config import Config
from msilo_core.flow import Address, Flow
from msilo_core.limits import Limits
from msilo_core.message import Response
from msilo_core.transactions.timers import TIMED_OUT, TRANSPORT_FAILED
from msilo_core.transport import sent_by

__all__ = ["CLIENT_TABLE", "ClientEvent", "ClientState", "ClientTransaction", "ClientTransactions", "ClientUser"]


# Timer K ends are rounded up, so that thousands of transactions cost ten wake-ups a second, none of them a long one.
_K_GRAIN_MS = 100


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


class ClientTransaction(msgspec.Struct, eq=False):
    """One request of ours.

    Attributes:
        branch: branch parameter of our Via; the key.
        method: of the request, which the CSeq of a response must name (section 17.1.3).
        flow: where the request goes.
        data: the request.
        user: who is told; None once it was told the final response.
        token: of its Sends; a transport error is reported under it.
        ends_ms: when Timer F fires.
        interval_ms: present interval of Timer E; 0 on a stream, which has none.
        status: of the event that the user is being told; 0 before the first.
        response: the response that the user is being told, where there is one.
    """

    branch: str
    method: str
    flow: Flow
    data: bytes
    user: ClientUser | None
    token: int
    ends_ms: int
    interval_ms: int = 0
    state: ClientState = ClientState.TRYING
    status: int = 0
    response: Response | None = None


def _client_send_again(layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    # Trying: "the timer is reset ... to MIN(2*T1, T2)" and so on, doubling.
    layer.repeat_in(min(2 * transaction.interval_ms, layer.t2_ms), transaction, now)
    return [Send(transaction.flow, transaction.data, transaction.token)]


def _client_send_seldom(layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    # Proceeding: "Timer E MUST be reset with a value of T2 seconds."
    layer.repeat_in(layer.t2_ms, transaction, now)
    return [Send(transaction.flow, transaction.data, transaction.token)]


def _client_tell(_layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    assert transaction.user is not None, "it is told the final response last"
    return transaction.user.answered(transaction, transaction.status, transaction.response, now)


def _client_finish(layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    layer.retire(transaction, now)
    actions = _client_tell(layer, transaction, now)
    # What it keeps, such as the request that it passed on, is not kept for repeats of the response.
    transaction.user = None
    return actions


def _client_give_up(layer: "ClientTransactions", transaction: ClientTransaction, now: Moment) -> list[Action]:
    layer.forget(transaction)
    return _client_tell(layer, transaction, now)


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


# An attribute of an enumeration takes ten times as long to look up, and this is for each message.
_FINAL: Final = ClientEvent.FINAL
_COMPLETED: Final = ClientState.COMPLETED


class ClientTransactions:
    """All client transactions of one engine, bounded by `limits`.

    Each waits for one timer at a time, so that there is one deadline to arm: for E, or for F where that is earlier; for
    F alone on a stream, or where nothing is to be repeated any more; and once it has its final response for K.
    """

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
        self._deadlines: Deadlines[str] = Deadlines()
        self._tokens = 0
        self._active_bytes = 0

    @property
    def active_count(self) -> int:
        """Requests that have no final answer yet."""
        return len(self._by_token)

    @property
    def room(self) -> int:
        """How many further requests may begin, at most."""
        limits = self._limits
        if self._active_bytes >= limits.client_transactions_bytes_max:
            return 0
        return limits.client_transactions_max - len(self._by_token)

    @property
    def is_full(self) -> bool:
        """Whether no further request may begin."""
        return self.room <= 0

    def begin(self, branch: str, method: str, flow: Flow, data: bytes, user: ClientUser, now: Moment) -> list[Action]:
        """Send a request and enter Trying (the initial arrow of figure 6)."""
        self._tokens += 1
        token, ends_ms = self._tokens, now.mono_ms + 64 * self._t1_ms
        transaction = ClientTransaction(branch, method, flow, data, user, token, ends_ms)
        self._by_branch[branch] = self._by_token[token] = transaction
        self._active_bytes += len(data)
        if flow.is_stream:
            self._on_streams.setdefault((flow.remote, flow.token), {})[branch] = transaction
            self._deadlines.arm(branch, ends_ms)
        else:
            self.repeat_in(self._t1_ms, transaction, now)
        return [Send(flow, data, token)]

    def be_quiet(self, branch: str) -> None:
        """Send a request no more that has no final answer yet, and wait for that as long as before."""
        self._deadlines.arm(branch, self._by_branch[branch].ends_ms)

    def find(self, response: Response) -> ClientTransaction | None:
        """Return the transaction that a response answers (section 17.1.3), or None.

        "If the value of the "sent-by" parameter in that header field value does not correspond to a value that the
        client transport is configured to insert into requests, the response MUST be silently discarded" (section
        18.1.2).
        """
        via = response.via
        transaction = self._by_branch.get(via.branch)
        if transaction is None or transaction.method != response.cseq.method:
            return None
        return transaction if via.sent_by == sent_by(transaction.flow) else None

    def receive(self, transaction: ClientTransaction, response: Response, now: Moment) -> list[Action]:
        """A response to it came."""
        if transaction.state is _COMPLETED:
            return []
        transaction.status = response.status
        transaction.response = response
        event = _FINAL if response.status >= 200 else ClientEvent.PROVISIONAL
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
        for branch in self._deadlines.pop_due(now.mono_ms):
            transaction = self._by_branch[branch]
            if transaction.state is _COMPLETED:
                actions += self._fire(transaction, ClientEvent.TIMER_K, now)
            elif transaction.ends_ms <= now.mono_ms:
                transaction.status = TIMED_OUT
                actions += self._fire(transaction, ClientEvent.TIMER_F, now)
            else:
                actions += self._fire(transaction, ClientEvent.TIMER_E, now)
        return actions

    def next_timeout(self) -> int | None:
        """Return when the next timer fires, in ``mono_ms``, or None."""
        return self._deadlines.next_ms()

    # For the handlers

    def repeat_in(self, interval_ms: int, transaction: ClientTransaction, now: Moment) -> None:
        """Arm Timer E."""
        transaction.interval_ms = interval_ms
        self._deadlines.arm(transaction.branch, min(now.mono_ms + interval_ms, transaction.ends_ms))

    def retire(self, transaction: ClientTransaction, now: Moment) -> None:
        """Stop sending; wait for repeated responses where there can be any (Timer K), of a bounded number."""
        self._release(transaction)
        self._completed[transaction.branch] = transaction
        if len(self._completed) > self._limits.finished_transactions_max:
            self.forget(next(iter(self._completed.values())))
        ends_ms = now.mono_ms
        if not transaction.flow.is_stream:
            ends_ms = -(-(ends_ms + self._t4_ms) // _K_GRAIN_MS) * _K_GRAIN_MS
        self._deadlines.arm(transaction.branch, ends_ms)

    def forget(self, transaction: ClientTransaction) -> None:
        """Remove every trace."""
        if self._completed.pop(transaction.branch, None) is None:
            self._release(transaction)
        self._deadlines.disarm(transaction.branch)
        del self._by_branch[transaction.branch]

    def _release(self, transaction: ClientTransaction) -> None:
        del self._by_token[transaction.token]
        self._active_bytes -= len(transaction.data)
        transaction.data = b""
        if transaction.flow.is_stream:
            key = (transaction.flow.remote, transaction.flow.token)
            on_stream = self._on_streams[key]
            del on_stream[transaction.branch]
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
