"""Everything around an engine in a story: peers, a store that keeps what it is given, and a clock."""

import random
from collections import Counter
from contextlib import suppress
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec

from examples.deferred import Deferred
from fuzz.bounds import check_bounds
from fuzz.peers import (
    OUTBOUND,
    PASSWORD,
    PEERS,
    PROXY,
    USERS,
    arrival_of,
    challenges_of,
    come_back,
    message,
    register,
    response_to,
)
from fuzz.promises import Promises
from fuzz.routes import SKIP_FLAG, Scripted
from fuzz.store import ModelStore
from msilo_core import Config, Engine, Flow, Limits, Moment
from msilo_core.actions import (
    Action,
    Bind,
    CloseFlow,
    Completion,
    Dropped,
    Dump,
    Expire,
    FindUser,
    LookUp,
    Remind,
    Renew,
    Retry,
    Send,
    Settle,
    StorageAction,
    StorageFailed,
    Store,
    Unbind,
)
from msilo_core.config import AuthConfig, DeliveryConfig
from msilo_core.errors import LocalError, Unavailable
from msilo_core.fields import Challenge
from msilo_core.flow import Address
from msilo_core.framing import StreamFramer, frame_datagram
from msilo_core.message import Request, Response
from msilo_core.parameters import SiloConfig
from msilo_core.route import Route, SiloRoute
from msilo_core.silo import RETRY_PAUSE_S
from msilo_core.uri import Aor
from msilo_storage.quotas import size_of

__all__ = ["SETTINGS", "Failure", "World"]

T = TypeVar("T")

_EPOCH_MS: Final = 1_790_000_000_000

# So many deadlines in a row are more than the longest story has: they would go on for ever.
_DEADLINES_MAX: Final = 5_000
# Later than this after the last step there is nothing to do but for the cleaner, and for what falls due then.
_AFTERMATH_MS: Final = 100_000
# What falls due then is sent in vain, and again at each look where it waits behind a page of others; there are pauses.
_PAUSE_MS: Final = 1_000
_PAUSES_MAX: Final = 1_000
# What is deferred for longer does not come in a story.
_DEFERRED_S_MAX: Final = 10_000_000

SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "digest": {"auth": AuthConfig(algorithms=("MD5",), nonce_lifetime_s=10)},
    "domains": {"domains": frozenset({"example.com"})},
    "proxy": {"domains": frozenset({"example.net"}), "foreign": f"sip:{PROXY[0]}:{PROXY[1]};lr"},
    "lazy": {"path_mode": "lazy"},
}
"""What a word at the begin of a story sets in :class:`msilo_core.Config`. ``small`` takes limits that are soon reached,
``prompt`` a store that does at once what it is asked for."""

PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "dated": {"add_date": 1, "expire_time": 20},
    "notify": {
        "from_address": "sip:silo@example.com",
        "contact_hdr": "Contact: <$tu>\r\n",
        "offline_message": "$tU will see '$hdr(Subject)': $rb",
        "content_type_hdr": "Content-Type: text/plain",
    },
    "remind": {"reminder": "sip:reminder@example.com", "send_time": 10, "snd_time_avp": "$avp(due)"},
    "outbound": {"outbound_proxy": f"sip:{OUTBOUND[0]}:{OUTBOUND[1]}"},
    "quota": {"max_messages": 2, "max_bytes": 2_000},
    "fair": {"max_messages_per_sender": 2},
    "typed": {"content_types": ("text/*",)},
    "scripted": {"extra_hdrs_avp": "$avp(hdrs)", "skip_notification_flag": SKIP_FLAG},
}
"""The same of the parameters of msilo."""

ROUTES: Final[dict[str, type[Route]]] = {"scripted": Scripted, "silo": SiloRoute, "remind": Deferred}
"""The routes that such a word takes instead of the server's, the first of several; ``remind`` reads a header
``X-Deliver-At``, ``scripted`` does what the request says."""

# More often would only make long stories of days that pass.
_DELIVERY: Final = DeliveryConfig(retry_look_s=60)

_SMALL: Final = Limits(
    message_bytes_max=3_000,
    streams_bytes_max=4_000,
    server_transactions_max=4,
    server_transactions_bytes_max=4_000,
    finished_transactions_max=2,
    finished_transactions_bytes_max=2_000,
    client_transactions_max=2,
    client_transactions_bytes_max=2_000,
    storage_actions_max=4,
    sender_rate=1,
    sender_burst=3,
    senders_max=1,
    bindings_per_aor_max=3,
    nonces_max=2,
    waiting_per_owner_max=1,
    deliveries_max=1,
    deliveries_waiting_max=1,
    page_messages_max=2,
    notified_max=1,
    imdns_per_sender_max=1,
    imdns_waiting_max=1,
    reminders_max=1,
)


class Failure(Enum):
    """How the store fails at one action."""

    NONE = "none"
    NOT_DONE = "not done"
    DONE = "done"
    """It says that it failed, and has carried it out all the same."""


class World:
    """One engine, and what the steps of a story do to it."""

    def __init__(self, words: frozenset[str]) -> None:
        """Set it up as the first record of a story says."""
        changes: dict[str, Any] = {}
        for word, settings in SETTINGS.items():
            if word in words:
                changes |= settings
        parameters: dict[str, Any] = {}
        for word, settings in PARAMETERS.items():
            if word in words:
                parameters |= settings
        self._config = Config(**changes, delivery=_DELIVERY, silo=SiloConfig(**parameters))
        self._limits = _SMALL if "small" in words else Limits()
        self._mono_ms = 0
        self._store = ModelStore(USERS, PASSWORD, lambda: self._now.unix_ms)
        self._is_prompt = "prompt" in words
        self._awaited: list[StorageAction] = []
        self._completions: dict[int, Completion] = {}
        self._requests: list[tuple[Send, Request]] = []
        self._challenges: dict[Flow, list[Challenge]] = {}
        self._framers: dict[Flow, StreamFramer] = {}
        self._is_closing = False
        self._connections: dict[Address, Flow] = {flow.remote: flow for flow in _STREAMS}
        self._promises = Promises(self._store, self._config, self._limits)
        routes = [route for word, route in ROUTES.items() if word in words]
        self._engine = Engine(
            self._config,
            self._limits,
            entropy=random.Random(1),
            now=self._now,
            route=routes[0]() if routes else None,
        )

    # -- Peers ---------------------------------------------------------------------------------------------------------

    def message(self, peer: int, sender: int, owner: int, number: int, text: str) -> None:
        """Let a peer send a MESSAGE."""
        flow = _pick(PEERS, peer)
        challenges = self._challenges.get(flow, [])
        self._deliver(flow, message(flow, _pick(USERS, sender), _pick(USERS, owner), number, text, challenges))

    def register(self, peer: int, owner: int, number: int, text: str) -> None:
        """Let a peer send a REGISTER."""
        flow = _pick(PEERS, peer)
        self._deliver(flow, register(flow, _pick(USERS, owner), number, text, self._challenges.get(flow, [])))

    def answer(self, ago: int, status_line: str, text: str) -> None:
        """Let whoever got a request of the engine's answer it, perhaps again."""
        if self._requests:
            send, request = _pick(self._requests[::-1], ago)
            self._deliver(self._connected(send.flow), response_to(request, status_line, text))

    def come_back(self, ago: int) -> None:
        """Let whoever got a request of the engine's send it back, as a proxy that finds nobody else."""
        if self._requests:
            send, request = _pick(self._requests[::-1], ago)
            self._deliver(self._connected(send.flow), come_back(request, send.flow))

    def datagram(self, peer: int, data: bytes) -> None:
        """Let a peer send any octets; on its stream if it has one."""
        self._deliver(_pick(PEERS, peer), data)

    def stream(self, peer: int, data: bytes) -> None:
        """Let a peer send any octets on a stream."""
        self._deliver(_pick(_STREAMS, peer), data)

    def open(self, peer: int) -> None:
        """Let a stream be accepted."""
        self._take(self._engine.flow_opened(_pick(_STREAMS, peer), self._now))

    def close_stream(self, peer: int) -> None:
        """Let a stream end."""
        flow = _pick(_STREAMS, peer)
        self._close(flow)
        self._take(self._engine.flow_closed(flow, "the peer closed it", self._now))

    def fail_to_send(self, ago: int) -> None:
        """Let it turn out that a request could not be sent."""
        if self._requests:
            send, _ = _pick(self._requests[::-1], ago)
            self._promises.failed_to_send(send.token)
            self._take(self._engine.send_failed(send.token, self._now))

    # -- The store -----------------------------------------------------------------------------------------------------

    def carry_out(self, number: int) -> None:
        """Let the store carry out one of the actions that wait, and say nothing yet."""
        if self._awaited:
            self._done(_pick(self._awaited, number))

    def complete(self, number: int, failure: Failure) -> None:
        """Let the store say what became of one of the actions that wait."""
        if not self._awaited:
            return
        action = _pick(self._awaited, number)
        if failure is not Failure.NOT_DONE:
            self._done(action)
        self._awaited.remove(action)
        done = self._completions.pop(action.token, None)
        failed = StorageFailed(action.token, "the story says so")
        completion = done if done is not None and failure is Failure.NONE else failed
        self._promises.completed(action, completion)
        self._take(self._engine.complete(completion, self._now))

    def _done(self, action: StorageAction) -> None:
        if action.token not in self._completions:
            self._completions[action.token] = self._store.carry_out(action)

    def be_prompt(self, is_prompt: bool) -> None:
        """Say whether the store does at once what it is asked for."""
        self._is_prompt = is_prompt
        self._catch_up()

    def _catch_up(self) -> None:
        while self._is_prompt and self._awaited:
            self.complete(0, Failure.NONE)

    # -- Time and the application --------------------------------------------------------------------------------------

    def pass_time(self, ms: int) -> None:
        """Let time pass, with every deadline on the way."""
        end_ms = self._mono_ms + ms
        for _ in range(_DEADLINES_MAX):
            due_ms = self._engine.next_timeout()
            if due_ms is None or due_ms > end_ms:
                break
            self.leap(max(due_ms - self._mono_ms, 0))
            self._catch_up()
        else:
            # The cleaner alone has so many in the longest time.
            assert ms > _AFTERMATH_MS, "deadlines without end"
        self._mono_ms = max(self._mono_ms, end_ms)

    def leap(self, ms: int) -> None:
        """Let time pass at once; what is due is done, and nothing stays due."""
        self._mono_ms += ms
        for _ in range(_DEADLINES_MAX):
            self._take(self._engine.handle_timeout(self._now))
            due_ms = self._engine.next_timeout()
            if due_ms is None or due_ms > self._mono_ms:
                return
        raise AssertionError("a deadline stays in the past")

    def dump(self, owner: int) -> None:
        """Let the application ask for a delivery."""
        with suppress(Unavailable):
            self._take(self._engine.dump(_pick(USERS, owner), None, self._now))

    def close(self) -> None:
        """Let a graceful end begin."""
        self._is_closing = True
        self._take(self._engine.close(self._now))

    def abandon(self) -> None:
        """Let its patience end."""
        self.close()
        self._take(self._engine.abandon(self._now))

    # -- What is promised ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check what holds after each step."""
        self._catch_up()
        check_bounds(self._engine, self._limits, self._awaited)
        silo = self._config.silo
        for owner in USERS:
            kept = self._store.kept(owner)
            assert not silo.max_messages or len(kept) <= silo.max_messages, "more is kept than may be"
            assert not silo.max_bytes or sum(map(size_of, kept)) <= silo.max_bytes, "more octets are kept than may be"
            senders = Counter(message.src_addr for message in kept)
            assert not silo.max_messages_per_sender or max(senders.values(), default=0) <= silo.max_messages_per_sender

    def end(self) -> None:
        """Let the store and time make an end of everything, and all owners come back: nothing stays."""
        self._come_to_rest()
        if not self._is_closing:
            self._let_in_all()
            deferred_s = self._store.last_due_s(self._now.unix_s + _DEFERRED_S_MAX) - self._now.unix_s
            if deferred_s > 0:
                self.leap(1000 * deferred_s)
                self._come_to_rest()
                self._let_in_all()
        try:
            self._engine.complete(StorageFailed(1, "again"), self._now)
        except LocalError:
            return
        raise AssertionError("a token is awaited that was completed, or was never issued")

    def _come_to_rest(self) -> None:
        self.be_prompt(True)
        for flow in self._connections.values():
            self._close(flow)
            self._take(self._engine.flow_closed(flow, "the end", self._now))
        self._catch_up()
        self.pass_time(_AFTERMATH_MS)
        for _ in range(_PAUSES_MAX):
            if self._engine.is_idle:
                break
            self.pass_time(_PAUSE_MS)
        assert self._engine.is_idle, "something is under way for ever"
        check_bounds(self._engine, self._limits, self._awaited, is_over=True)

    def _let_in_all(self) -> None:
        for owner in USERS:
            self._let_in(owner)
        self._come_to_rest()

    def _let_in(self, owner: Aor) -> None:
        """Let an owner come back and take all that waits."""
        if not self._store.waiting(owner, self._now.unix_s):
            return
        for flow, data in arrival_of(owner, self._now.unix_s):
            self._deliver(flow, data)
            self._catch_up()
        end_ms = self._mono_ms + 1000 * (RETRY_PAUSE_S + 2 * _DELIVERY.retry_look_s)
        for _ in range(_DEADLINES_MAX):
            while not self._requests and self._store.waiting(owner, self._now.unix_s) and self._mono_ms < end_ms:
                # So many came at once that this one had no turn: it is tried again.
                self.pass_time(10 * _PAUSE_MS)
            if not self._requests:
                break
            send, request = self._requests.pop()
            self._deliver(self._connected(send.flow), response_to(request, "200 OK", ""))
            self._catch_up()
        assert not self._store.waiting(owner, self._now.unix_s), "it is never delivered"

    # -- Octets and actions --------------------------------------------------------------------------------------------

    @property
    def _now(self) -> Moment:
        return Moment(self._mono_ms, _EPOCH_MS + self._mono_ms)

    def _deliver(self, flow: Flow, data: bytes) -> None:
        if not flow.is_stream:
            self._promises.received([frame_datagram(data, self._limits)], flow, self._now)
            self._take(self._engine.receive_datagram(data, flow, self._now))
        elif data:
            framer = self._framers.setdefault(flow, StreamFramer(self._limits))
            self._promises.received(framer.receive(data), flow, self._now)
            self._take(self._engine.receive_stream(data, flow, self._now))

    def _connected(self, flow: Flow) -> Flow:
        """Return the connection for a flow that may have to be opened."""
        if not flow.is_stream or flow.token:
            return flow
        token = len(self._connections) + 1
        return self._connections.setdefault(flow.remote, msgspec.structs.replace(flow, token=token))

    def _take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self._note(action, self._promises.sent(action, self._now))
                case CloseFlow(flow=flow):
                    self._close(flow)
                case Dropped():
                    pass
                case (
                    LookUp()
                    | Bind()
                    | Unbind()
                    | Store()
                    | FindUser()
                    | Dump()
                    | Renew()
                    | Settle()
                    | Expire()
                    | Remind()
                    | Retry()
                ):
                    self._promises.asked(action)
                    self._awaited.append(action)
                case _:
                    raise AssertionError(action)

    def _close(self, flow: Flow) -> None:
        self._framers.pop(flow, None)
        self._promises.closed(flow)

    def _note(self, send: Send, sent: Request | Response | None) -> None:
        """Remember what may be answered."""
        if isinstance(sent, Request):
            self._requests.append((send, sent))
        elif sent is not None and sent.status in (401, 407):
            self._challenges[send.flow] = challenges_of(sent)


_STREAMS: Final = tuple(flow for flow in PEERS if flow.is_stream)


def _pick(values: "tuple[T, ...] | list[T]", number: int) -> T:
    return values[number % len(values)]
