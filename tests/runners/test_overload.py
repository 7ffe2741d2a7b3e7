"""More than there is time for, on real sockets: a storm of REGISTERs, and messages between."""

import heapq
import select
import time
from pathlib import Path

import pytest

from tests.runners.peer import Peer, Received
from tests.runners.service import Service

_PHONES = 600
_RATE = 200

# Whatever was lost in a socket's buffer, here or there.
_REPEAT_S = 0.5

# Of a MESSAGE between them; two busy cores are shared with the test.
_SLOW_S = 2.0


class Crowd:
    """Phones that all register at once, obey Retry-After, and repeat what is not answered."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.registered: list[float] = []
        self.retry_after_s: list[int] = []
        self._due = [(0.0, f"user{number}", b"") for number in range(_PHONES)]
        self._under_way: dict[str, str] = {}

    @property
    def is_done(self) -> bool:
        return len(self.registered) == _PHONES

    def step(self, now: float) -> None:
        for response in self.peer.poll():
            user = self._under_way.pop(response.branch, "")
            if response.status == 200 and user:
                self.registered.append(now)
            elif user:
                assert response.status == 503
                self.retry_after_s.append(int(response.header("Retry-After")))
                heapq.heappush(self._due, (now + self.retry_after_s[-1], user, b""))
        while self._due and self._due[0][0] <= now:
            _, user, again = heapq.heappop(self._due)
            raw = again or self.peer.registration(user)
            if not again:
                self._under_way[Received(raw).branch] = user
            if Received(raw).branch in self._under_way:
                self.peer.send(raw)
                heapq.heappush(self._due, (now + _REPEAT_S, user, raw))


class Writer:
    """Somebody who writes to one who is away, a message when the one before was accepted."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.waits_s: list[float] = []
        self._message = b""
        self._sent_at = self._repeat_at = 0.0

    def step(self, now: float) -> None:
        for response in self.peer.poll():
            if response.branch == Received(self._message).branch and response.status >= 200:
                assert response.status == 202
                self.waits_s.append(now - self._sent_at)
                self._message = b""
        if not self._message:
            self._message = self.peer.message("away", b"%d" % len(self.waits_s))
            self._sent_at = self._repeat_at = now
        if now >= self._repeat_at:
            self.peer.send(self._message)
            self._repeat_at = now + _REPEAT_S


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_storm_of_registrations_and_messages_between(backend: str, tmp_path: Path) -> None:
    config = f"[limits]\nregistrations_per_s = {_RATE}\nregistrations_burst = {_RATE}\n"
    storage = f"sqlite:///{tmp_path / 'msilo.db'}"
    with (
        Service(tmp_path, "--backend", backend, storage=storage, config=config) as service,
        Peer(service.udp) as phones,
        Peer(service.udp) as alice,
    ):
        crowd, writer = Crowd(phones), Writer(alice)
        began = time.monotonic()
        while not crowd.is_done:
            assert time.monotonic() < began + 40, f"{len(crowd.registered)} are registered"
            select.select([phones, alice], [], [], 0.005)
            for one in (crowd, writer):
                one.step(time.monotonic())
        assert service.stop() == 0
    assert "Traceback" not in service.log_text()
    took_s = max(crowd.registered) - began
    # Those behind the burst came in at the rate, and few of them twice.
    assert took_s >= (_PHONES - _RATE) / _RATE - 0.1
    assert _PHONES // 4 < len(crowd.retry_after_s) <= 2 * _PHONES
    assert len(writer.waits_s) > 20
    assert max(writer.waits_s) < _SLOW_S
    print(
        f"{_PHONES} REGISTERs at once at {_RATE} a second: {took_s:.1f} s, {len(crowd.retry_after_s)} refused; of"
        f" {len(writer.waits_s)} MESSAGEs the slowest took {1000 * max(writer.waits_s):.0f} ms"
    )
