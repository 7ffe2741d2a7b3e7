"""The non-INVITE client transaction: RFC 3261 section 17.1.2, figure 6."""

from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol, TypeAlias

from msilo_core.actions import Action, Send
from msilo_core.clock import Deadlines, Moment
from msilo_core.config import Config
from msilo_core.flow import Address, Flow
from msilo_core.limits import Limits
from msilo_core.message import Response
from msilo_core.transactions.timers import TIMED_OUT, TRANSPORT_FAILED, Timer
from msilo_core.transport import sent_by

__all__ = ["CLIENT_TABLE", "ClientEvent", "ClientState", "ClientTransaction", "ClientTransactions", "ClientUser"]


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
        user: who is told; None once it was told the final response.
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
        self.user: ClientUser | None = user
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
        transaction = ClientTransaction(branch, method, flow, data, user, self._tokens)
        self._by_branch[branch] = transaction
        self._by_token[transaction.token] = transaction
        self._active_bytes += len(data)
        if flow.is_stream:
            self._on_streams.setdefault((flow.remote, flow.token), {})[branch] = transaction
        else:
            transaction.interval_ms = self._t1_ms
            self.arm(transaction, Timer.E, now.mono_ms + self._t1_ms)
        self.arm(transaction, Timer.F, now.mono_ms + 64 * self._t1_ms)
        return [Send(flow, data, transaction.token)]

    def be_quiet(self, branch: str) -> None:
        """Send a request no more, and wait for its answer as long as before."""
        self._deadlines.disarm((Timer.E, branch))

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
        self._active_bytes -= len(transaction.data)
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
