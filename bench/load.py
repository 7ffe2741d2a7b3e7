"""Lean generators: closed loops of requests, and the phones that answer what is delivered.

They must cost less than the server that they measure, so they neither parse nor build SIP: see :mod:`bench.requests`.
So many requests are under way at any time, and the next one leaves when one is answered. What is not answered is sent
again as RFC 3261 has it, after 0.5 s, 1 s, 2 s and then each 4 s.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from bench.requests import Names, Requests, answer, number_in_body
from bench.wire import WAIT_MS, Address, TransportName, Wire, connect

__all__ = ["Kind", "Load", "LoadResult", "run"]

Kind: TypeAlias = Literal["store", "ordered store", "register", "deliver", "mixed"]
"""What a load consists of: a class of this module each."""

_T1_NS: Final = 500_000_000
_T2_NS: Final = 4_000_000_000

# How often to look for requests that are due to be sent again.
_LOOK_NS: Final = WAIT_MS * 1_000_000

# A server that says nothing for so long is gone.
_GIVE_UP_NS: Final = 30_000_000_000

# Phones that nothing has reached for so long register again, as with each refresh.
_REFRESH_NS: Final = 5_000_000_000

# Beyond the numbers of all others.
_REFRESH_FIRST: Final = 0x4000_0000

# Time after the last message for those that come a second time: T1, and some more.
_LINGER_NS: Final = 700_000_000


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one generator does.

    Attributes:
        kind: see :data:`Kind`.
        target: (host, port) of the server's socket.
        transport: which of its sockets.
        names: who the users are.
        phase: number of the load among those on the same users, 0 to 15.
        count: messages in all, or REGISTERs, or in a mixed load either; those that were stored where they are
            delivered.
        window: requests under way at once.
        users: how many, each as often as the others.
        body_bytes: length of each body.
    """

    kind: Kind
    target: Address
    transport: TransportName = "udp"
    names: Names
    phase: int = 0
    count: int
    window: int
    users: int
    body_bytes: int


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        began_ns, ended_ns: of the monotonic clock, the same for all generators of this machine.
        latencies_ms: from each request to its final answer, by what was asked for: ``store``, ``register``; ``deliver``
            is from a REGISTER to the last message that waited.
        statuses: answers by status.
        resent: requests that had to be sent again.
        cpu_s: CPU time of the generator.
        exchanged: messages that it sent and received, without what was sent again.
        delivered: messages that reached a phone.
        out_of_place: those of them that were not at the place of their user's sequence that they were stored at.
        repeated: messages that came again.
        refreshed: REGISTERs sent because nothing had come for a while.
        missing: messages that did not come.
    """

    began_ns: int
    ended_ns: int
    latencies_ms: dict[str, list[float]]
    statuses: dict[int, int]
    resent: int
    cpu_s: float
    exchanged: int
    delivered: int = 0
    out_of_place: int = 0
    repeated: int = 0
    refreshed: int = 0
    missing: int = 0


def run(load: Load, progress: Callable[[int], object], start: Callable[[], object] = lambda: None) -> LoadResult:
    """Carry it out and return when all has happened.

    Args:
        load: what to do.
        progress: told how much more of `count` is done.
        start: returns when it is time to begin.

    Raises:
        TimeoutError: the server says nothing any more.
        OSError: it is not there, or closed the connection.
    """
    wire = connect(load.target, load.transport)
    try:
        start()
        return _GENERATORS[load.kind](load, wire, progress).run()
    finally:
        wire.close()


class _Generator(ABC):
    """The loop; what is sent, and when, is in the classes below.

    Numbers of requests ascend in the order in which they were first sent.
    """

    def __init__(self, load: Load, wire: Wire, progress: Callable[[int], object]) -> None:
        self._load = load
        self._wire = wire
        self._progress = progress
        self._requests = Requests(
            load.names, load.phase, transport=load.transport, sent_by=wire.sent_by, body_bytes=load.body_bytes
        )
        self._under_way: dict[int, tuple[int, bytes, list[float]]] = {}
        self._due_ns: dict[int, tuple[int, int]] = {}
        self._latencies_ms: dict[str, list[float]] = {}
        self._statuses: dict[int, int] = {}
        self._resent = 0
        self._exchanged = 0
        self._last_ns = 0
        # How much of the count is done that the progress does not show yet.
        self._news: int = 0

    def run(self) -> LoadResult:
        cookie, take = self._requests.cookie, self._wire.receive
        width = len(cookie)
        pace = _Pace(min(self._load.window, self._load.users))
        cpu_s, began_ns = time.process_time(), time.perf_counter_ns()
        self._last_ns = looked_ns = began_ns
        self._begin()
        self._wire.flush()
        while not self._is_done():
            received = take()
            now_ns = time.perf_counter_ns()
            for data in received:
                if data.startswith(b"SIP/2.0 "):
                    start = data.find(cookie) + width
                    status = int(data[8:11])
                    if start >= width and status >= 200:
                        self._take_answer(status, int(data[start : start + 8], 16), now_ns)
                elif data.startswith(b"MESSAGE "):
                    self._wire.send(answer(data))
                    self._exchanged += 2
                    self._take_message(number_in_body(data), now_ns)
            self._wire.flush()
            pace.rest(len(received))
            if now_ns - looked_ns > _LOOK_NS:
                looked_ns = now_ns
                if now_ns - self._last_ns > _GIVE_UP_NS:
                    self._give_up()
                    break
                self._look(now_ns)
                self._wire.flush()
                self._progress(self._news)
                self._news = 0
        self._progress(self._news)
        return self._result(began_ns, time.process_time() - cpu_s)

    def _ask(self, number: int, request: bytes, latencies_ms: list[float]) -> None:
        self._under_way[number] = (time.perf_counter_ns(), request, latencies_ms)
        self._wire.send(request)

    def _take_answer(self, status: int, number: int, now_ns: int) -> None:
        asked = self._under_way.pop(number, None)
        if asked is None:
            return  # the answer to a repeat
        self._last_ns = now_ns
        self._exchanged += 2
        self._statuses[status] = self._statuses.get(status, 0) + 1
        sent_ns, _, latencies_ms = asked
        latencies_ms.append((now_ns - sent_ns) / 1e6)
        self._answered(number, status)

    def _look(self, now_ns: int) -> None:
        """Send again what is due."""
        for number, (sent_ns, request, _) in self._under_way.items():
            if now_ns - sent_ns < _T1_NS:
                break
            due_ns, pause_ns = self._due_ns.get(number, (sent_ns + _T1_NS, _T1_NS))
            if now_ns >= due_ns:
                pause_ns = min(2 * pause_ns, _T2_NS)
                self._due_ns[number] = (now_ns + pause_ns, pause_ns)
                self._wire.send(request)
                self._resent += 1

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _answered(self, number: int, status: int, /) -> None: ...

    def _take_message(self, number: int, now_ns: int, /) -> None:
        """Take note of a message that was delivered and has been answered; of none, where none is to come."""
        del number, now_ns

    def _is_done(self) -> bool:
        return not self._under_way

    def _give_up(self) -> None:
        raise TimeoutError(f"no answer for {_GIVE_UP_NS // 10**9} s with {len(self._under_way)} requests under way")

    def _result(self, began_ns: int, cpu_s: float) -> LoadResult:
        return LoadResult(
            began_ns=began_ns,
            ended_ns=self._last_ns,
            latencies_ms=self._latencies_ms,
            statuses=self._statuses,
            resent=self._resent,
            cpu_s=cpu_s,
            exchanged=self._exchanged,
        )


class _Pace:
    """Pauses in which answers gather.

    A server that answers one by one would wake the generator for each, which costs several times what it does with it,
    and on the same machine is taken from the server. So it lets a 16th of the window come, for 4 ms at most, and is as
    much later to send the next ones.
    """

    _SHARE: Final = 16
    _SHORTEST_S: Final = 0.000_25
    _LONGEST_S: Final = 0.004

    def __init__(self, window: int) -> None:
        self._enough = window // self._SHARE
        self._pause_s = 0.0

    def rest(self, received: int) -> None:
        """Wait after so many answers, or not."""
        if received >= self._enough:
            self._pause_s /= 2
        elif received < self._enough / 2:
            self._pause_s = min(max(2 * self._pause_s, self._SHORTEST_S), self._LONGEST_S)
        if self._pause_s >= self._SHORTEST_S:
            time.sleep(self._pause_s)


class _Stores(_Generator):
    """MESSAGEs to users who are away."""

    _SERIES = "store"

    def _begin(self) -> None:
        self._series = self._latencies_ms.setdefault(self._SERIES, [])
        self._next = min(self._load.window, self._load.count)
        for number in range(self._next):
            self._ask(number, self._request(number), self._series)

    def _answered(self, _number: int, _status: int, /) -> None:
        if self._next < self._load.count:
            self._ask(self._next, self._request(self._next), self._series)
            self._next += 1
        self._news += 1

    def _request(self, number: int) -> bytes:
        return self._requests.message(number, number % self._load.users)


class _OrderedStores(_Stores):
    """The same, no message to a user before the last one to him is answered; the window divides the users."""

    def _answered(self, number: int, _status: int, /) -> None:
        following = number + self._load.window
        if following < self._load.count:
            self._ask(following, self._request(following), self._series)
        self._news += 1


class _Registers(_Stores):
    """REGISTERs of users for whom nothing waits."""

    _SERIES = "register"

    def _request(self, number: int) -> bytes:
        return self._requests.register(number, number % self._load.users)


class _Inboxes:
    """What reached the phones.

    Args:
        count: messages, numbered from 0 on.
        user_of: whose a message is.
        place_of: which of his, from 0 on.
    """

    def __init__(self, count: int, user_of: Callable[[int], int], place_of: Callable[[int], int]) -> None:
        self._has_come = bytearray(count)
        self._user_of = user_of
        self._place_of = place_of
        self._come: dict[int, int] = {}
        self.delivered = 0
        self.out_of_place = 0
        self.repeated = 0

    def take(self, number: int) -> int:
        """Take note of a message; return whose it is if it came for the first time, else -1."""
        if not 0 <= number < len(self._has_come):
            return -1
        if self._has_come[number]:
            self.repeated += 1
            return -1
        self._has_come[number] = 1
        user = self._user_of(number)
        place = self._come.get(user, 0)
        self._come[user] = place + 1
        self.delivered += 1
        self.out_of_place += place != self._place_of(number)
        return user

    def come(self, user: int) -> int:
        """Return how many of a user's have come."""
        return self._come.get(user, 0)


class _Phones(_Generator):
    """A load in which messages are delivered, and those who miss some for a while register again."""

    _inboxes: _Inboxes

    def _begin(self) -> None:
        self._refreshed = 0
        self._refreshed_ns = self._last_ns

    def _look(self, now_ns: int) -> None:
        super()._look(now_ns)
        if now_ns - max(self._last_ns, self._refreshed_ns) > _REFRESH_NS:
            self._refreshed_ns = now_ns
            for user in self._missing():
                # Nobody waits for the answer.
                self._wire.send(self._requests.register(_REFRESH_FIRST + self._refreshed, user))
                self._refreshed += 1

    @abstractmethod
    def _missing(self) -> list[int]:
        """Return who lacks messages that were to come."""

    @abstractmethod
    def _missed(self) -> int:
        """Return how many messages did not come."""

    def _give_up(self) -> None:
        if self._under_way:
            super()._give_up()

    def _result(self, began_ns: int, cpu_s: float) -> LoadResult:
        return msgspec.structs.replace(
            super()._result(began_ns, cpu_s),
            delivered=self._inboxes.delivered,
            out_of_place=self._inboxes.out_of_place,
            repeated=self._inboxes.repeated,
            refreshed=self._refreshed,
            missing=self._missed(),
        )


class _Returns(_Phones):
    """The users of :class:`_OrderedStores` come back: each registers, and takes what waits for him."""

    def _begin(self) -> None:
        super()._begin()
        count, users = self._load.count, self._load.users
        self._inboxes = _Inboxes(count, lambda number: number % users, lambda number: number // users)
        self._series = self._latencies_ms.setdefault("register", [])
        self._next = 0
        for _ in range(min(self._load.window, users)):
            self._register_next()

    def _answered(self, _number: int, _status: int, /) -> None:
        if self._next < self._load.users:
            self._register_next()

    def _register_next(self) -> None:
        self._ask(self._next, self._requests.register(self._next, self._next), self._series)
        self._next += 1

    def _take_message(self, number: int, now_ns: int, /) -> None:
        if self._inboxes.take(number) >= 0:
            self._last_ns = now_ns
            self._news += 1

    def _is_done(self) -> bool:
        if self._under_way or self._missed():
            return False
        return time.perf_counter_ns() - self._last_ns > _LINGER_NS

    def _missing(self) -> list[int]:
        count, users = self._load.count, self._load.users
        return [user for user in range(users) if self._inboxes.come(user) < (count - user + users - 1) // users]

    def _missed(self) -> int:
        return self._load.count - self._inboxes.delivered


class _Mixed(_Phones):
    """Of ten steps six are MESSAGEs to somebody who is away, three REGISTERs of users for whom nothing waits, and in
    one somebody comes back for what waits: six messages, of an earlier ten. That step is done when he has them.
    """

    _STEPS: Final = "SSRSSRSSRD"
    _STORES: Final = _STEPS.count("S")

    # Those who register, and are never away, are others.
    _PRESENT: Final = 10_000_000

    def _begin(self) -> None:
        super()._begin()
        steps = self._STEPS
        # How many of his a message of each step comes after.
        places = [steps.count("S", 0, at) for at in range(len(steps))]
        self._inboxes = _Inboxes(
            self._load.count, lambda number: number // len(steps), lambda number: places[number % len(steps)]
        )
        self._store_ms = self._latencies_ms.setdefault("store", [])
        self._register_ms = self._latencies_ms.setdefault("register", [])
        self._deliver_ms = self._latencies_ms.setdefault("deliver", [])
        self._step = 0
        # By user: answers to the MESSAGEs to him, and how many of those are stored.
        self._answers: dict[int, int] = {}
        self._stored: dict[int, int] = {}
        # Those for whom all is stored, and how many of them were to come back before there was one.
        self._away: deque[int] = deque()
        self._owed = 0
        # Who has come back, and when; and whose the REGISTERs of those are, by their numbers.
        self._back: dict[int, int] = {}
        self._user_of: dict[int, int] = {}
        self._returns = self._load.count
        for _ in range(min(self._load.window, self._load.count)):
            self._go_on()

    def _go_on(self) -> None:
        """Take one step, if there is one left."""
        if self._owed and self._away:
            self._owed -= 1
            self._come_back(self._away.popleft())
            return
        while self._step < self._load.count:
            number = self._step
            self._step += 1
            kind = self._STEPS[number % len(self._STEPS)]
            if kind == "S":
                self._ask(number, self._requests.message(number, number // len(self._STEPS)), self._store_ms)
                return
            if kind == "R":
                user = self._PRESENT + number % self._load.users
                self._ask(number, self._requests.register(number, user), self._register_ms)
                return
            if self._away:
                self._come_back(self._away.popleft())
                return
            self._owed += 1

    def _come_back(self, user: int) -> None:
        number = self._returns
        self._returns += 1
        self._back[user] = time.perf_counter_ns()
        self._user_of[number] = user
        # What counts is not its answer, but the last message.
        self._ask(number, self._requests.register(number, user), [])

    def _answered(self, number: int, status: int, /) -> None:
        if number >= self._load.count:
            self._returned(self._user_of.pop(number), status)
            return
        if self._STEPS[number % len(self._STEPS)] == "S":
            user = number // len(self._STEPS)
            self._stored[user] = self._stored.get(user, 0) + (status == 202)
            self._answers[user] = self._answers.get(user, 0) + 1
            if self._answers[user] == self._STORES:
                self._away.append(user)
        self._done()

    def _returned(self, user: int, status: int) -> None:
        if status != 200:
            del self._back[user]
            self._done()
        else:
            self._end_if_complete(user, self._last_ns)

    def _take_message(self, number: int, now_ns: int, /) -> None:
        user = self._inboxes.take(number)
        if user >= 0:
            self._last_ns = now_ns
            self._end_if_complete(user, now_ns)

    def _end_if_complete(self, user: int, now_ns: int) -> None:
        if user in self._back and self._inboxes.come(user) >= self._stored[user]:
            self._deliver_ms.append((now_ns - self._back.pop(user)) / 1e6)
            self._done()

    def _done(self) -> None:
        self._news += 1
        self._go_on()

    def _is_done(self) -> bool:
        return not self._under_way and not self._back

    def _missing(self) -> list[int]:
        return list(self._back)

    def _missed(self) -> int:
        return sum(self._stored.values()) - self._inboxes.delivered


_GENERATORS: Final[dict[Kind, type[_Generator]]] = {
    "store": _Stores,
    "ordered store": _OrderedStores,
    "register": _Registers,
    "deliver": _Returns,
    "mixed": _Mixed,
}
