"""RFC 3261 section 17.1.2, figure 6: the non-INVITE client transaction."""

import itertools

import pytest

from msilo_core import Limits
from msilo_core.actions import Send
from msilo_core.message import Response, parse_message
from msilo_core.transactions import (
    CLIENT_TABLE,
    ClientEvent,
    ClientState,
    ClientTransaction,
    ClientTransactions,
    ServerEvent,
    ServerState,
)
from tests.rfc.transactions import CONFIG, LIMITS, T4_MS, TCP, UDP, Notebook, at, response

BRANCH = "z9hG4bKone"

# The figure, arrow by arrow: state, event, next state, whether the request is sent again, whether the user is told.
FIGURE = {
    (ClientState.TRYING, ClientEvent.TIMER_E): (ClientState.TRYING, True, None),
    (ClientState.TRYING, ClientEvent.TIMER_F): (ClientState.TERMINATED, False, 408),
    (ClientState.TRYING, ClientEvent.TRANSPORT_ERROR): (ClientState.TERMINATED, False, 503),
    (ClientState.TRYING, ClientEvent.PROVISIONAL): (ClientState.PROCEEDING, False, 100),
    (ClientState.TRYING, ClientEvent.FINAL): (ClientState.COMPLETED, False, 200),
    (ClientState.PROCEEDING, ClientEvent.TIMER_E): (ClientState.PROCEEDING, True, None),
    (ClientState.PROCEEDING, ClientEvent.TIMER_F): (ClientState.TERMINATED, False, 408),
    (ClientState.PROCEEDING, ClientEvent.TRANSPORT_ERROR): (ClientState.TERMINATED, False, 503),
    (ClientState.PROCEEDING, ClientEvent.PROVISIONAL): (ClientState.PROCEEDING, False, 100),
    (ClientState.PROCEEDING, ClientEvent.FINAL): (ClientState.COMPLETED, False, 200),
    (ClientState.COMPLETED, ClientEvent.TIMER_K): (ClientState.TERMINATED, False, None),
}


class Layer:
    """One transaction brought into a state."""

    def __init__(self, state: ClientState) -> None:
        self.user = Notebook()
        self.layer = ClientTransactions(CONFIG, LIMITS)
        (send,) = self.layer.begin(BRANCH, "MESSAGE", UDP, b"request", self.user, at(0))
        assert isinstance(send, Send)
        self.token = send.token
        transaction = self.layer.find(response(100))
        assert transaction is not None
        self.transaction: ClientTransaction = transaction
        if state is ClientState.PROCEEDING:
            self.receive(100)
        elif state is ClientState.COMPLETED:
            self.receive(200)
        elif state is ClientState.TERMINATED:
            self.layer.handle_timeout(at(32_000))
        self.user.told.clear()
        assert transaction.state is state

    def receive(self, status: int) -> list[object]:
        return [*self.layer.receive(self.transaction, response(status), at(1))]

    def happen(self, event: ClientEvent) -> list[object]:
        """Let an event happen in the way it happens in life; nothing where it cannot any more."""
        match event:
            case ClientEvent.TIMER_E:
                return [*self.layer.handle_timeout(at(500))]
            case ClientEvent.TIMER_F:
                # All earlier retransmissions are over: only the last arrow counts.
                actions = self.layer.handle_timeout(at(32_000))
                return [action for action in actions if not isinstance(action, Send)]
            case ClientEvent.TIMER_K:
                return (
                    [*self.layer.handle_timeout(at(5_100))] if self.transaction.state is ClientState.COMPLETED else []
                )
            case ClientEvent.PROVISIONAL:
                return self.receive(100)
            case ClientEvent.FINAL:
                return self.receive(200)
            case ClientEvent.TRANSPORT_ERROR:
                return [*self.layer.send_failed(self.token, at(1))]


def test_table_is_the_figure() -> None:
    assert {key: state for key, (_, state) in CLIENT_TABLE.items()} == {key: row[0] for key, row in FIGURE.items()}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ClientState, ClientEvent)))
def test_every_pair(state: ClientState, event: ClientEvent) -> None:
    world = Layer(state)
    actions = world.happen(event)
    if (state, event) in FIGURE:
        next_state, sends, status = FIGURE[state, event]
    else:
        next_state, sends, status = state, False, None
        if (state, event) == (ClientState.COMPLETED, ClientEvent.TIMER_F):
            next_state = ClientState.TERMINATED  # Timer K was due long before
    assert world.transaction.state is next_state
    assert actions == ([Send(UDP, b"request", world.token)] if sends else [])
    assert [told[0] for told in world.user.told] == ([] if status is None else [status])


def test_timer_e_doubles_up_to_t2_and_timer_f_ends_it() -> None:
    user = Notebook()
    layer = ClientTransactions(CONFIG, LIMITS)
    layer.begin(BRANCH, "MESSAGE", UDP, b"request", user, at(0))
    sent_at: list[int] = []
    while (at_ms := layer.next_timeout()) is not None:
        sent_at += [at_ms] * len(layer.handle_timeout(at(at_ms)))
    # "retransmissions with intervals of 500 ms, 1 s, 2 s, 4 s, 4 s, 4 s, etc."
    assert sent_at == [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
    assert user.told == [(408, False)]
    assert layer.active_count == 0


def test_in_proceeding_timer_e_is_t2() -> None:
    layer = ClientTransactions(CONFIG, LIMITS)
    layer.begin(BRANCH, "MESSAGE", UDP, b"request", Notebook(), at(0))
    transaction = layer.find(response(100))
    assert transaction is not None
    layer.receive(transaction, response(100), at(100))
    assert layer.next_timeout() == 500
    layer.handle_timeout(at(500))
    assert layer.next_timeout() == 4_500


def test_on_a_stream_nothing_is_repeated_and_timer_k_is_zero() -> None:
    user = Notebook()
    layer = ClientTransactions(CONFIG, LIMITS)
    layer.begin(BRANCH, "MESSAGE", TCP, b"request", user, at(0))
    assert layer.next_timeout() == 32_000
    transaction = layer.find(response(200))
    assert transaction is not None
    layer.receive(transaction, response(200), at(7))
    assert layer.next_timeout() == 7
    layer.handle_timeout(at(7))
    assert layer.find(response(200)) is None
    assert user.told == [(200, True)]


def test_timer_k_waits_t4_on_datagrams_and_many_end_together() -> None:
    layer = ClientTransactions(CONFIG, LIMITS)
    branches = [f"z9hG4bK{number}" for number in range(200)]
    for number, branch in enumerate(branches):
        layer.begin(branch, "MESSAGE", UDP, b"request", Notebook(), at(number))
        transaction = layer.find(response(200, branch))
        assert transaction is not None
        layer.receive(transaction, response(200, branch), at(number))
    wake_ups = 0
    while (at_ms := layer.next_timeout()) is not None:
        before = {number for number, branch in enumerate(branches) if layer.find(response(200, branch))}
        layer.handle_timeout(at(at_ms))
        after = {number for number, branch in enumerate(branches) if layer.find(response(200, branch))}
        assert all(number + T4_MS <= at_ms < number + T4_MS + 100 for number in before - after)
        wake_ups += 1
    assert wake_ups == 3


def test_closed_stream_fails_what_waits_on_it_and_nothing_else() -> None:
    user, other = Notebook(), Notebook()
    layer = ClientTransactions(CONFIG, LIMITS)
    layer.begin(BRANCH, "MESSAGE", TCP, b"one", user, at(0))
    layer.begin("z9hG4bKtwo", "MESSAGE", UDP, b"two", other, at(0))
    layer.flow_closed(TCP, at(1))
    assert (user.told, other.told) == ([(503, False)], [])


def test_response_is_matched_by_branch_and_method() -> None:
    # Section 17.1.3.
    layer = ClientTransactions(CONFIG, LIMITS)
    layer.begin(BRANCH, "MESSAGE", UDP, b"request", Notebook(), at(0))
    assert layer.find(response(200)) is not None
    assert layer.find(response(200, branch="z9hG4bKother")) is None
    assert layer.find(response(200, method="REGISTER")) is None


def test_response_to_somebody_elses_via_is_none_of_ours() -> None:
    # Section 18.1.2.
    layer = ClientTransactions(CONFIG, LIMITS)
    layer.begin(BRANCH, "MESSAGE", UDP, b"request", Notebook(), at(0))
    for via in ("127.0.0.1:5061", "127.0.0.1", "other.example.com:5060"):
        other = parse_message(response(200).serialise().replace(b"127.0.0.1:5060", via.encode()))
        assert isinstance(other, Response)
        assert layer.find(other) is None


def test_number_is_bounded() -> None:
    layer = ClientTransactions(CONFIG, Limits(client_transactions_max=1))
    assert not layer.is_full
    layer.begin(BRANCH, "MESSAGE", UDP, b"request", Notebook(), at(0))
    assert layer.is_full


def test_completed_ones_are_bounded_and_the_oldest_leave_first() -> None:
    layer = ClientTransactions(CONFIG, Limits(finished_transactions_max=2))
    for number in range(3):
        branch = f"z9hG4bK{number}"
        layer.begin(branch, "MESSAGE", UDP, b"request", Notebook(), at(0))
        transaction = layer.find(response(200, branch=branch))
        assert transaction is not None
        layer.receive(transaction, response(200, branch=branch), at(number))
    known = [layer.find(response(200, branch=f"z9hG4bK{number}")) is not None for number in range(3)]
    assert known == [False, True, True]
    layer.handle_timeout(at(100_000))
    assert layer.next_timeout() is None


def test_one_of_several_on_a_stream_ends_and_the_others_go_on() -> None:
    layer = ClientTransactions(CONFIG, LIMITS)
    one, other = Notebook(), Notebook()
    layer.begin(BRANCH, "MESSAGE", TCP, b"one", one, at(0))
    layer.begin("z9hG4bKtwo", "MESSAGE", TCP, b"two", other, at(0))
    transaction = layer.find(response(200))
    assert transaction is not None
    layer.receive(transaction, response(200), at(1))
    layer.flow_closed(TCP, at(2))
    assert (one.told, other.told) == ([(200, True)], [(503, False)])


def test_enums_hash_as_integers() -> None:
    # A plain Enum hashes in Python code, several times for each message.
    assert issubclass(ClientState, int)
    assert issubclass(ServerState, int)
    assert issubclass(ClientEvent, int)
    assert issubclass(ServerEvent, int)
