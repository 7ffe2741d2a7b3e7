"""Who goes on while things break: senders, phones, and others who ask.

Each is driven by one loop, :func:`pump`, in the test's own thread; whatever breaks things and takes its time runs in
another (:func:`meanwhile`). They speak literal bytes (:mod:`tests.runners.peer`), repeat what is not answered, as every
client does on UDP, and write down what they see: judging is for the tests.
"""

import random
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, Self, TypeAlias

from tests.runners.peer import Address, Peer, Received

__all__ = [
    "Answer",
    "Call",
    "Identity",
    "Person",
    "Phone",
    "Prober",
    "Sender",
    "assert_in_order",
    "at_two_servers",
    "meanwhile",
    "pump",
    "wait",
]

Identity: TypeAlias = tuple[str, str, str]
"""Call-ID, CSeq and From tag: what a phone recognises a message by (RFC 3261 section 8.2.2.2)."""

# RFC 3261's T1.
_REPEAT_S = 0.5

# Timer F: then nobody answers any more.
_SILENCE_S = 32.0

# Whoever is told to come back later does so; sooner than anybody's Retry-After, so that nobody waits for a test.
_COME_BACK_S = 0.2


class Person(Protocol):
    """Somebody in the loop."""

    def fileno(self) -> int: ...

    def step(self, now: float) -> None:
        """Read what is there, and do what is due; `now` is in seconds."""
        ...


def pump(people: Sequence[Person], until: Callable[[], bool], within_s: float = 60) -> None:
    """Let all of them go on until something is so."""
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        select.select(people, [], [], 0.002)
        for person in people:
            person.step(time.monotonic())


def wait(people: Sequence[Person], for_s: float) -> None:
    """Let all of them go on for a while."""
    end = time.monotonic() + for_s
    pump(people, lambda: time.monotonic() >= end, for_s + 60)


def meanwhile(people: Sequence[Person], function: Callable[[], object], within_s: float = 120) -> None:
    """Call a function that takes its time, while all of them go on."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        pump(people, lambda: not thread.is_alive(), within_s)
    finally:
        thread.join()
    if failures:
        raise failures[0]


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        status: of its final response, 0 if there was none for 32 s.
        began: when it was first sent, in seconds.
        ended: when it was answered.
        retry_after: whether it said when to come back.
    """

    status: int
    began: float
    ended: float
    retry_after: bool = False

    @property
    def took_s(self) -> float:
        return self.ended - self.began


@dataclass
class _Exchange:
    raw: bytes
    to: Address
    key: str
    began: float
    repeat_at: float


class _Exchanges:
    """Requests under way, repeated until they are answered."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._under_way: dict[str, _Exchange] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, key: str, raw: bytes, now: float, to: Address | None = None) -> None:
        to = to or self._peer.server
        self._under_way[Received(raw).branch] = _Exchange(raw, to, key, now, now + _REPEAT_S)
        self._peer.send(raw, to)

    def end(self, response: Received, now: float) -> tuple[str, Answer] | None:
        """Return what was answered, and how; None for a provisional response, or the answer to a repeat."""
        if response.status < 200 or response.branch not in self._under_way:
            return None
        done = self._under_way.pop(response.branch)
        return done.key, Answer(response.status, done.began, now, bool(response.header("Retry-After")))

    def repeat(self, now: float) -> list[tuple[str, Answer]]:
        """Repeat what is due, and return what nobody answers."""
        silent: list[tuple[str, Answer]] = []
        for branch, one in list(self._under_way.items()):
            if now - one.began > _SILENCE_S:
                del self._under_way[branch]
                silent.append((one.key, Answer(0, one.began, now)))
            elif now >= one.repeat_at:
                one.repeat_at = now + _REPEAT_S
                self._peer.send(one.raw, one.to)
        return silent


class Sender:
    """Somebody who writes to several owners in turn and keeps some MESSAGEs under way.

    Attributes:
        answers: what became of each MESSAGE, by its body.
        is_writing: whether new ones are begun; the test may change it.
    """

    def __init__(
        self,
        server: Address,
        owners: Sequence[str],
        *,
        name: str = "alice",
        window: int = 64,
        count: int = 10**9,
        every_s: float = 0.0,
    ) -> None:
        """Make a sender.

        Args:
            server: whom it sends to.
            owners: user parts of whom it writes to.
            name: its own.
            window: MESSAGEs under way: enough for a commit to cover many, few enough for any kernel's socket buffer.
            count: MESSAGEs in all.
            every_s: least time between two.
        """
        self.answers: dict[bytes, Answer] = {}
        self.is_writing = True
        self._peer = Peer(server)
        self._exchanges = _Exchanges(self._peer)
        self._owners = owners
        self._name = name
        self._window = window
        self._count = count
        self._every_s = every_s
        self._number = 0
        self._next_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.__exit__(None, None, None)

    @property
    def sent(self) -> int:
        """How many were begun."""
        return self._number

    @property
    def is_done(self) -> bool:
        """Whether all that was begun has been answered."""
        return not self._exchanges and (self._number >= self._count or not self.is_writing)

    def with_status(self, *statuses: int) -> set[bytes]:
        """Return the bodies that were answered so."""
        return {body for body, answer in self.answers.items() if answer.status in statuses}

    def fileno(self) -> int:
        return self._peer.fileno()

    def step(self, now: float) -> None:
        for response in self._peer.poll():
            if (ended := self._exchanges.end(response, now)) is not None:
                self.answers[ended[0].encode()] = ended[1]
                if ended[1].status == 503:
                    self._next_at = now + _COME_BACK_S
        for key, answer in self._exchanges.repeat(now):
            self.answers[key.encode()] = answer
        while (
            self.is_writing
            and now >= self._next_at
            and len(self._exchanges) < self._window
            and self._number < self._count
        ):
            owner = self._owners[self._number % len(self._owners)]
            body = f"{self._name} to {owner}, {self._number}"
            self._exchanges.begin(body, self._peer.message(owner, body.encode(), sender=self._name), now)
            self._number += 1
            self._next_at = now + self._every_s if self._every_s else 0.0


@dataclass(frozen=True)
class Call:
    """A MESSAGE as a phone got it.

    Attributes:
        owner: user part of whom it was for.
        body: its body.
        source: who sent it.
        began: when it came, in seconds.
        ended: when it was answered.
    """

    owner: str
    body: bytes
    source: Address | None
    began: float
    ended: float


@dataclass
class _Ringing:
    """A MESSAGE that a phone has not answered yet."""

    request: Received
    status: int
    began: float
    answer_at: float


@dataclass
class _Line:
    """One owner at one registrar."""

    owner: str
    server: Address
    register_at: float | None = None
    is_registered: bool = False


class Phone:
    """A phone of several owners, which shows what is new and recognises what is not.

    A repeat, which has the identity of a message that was shown but is another transaction, is answered 200 or 482, by
    chance: phones do either.

    Attributes:
        calls: every MESSAGE, in the order of the answers; a body that occurs again is a repeat on the wire.
        crowded: messages that came to a contact, from one server, while another was not answered there.
        registrations: what became of each REGISTER.
    """

    def __init__(
        self,
        *servers: Address,
        owners: Sequence[str],
        chance: random.Random,
        answer_after_s: float = 0.0,
        refresh_s: float = 1e9,
        merges: bool = True,
    ) -> None:
        """Make a phone.

        Args:
            servers: where it registers.
            owners: user parts of its owners.
            chance: decides how repeats are answered, and how soon.
            answer_after_s: most time until a MESSAGE is answered.
            refresh_s: time between two REGISTERs of an owner.
            merges: whether a repeat may be answered 482.
        """
        self.calls: list[Call] = []
        self.crowded: list[bytes] = []
        self.registrations: list[Answer] = []
        self._peer = Peer(servers[0])
        self._exchanges = _Exchanges(self._peer)
        self._lines = {f"{owner} {server}": _Line(owner, server) for owner in owners for server in servers}
        self._screens: dict[str, list[bytes]] = {owner: [] for owner in owners}
        self._chance = chance
        self._answer_after_s = answer_after_s
        self._refresh_s = refresh_s
        self._merges = merges
        self._bodies: dict[Identity, bytes] = {}
        self._ringing: list[_Ringing] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.__exit__(None, None, None)

    @property
    def address(self) -> Address:
        """Its own (host, port)."""
        return self._peer.address

    @property
    def screen(self) -> list[bytes]:
        """What was shown."""
        return [body for screen in self._screens.values() for body in screen]

    def screen_of(self, owner: str) -> list[bytes]:
        """Return what was shown to one owner, in order."""
        return self._screens[owner]

    @property
    def seen(self) -> Counter[bytes]:
        """How often each message came, by its body."""
        return Counter(call.body for call in self.calls)

    @property
    def repeats(self) -> int:
        """Messages that came again, on the wire."""
        return len(self.calls) - len(self._bodies)

    @property
    def is_registered(self) -> bool:
        """Whether the last REGISTER of every owner was answered 200."""
        return all(line.is_registered for line in self._lines.values())

    def register(self) -> None:
        """Register every owner now."""
        for line in self._lines.values():
            line.register_at, line.is_registered = 0.0, False

    def fileno(self) -> int:
        return self._peer.fileno()

    def step(self, now: float) -> None:
        for one in self._peer.poll():
            if one.status:
                if (ended := self._exchanges.end(one, now)) is not None:
                    self._registered(*ended, now)
            else:
                self._ring(one, now)
        for key, answer in self._exchanges.repeat(now):
            self._registered(key, answer, now)
        for ringing in [ringing for ringing in self._ringing if now >= ringing.answer_at]:
            self._ringing.remove(ringing)
            request = ringing.request
            self.calls.append(Call(_user_of(request), request.body, request.source, ringing.began, now))
            self._peer.answer(request, ringing.status)
        for key, line in self._lines.items():
            if line.register_at is not None and now >= line.register_at:
                line.register_at = None
                self._exchanges.begin(key, self._peer.registration(line.owner), now, line.server)

    def _registered(self, key: str, answer: Answer, now: float) -> None:
        self.registrations.append(answer)
        line = self._lines[key]
        if answer.status == 200:
            line.is_registered = True
            line.register_at = now + self._refresh_s
        else:
            line.register_at = now + _COME_BACK_S

    def _ring(self, request: Received, now: float) -> None:
        if any(other.request.branch == request.branch for other in self._ringing):
            return
        way = (request.source, request.request_uri)
        if any((other.request.source, other.request.request_uri) == way for other in self._ringing):
            self.crowded.append(request.body)
        status = 200
        identity = request.header("Call-ID"), request.header("CSeq"), request.header("From").partition(";tag=")[2]
        if identity not in self._bodies:
            self._bodies[identity] = request.body
            self._screens[_user_of(request)].append(request.body)
        elif self._merges and self._chance.random() < 0.5:
            status = 482
        assert self._bodies[identity] == request.body, "another message under the same name"
        self._ringing.append(_Ringing(request, status, now, now + self._chance.uniform(0, self._answer_after_s)))


_STRANGER = "127.0.0.2"


class Prober:
    """Somebody whose every request has its answer without the store; the server trusts 127.0.0.1/32 alone.

    Attributes:
        answers: what became of each, by what it was and what it should get, such as ``OPTIONS 200``.
    """

    def __init__(self, server: Address, *, every_s: float = 0.05) -> None:
        self.answers: list[tuple[str, Answer]] = []
        self._trusted = Peer(server)
        self._stranger = Peer(server, host=_STRANGER)
        self._exchanges = {peer: _Exchanges(peer) for peer in (self._trusted, self._stranger)}
        self._every_s = every_s
        self._next_at = 0.0
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._exchanges:
            peer.__exit__(None, None, None)

    @property
    def wrong(self) -> list[tuple[str, Answer]]:
        """What was answered otherwise than it should be."""
        return [(what, answer) for what, answer in self.answers if not what.endswith(f" {answer.status}")]

    def fileno(self) -> int:
        return self._trusted.fileno()

    def step(self, now: float) -> None:
        for peer, exchanges in self._exchanges.items():
            ended = [exchanges.end(response, now) for response in peer.poll()]
            self.answers += [one for one in ended if one is not None]
            self.answers += exchanges.repeat(now)
        if now >= self._next_at:
            self._next_at = now + self._every_s
            what, peer, raw = self._request()
            self._exchanges[peer].begin(what, raw, now)

    def _request(self) -> tuple[str, Peer, bytes]:
        peer = self._trusted
        message = peer.message("bob")
        requests = [
            ("OPTIONS 200", peer, message.replace(b"MESSAGE", b"OPTIONS")),
            ("without a From 400", peer, message.replace(b"From:", b"X-From:")),
            ("a method that is not served 405", peer, message.replace(b"MESSAGE", b"SUBSCRIBE")),
            ("another domain 404", peer, message.replace(b"bob@example.com", b"bob@example.org")),
            ("out of hops 483", peer, message.replace(b"Max-Forwards: 70", b"Max-Forwards: 0")),
            ("an extension 420", peer, peer.message("bob", headers=[("Proxy-Require", "gizmo")])),
            ("a stranger 403", self._stranger, self._stranger.message("bob")),
        ]
        self._number += 1
        return requests[self._number % len(requests)]


def at_two_servers(phones: Sequence[Phone]) -> list[tuple[Call, Call]]:
    """Return messages that one server sent to one of the phones while another sent it, to the same or the next."""
    calls = sorted((call for phone in phones for call in phone.calls), key=lambda call: (call.body, call.began))
    return [
        (one, other)
        for one, other in pairwise(calls)
        if one.body == other.body and one.source != other.source and other.began < one.ended
    ]


def shown_first(phones: Sequence[Phone], owner: str) -> list[bytes]:
    """Return what was shown to an owner in the order in which it came to the first of the phones."""
    calls = sorted((call for phone in phones for call in phone.calls if call.owner == owner), key=lambda one: one.began)
    return list(dict.fromkeys(call.body for call in calls))


def assert_in_order(arrived: Sequence[bytes], answers: dict[bytes, Answer]) -> None:
    """Check that what was answered before another was begun comes before that one.

    Senders have several under way, which may arrive in any order, a repeated one also behind younger ones.
    """
    earliest = arrived[-1] if arrived else b""
    for body in reversed(arrived):
        assert answers[body].began <= answers[earliest].ended, (
            f"{body!r} {answers[body]} before {earliest!r} {answers[earliest]}, answered before it was sent"
        )
        earliest = min(earliest, body, key=lambda one: answers[one].ended)


def _user_of(request: Received) -> str:
    return request.request_uri.removeprefix("sip:").partition("@")[0]
