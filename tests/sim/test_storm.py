"""More than there is time for, in virtual time: a storm of REGISTERs, and a store that is slower than messages come in.

The engine is the real one and takes no time. The store has one writer, as SQLite has: batches of each kind take turns,
and each takes as long as a commit and its rows do.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from fuzz.bounds import check_bounds
from msilo_core import Config, Engine, Flow, Limits, Moment
from msilo_core.actions import (
    Action,
    Bind,
    Binding,
    Bound,
    Completion,
    Due,
    Expire,
    Expired,
    LookedUp,
    LookUp,
    Retry,
    Send,
    Store,
    Stored,
)
from msilo_core.uri import Aor
from tests.faults.scale import scaled

PHONES: Final = scaled(10_000, 100_000)
RATE: Final = 1_000

MESSAGE_EVERY_MS: Final = 50

EPOCH_MS: Final = 1_790_000_000_000

# A hundred thousand of anything take a while on a busy machine.
PATIENCE: Final = pytest.mark.timeout(600)


class Storm:
    """A server, its store, and all who want something of it.

    Args:
        limits: of the server.
        commit_ms: what a batch costs.
        row_us: what each of its rows costs beside that.

    Attributes:
        registered_ms: when each phone was registered.
        refusals: how often each was refused.
        sent_ms: when each MESSAGE was sent, by number.
        answers: the status that it got, and when.
        waiting_most: most actions that waited for the store.
    """

    def __init__(self, limits: Limits, *, commit_ms: int, row_us: int) -> None:
        self.now_ms = 0
        self.limits = limits
        self.engine = Engine(Config(), limits, entropy=random.Random(1), now=self.now)
        self.registered_ms: dict[str, int] = {}
        self.refusals: Counter[str] = Counter()
        self.sent_ms: dict[int, int] = {}
        self.answers: dict[int, tuple[int, int]] = {}
        self.waiting_most = 0
        self._commit_ms = commit_ms
        self._row_us = row_us
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._queues: dict[type, deque[Any]] = {Bind: deque(), Store: deque(), LookUp: deque()}
        self._kinds = deque((Bind, Store))
        self._is_writing = self._is_reading = False
        self._bindings: dict[Aor, tuple[Binding, ...]] = {}
        self._rows = 0
        self._tries: Counter[str] = Counter()

    @property
    def now(self) -> Moment:
        return Moment(self.now_ms, EPOCH_MS + self.now_ms)

    def later(self, ms: int, what: Callable[[], None]) -> None:
        """Let something happen in so many milliseconds."""
        self._order += 1
        heapq.heappush(self._events, (self.now_ms + ms, self._order, what))

    def run(self, until_ms: int) -> None:
        """Let time pass."""
        while True:
            at_ms = self.engine.next_timeout()
            next_ms = min(self._events[0][0] if self._events else until_ms, until_ms if at_ms is None else at_ms)
            if next_ms >= until_ms:
                self.now_ms = until_ms
                return
            self.now_ms = max(self.now_ms, next_ms)
            if at_ms is not None and at_ms <= self.now_ms:
                self._carry_out(self.engine.handle_timeout(self.now))
            while self._events and self._events[0][0] <= self.now_ms:
                heapq.heappop(self._events)[2]()

    def come(self, phones: int) -> None:
        """Let so many phones register at the same instant."""
        for number in range(phones):
            self.later(0, partial(self._register, f"u{number}"))

    def write(self, every_ms: int, until_ms: int) -> None:
        """Let somebody write so often to people who are away."""
        for number, at_ms in enumerate(range(0, until_ms, every_ms)):
            self.later(at_ms, partial(self._message, number))

    def check_end(self) -> None:
        """Check that nothing is left."""
        self.run(self.now_ms + 60_000)
        check_bounds(self.engine, self.limits, [], is_over=True)

    def _register(self, user: str) -> None:
        self._tries[user] += 1
        self._receive(_REGISTER % {b"user": user.encode(), b"try": self._tries[user]})

    def _message(self, number: int) -> None:
        self.sent_ms[number] = self.now_ms
        self._receive(_MESSAGE % {b"number": number})

    def _receive(self, data: bytes) -> None:
        self._carry_out(self.engine.receive_datagram(data, _FLOW, self.now))

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._answered(action.data)
            elif isinstance(action, Bind | Store | LookUp):
                self._queues[type(action)].append(action)
                self._begin()
            elif isinstance(action, Expire):
                self._carry_out(self.engine.complete(Expired(action.token, 0), self.now))
            else:
                assert isinstance(action, Retry), action
                self._carry_out(self.engine.complete(Due(action.token, ()), self.now))

    def _answered(self, data: bytes) -> None:
        status = int(data[8:11])
        if status < 200:
            return
        branch = data.partition(b"z9hG4bK")[2].partition(b";")[0].decode()
        kind, name = branch[0], branch[1:].partition(".")[0]
        if kind == "m":
            self.answers[int(name)] = (status, self.now_ms)
        elif status == 200:
            self.registered_ms[name] = self.now_ms
        else:
            assert status == 503, data
            self.refusals[name] += 1
            after_s = int(data.partition(b"Retry-After: ")[2].partition(b"\r\n")[0])
            self.later(1000 * after_s, partial(self._register, name))

    # -- The store -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._is_reading and self._queues[LookUp]:
            self._is_reading = True
            self._take(LookUp, self._read)
        for _ in range(0 if self._is_writing else len(self._kinds)):
            kind = self._kinds[0]
            # Whose turn it was is the last to have it again.
            self._kinds.rotate()
            if self._queues[kind]:
                self._is_writing = True
                self._take(kind, self._written)
                break

    def _take(self, kind: type, done: Callable[[list[Any]], None]) -> None:
        queue = self._queues[kind]
        batch = [queue.popleft() for _ in range(min(len(queue), self.limits.batch_max))]
        self.later(self._commit_ms + len(batch) * self._row_us // 1000, partial(done, batch))

    def _read(self, batch: list[LookUp]) -> None:
        self._is_reading = False
        self._complete([LookedUp(one.token, self._bindings.get(one.owner, ()), waiting=False) for one in batch])

    def _written(self, batch: list[Bind | Store]) -> None:
        self._is_writing = False
        completions: list[Completion] = []
        for one in batch:
            if isinstance(one, Bind):
                self._bindings[one.owner] = one.contacts
                completions.append(Bound(one.token, one.contacts, waiting=False))
            else:
                self._rows += 1
                completions.append(Stored(one.token, self._rows))
        self._complete(completions)

    def _complete(self, completions: list[Completion]) -> None:
        for completion in completions:
            self._carry_out(self.engine.complete(completion, self.now))
        waiting = {kind: len(queue) for kind, queue in self._queues.items()}
        self.waiting_most = max(self.waiting_most, sum(waiting.values()))
        assert all(count <= self.limits.storage_actions_max for count in waiting.values()), waiting
        servers = self.engine._servers  # pyright: ignore[reportPrivateUsage]
        assert servers.active_count <= self.limits.server_transactions_max
        assert servers.finished_count <= self.limits.finished_transactions_max
        self._begin()


_FLOW = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5070))
_REGISTER = (
    b"REGISTER sip:example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKr%(user)b.%(try)d;x\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:%(user)b@example.com>;tag=r\r\n"
    b"To: <sip:%(user)b@example.com>\r\n"
    b"Call-ID: %(user)b\r\n"
    b"CSeq: %(try)d REGISTER\r\n"
    b"Contact: <sip:%(user)b@127.0.0.1:5070>\r\n"
    b"Expires: 3600\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_MESSAGE = (
    b"MESSAGE sip:away%(number)d@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKm%(number)d;x\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:alice@example.com>;tag=%(number)d\r\n"
    b"To: <sip:away@example.com>\r\n"
    b"Call-ID: m%(number)d\r\n"
    b"CSeq: 1 MESSAGE\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)


# -- Registrations -----------------------------------------------------------------------------------------------------


@PATIENCE
def test_storm_of_registrations_is_let_in_at_its_rate_and_keeps_no_message_waiting() -> None:
    storm = Storm(Limits(registrations_per_s=RATE, registrations_burst=RATE), commit_ms=5, row_us=20)
    storm.come(PHONES)
    # The burst comes in at once, and the last of the line an eighth of its length later.
    line_ms = (PHONES - RATE) * 1000 // RATE
    storm.write(MESSAGE_EVERY_MS, line_ms * 9 // 8)
    storm.run(line_ms * 9 // 8 + 3_000)

    assert len(storm.registered_ms) == PHONES
    times_ms = sorted(storm.registered_ms.values())
    assert times_ms[-1] >= line_ms
    # Never more than the rate and the burst, and hardly less than the rate while many wait.
    by_second = Counter(ms // 1000 for ms in times_ms)
    assert max(by_second.values()) <= 2 * RATE
    many_s = 9 * PHONES // (10 * RATE)
    assert sum(by_second[second] for second in range(many_s)) >= 0.9 * many_s * RATE
    # Few are told to come back twice.
    assert sum(storm.refusals.values()) <= 1.5 * PHONES
    assert {status for status, _ in storm.answers.values()} == {202}
    assert len(storm.answers) == len(storm.sent_ms)
    waits_ms = [at_ms - storm.sent_ms[number] for number, (_, at_ms) in storm.answers.items()]
    assert max(waits_ms) <= 100
    print(
        f"{PHONES} REGISTERs at once: the last is carried out after {times_ms[-1] / 1000:.1f} s,"
        f" {max(by_second.values())} in one second at most, {sum(storm.refusals.values())} refusals;"
        f" of {len(waits_ms)} MESSAGEs the slowest took {max(waits_ms)} ms; {storm.waiting_most} actions waited at most"
    )
    storm.check_end()


@PATIENCE
def test_storm_of_registrations_without_a_rate_leaves_room_for_messages() -> None:
    """The store does some 9,000 a second; what it has no time for comes back at different times."""
    storm = Storm(Limits(), commit_ms=5, row_us=100)
    storm.come(PHONES // 2)
    storm.write(MESSAGE_EVERY_MS, 60_000)
    storm.run(120_000)
    assert len(storm.registered_ms) == PHONES // 2
    assert {status for status, _ in storm.answers.values()} == {202}
    assert len(storm.answers) == len(storm.sent_ms)
    waits_ms = [at_ms - storm.sent_ms[number] for number, (_, at_ms) in storm.answers.items()]
    assert max(waits_ms) <= 200
    print(
        f"{PHONES // 2} REGISTERs at once: the last is carried out after"
        f" {max(storm.registered_ms.values()) / 1000:.1f} s, {sum(storm.refusals.values())} refusals;"
        f" the slowest of {len(waits_ms)} MESSAGEs took {max(waits_ms)} ms"
    )
    storm.check_end()


# -- Messages ----------------------------------------------------------------------------------------------------------


@PATIENCE
def test_store_that_is_slow_but_alive_does_what_it_can() -> None:
    """1,000 messages a second come in, and a commit of 512 takes a second."""
    storm = Storm(Limits(), commit_ms=1_000, row_us=0)
    for_s = scaled(20, 60)
    storm.write(1, for_s * 1000)
    storm.run(for_s * 1000 + 10_000)
    assert len(storm.answers) == len(storm.sent_ms)
    accepted = [(number, at_ms) for number, (status, at_ms) in storm.answers.items() if status == 202]
    refused = [(number, at_ms) for number, (status, at_ms) in storm.answers.items() if status == 503]
    assert len(accepted) + len(refused) == for_s * 1000
    # Those that are refused have hardly waited, and hardly any is stored in vain.
    waited = [number for number, at_ms in refused if at_ms - storm.sent_ms[number] > storm.limits.storage_ms / 2]
    assert len(waited) < 1_000
    assert len(accepted) >= 0.9 * for_s * 512
    waits_ms = [at_ms - storm.sent_ms[number] for number, at_ms in accepted]
    assert max(waits_ms) < storm.limits.storage_ms
    print(
        f"{for_s * 1000} MESSAGEs in {for_s} s, a store that does 512 a second: {len(accepted)} accepted after"
        f" {max(waits_ms)} ms at most, {len(refused)} refused, of which {len(waited)} had waited"
    )
    storm.check_end()
