"""What the core costs alone: octets in, actions out, and a store in memory that answers at once. No socket, no loop."""

import platform
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import click
import msgspec

from bench.requests import BODY_BYTES_MIN, Names, Requests, answer
from msilo_core import Action, Completion, Config, Engine, Flow, Limits, Moment, Send
from msilo_storage.memory import MemoryStorage
from tests.core.world import finished
from tests.sim.store import METHODS

__all__ = ["engine"]

_EPOCH_MS: Final = 1_795_391_912_000
_FLOW: Final = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5070))

# Virtual time between wake-ups for each datagram: timers fire as they do at 20,000 requests a second.
_PER_DATAGRAM_MS: Final = 0.05


class _Costs(msgspec.Struct):
    """CPU time so far."""

    engine_ns: int = 0
    storage_ns: int = 0


@click.command(short_help="The core alone, without sockets.")
@click.option("--count", type=click.IntRange(min=1), default=10_000, show_default=True, help="Messages of each kind.")
@click.option("--users", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="Users.")
@click.option(
    "--body-bytes", type=click.IntRange(BODY_BYTES_MIN, 60_000), default=80, show_default=True,
    help="Length of each body.",
)  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(min=1), default=64, show_default=True,
    help="Datagrams in a wake-up, and so actions in a batch of the store.",
)  # fmt: skip
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="The least of so many runs.")
def engine(count: int, users: int, body_bytes: int, batch: int, repeats: int) -> None:
    """Store messages, register users for whom nothing waits, and deliver what was stored, in the core alone.

    Times are CPU time in microseconds for each message: of the engine, and of the store in memory beside it. The rate
    is what the engine alone would do.
    """
    line: dict[str, object] = {
        "benchmark": "engine", "python": platform.python_version(), "count": count, "users": users,
        "body_bytes": body_bytes, "batch": batch,
    }  # fmt: skip
    runs = [_run(count, users, body_bytes, batch) for _ in range(repeats)]
    for kind in runs[0]:
        least = min((run[kind] for run in runs), key=lambda costs: costs.engine_ns)
        line[kind] = {
            "rate_per_s": round(count / least.engine_ns * 1e9),
            "engine_us": round(least.engine_ns / count / 1_000, 2),
            "storage_us": round(least.storage_ns / count / 1_000, 2),
        }
    click.echo(msgspec.json.encode(line).decode())


def _run(count: int, users: int, body_bytes: int, batch: int) -> dict[str, _Costs]:
    """Run it once, and check that it did what it is measured for."""
    requests = Requests(
        Names(run="00000000", generator=0, domain="example.com"), 0,
        transport="udp", sent_by=b"127.0.0.1:5070", body_bytes=body_bytes,
    )  # fmt: skip
    core = _Core(batch)
    # Others than those for whom messages are stored.
    registered = core.measure(
        "register", [requests.register(count + number, users + number % users) for number in range(count)]
    )
    stored = core.measure("store", [requests.message(number, number % users) for number in range(count)])
    returned = core.measure("deliver", [requests.register(2 * count + user, user) for user in range(users)])
    delivered = sum(data.startswith(b"MESSAGE ") for data in returned)
    assert all(data.startswith(b"SIP/2.0 200 ") for data in registered)
    assert all(data.startswith(b"SIP/2.0 202 ") for data in stored)
    assert (len(registered), len(stored), len(returned) - delivered, delivered) == (count, count, users, count)
    return core.costs


class _Core:
    """An engine, its store, and phones that answer at once."""

    def __init__(self, batch: int) -> None:
        self.costs: dict[str, _Costs] = {}
        self._batch = batch
        self._elapsed_ms = 0.0
        # A wake-up answers everything before the next one: there is never more under way than the limits allow.
        self._engine = Engine(Config(), Limits(), entropy=random.Random(1), now=self._now())
        self._store = MemoryStorage(lambda: self._now().unix_ms)

    def measure(self, kind: str, datagrams: Sequence[bytes]) -> list[bytes]:
        """Feed it with datagrams, and with the answers of phones; return all that it sent."""
        costs = self.costs[kind] = _Costs()
        sent: list[bytes] = []
        waiting = list(datagrams)[::-1]
        while waiting:
            taken = [waiting.pop() for _ in range(min(self._batch, len(waiting)))]
            sends = self._wake_up(taken, costs)
            sent += sends
            waiting += [answer(data) for data in reversed(sends) if data.startswith(b"MESSAGE ")]
        return sent

    def _wake_up(self, datagrams: Sequence[bytes], costs: _Costs) -> list[bytes]:
        self._elapsed_ms += len(datagrams) * _PER_DATAGRAM_MS
        now, engine = self._now(), self._engine

        def receive() -> list[Action]:
            actions = list(engine.handle_timeout(now))
            for data in datagrams:
                actions += engine.receive_datagram(data, _FLOW, now)
            return actions

        def complete() -> list[Action]:
            return [action for completion in completions for action in engine.complete(completion, now)]

        sends: list[bytes] = []
        actions = self._by_engine(receive, costs)
        while actions:
            sends += [action.data for action in actions if isinstance(action, Send)]
            completions = self._by_store(actions, costs)
            actions = self._by_engine(complete, costs)
        return sends

    def _by_engine(self, work: Callable[[], list[Action]], costs: _Costs) -> list[Action]:
        began_ns = time.process_time_ns()
        actions = work()
        costs.engine_ns += time.process_time_ns() - began_ns
        return actions

    def _by_store(self, actions: Sequence[Action], costs: _Costs) -> list[Completion]:
        began_ns = time.process_time_ns()
        completions: list[Completion] = []
        for kind, carry_out in METHODS.items():
            batch = [action for action in actions if type(action) is kind]
            if batch:
                completions += finished(carry_out(self._store, batch))
        costs.storage_ns += time.process_time_ns() - began_ns
        return completions

    def _now(self) -> Moment:
        return Moment(int(self._elapsed_ms), _EPOCH_MS + int(self._elapsed_ms))
