"""Two servers on one PostgreSQL, one of which is killed: every message is shown, and none is sent by both at a time."""

import random
import time
from pathlib import Path
from typing import Self

import pytest

from tests.faults.people import (
    Person,
    Phone,
    Sender,
    assert_in_order,
    at_two_servers,
    meanwhile,
    pump,
    shown_first,
    wait,
)
from tests.faults.scale import PATIENCE, scaled
from tests.ports import free_port
from tests.runners.peer import Address
from tests.runners.service import Service
from tests.runners.tables import execute, init

pytestmark = PATIENCE

_KILLS = scaled(2, 50)

# Both together bring 100 messages in a second.
_PACE_S = 0.02

# Long enough for whatever two servers send at the same time to overlap.
_ANSWER_AFTER_S = 0.02

_SETTINGS = "[delivery]\nlease = 3\nretry_look = 1\n"


class Node:
    """One of the servers, killed and started again at the same port."""

    def __init__(self, directory: Path, backend: str, storage: str) -> None:
        directory.mkdir()
        self.address: Address = ("127.0.0.1", free_port())
        self._directory = directory
        self._options = ("--backend", backend, "--listen", f"udp://127.0.0.1:{self.address[1]}")
        self._storage = storage
        self.start()

    def start(self) -> None:
        self.service = Service(self._directory, *self._options, storage=self._storage, config=_SETTINGS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.service.kill()


@pytest.fixture
def storage(postgres_url: str) -> str:
    """URL of an empty PostgreSQL store."""
    init(postgres_url)
    return postgres_url


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_is_killed(backend: str, storage: str, chance: random.Random, tmp_path: Path) -> None:
    # An owner who is apart has a phone at each server, the others have the same phone at both.
    apart, both = [f"apart{n}" for n in range(3)], [f"both{n}" for n in range(3)]

    def phone(*servers: Address, owners: list[str]) -> Phone:
        return Phone(*servers, owners=owners, chance=chance, answer_after_s=_ANSWER_AFTER_S)

    with (
        Node(tmp_path / "a", backend, storage) as a,
        Node(tmp_path / "b", backend, storage) as b,
        phone(a.address, owners=apart) as first,
        phone(b.address, owners=apart) as second,
        phone(a.address, b.address, owners=both) as third,
        Sender(a.address, [*apart, *both], name="alice", every_s=_PACE_S) as alice,
        Sender(b.address, [*apart, *both], name="carol", every_s=_PACE_S) as carol,
    ):
        phones, senders = [first, second, third], [alice, carol]
        people: list[Person] = [*phones, *senders]
        # Some wait for those who come.
        wait(people, 0.5)
        for one in phones:
            one.register()
        # Nobody registers again: what was left by the one that died is found by the other, or after its restart.
        for _ in range(_KILLS):
            wait(people, chance.uniform(0, 2))
            node = chance.choice([a, b])
            node.service.kill()
            wait(people, chance.uniform(0, 2))
            meanwhile(people, node.start)
        for sender in senders:
            sender.is_writing = False
        pump(people, lambda: all(sender.is_done for sender in senders))
        answers = alice.answers | carol.answers
        # 482: it was sent on, its server died before it could say so, and the phone recognised it when it came again.
        assert {answer.status for answer in answers.values()} <= {200, 202, 482}
        pump(people, lambda: answers.keys() == {body for one in phones for body in one.screen}, 120)
        until = time.monotonic() + 60
        while left := execute(storage, "SELECT * FROM silo ORDER BY id"):
            assert time.monotonic() < until, f"still stored: {left}"
            wait(people, 0.2)

    for one in phones:
        assert len(one.screen) == len(set(one.screen)), "twice on a screen"
        assert one.crowded == []
    assert at_two_servers(phones) == []
    for node in (a, b):
        assert "Traceback" not in node.service.log_text()
    # A packet to one of two phones may be late or lost, when the other has the message and the next is on its way by
    # the other server: order is in what an owner sees first.
    for owner in apart + both:
        assert_in_order(shown_first(phones, owner), answers)
    print(
        f"{_KILLS} kills of one of two servers, {len(answers)} messages: lost 0, on a screen twice 0, sent by both at a"
        f" time 0, on the wire again {sum(one.repeats for one in phones)}"
    )
