"""Workers that share a port, killed one after another: every message is shown once and in order, and none is lost."""

import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.people import Person, Phone, Sender, assert_in_order, pump, shown_first, wait
from tests.faults.scale import PATIENCE, scaled
from tests.runners.tables import execute, setting_of
from tests.runners.team import Team

pytestmark = PATIENCE

_KILLS = scaled(2, 25)
_SETTING = scaled(["trio-postgresql"], ["asyncio-sqlite", "trio-sqlite", "asyncio-postgresql", "trio-postgresql"])
_CONFIG = "[delivery]\nlease = 3\nretry_look = 1\n"

# All together bring 50 messages in a second: while a phone's worker is dead less than `waiting_per_owner_max` for each
# owner in the 6 s after which those that wait for the phone are stored.
_PACE_S = 0.08
_ANSWER_AFTER_S = 0.02


@pytest.mark.parametrize("setting", _SETTING)
def test_are_killed(setting: str, chance: random.Random, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    backend, storage = setting_of(setting, request, tmp_path)
    owners = [[f"owner{n}a", f"owner{n}b"] for n in range(4)]
    everybody = [owner for group in owners for owner in group]
    with Team(tmp_path, "--backend", backend, storage=storage, config=_CONFIG) as team, ExitStack() as stack:
        # Where each of their sockets leads is by chance.
        phones = [
            stack.enter_context(Phone(team.udp, owners=group, chance=chance, answer_after_s=_ANSWER_AFTER_S))
            for group in owners
        ]
        senders = [
            stack.enter_context(Sender(team.udp, everybody, name=f"alice{n}", every_s=_PACE_S)) for n in range(4)
        ]
        people: list[Person] = [*phones, *senders]
        wait(people, 0.5)
        for phone in phones:
            phone.register()
        for kills in range(1, _KILLS + 1):
            wait(people, chance.uniform(0, 2))
            os.kill(chance.choice(team.pids), signal.SIGKILL)
            # Who is killed again before he serves keeps his senders waiting until they give up.
            pump(people, lambda: team.log_text().count("listening on") == team.count + kills)  # noqa: B023
        for sender in senders:
            sender.is_writing = False
        pump(people, lambda: all(sender.is_done for sender in senders))
        answers = {body: answer for sender in senders for body, answer in sender.answers.items()}
        # 482: it was sent on, its server died before it could say so, and the phone recognised it when it came again.
        assert {answer.status for answer in answers.values()} <= {200, 202, 482}
        pump(people, lambda: answers.keys() == {body for phone in phones for body in phone.screen}, 120)
        until = time.monotonic() + 60
        while left := execute(storage, "SELECT * FROM silo ORDER BY id"):
            assert time.monotonic() < until, f"still stored: {left}"
            wait(people, 0.2)
        assert team.stop() == 0

    for phone in phones:
        assert len(phone.screen) == len(set(phone.screen)), "twice on a screen"
    assert "Traceback" not in team.log_text()
    for owner in everybody:
        assert_in_order(shown_first(phones, owner), answers)
    stored = sum(answer.status == 202 for answer in answers.values())
    print(
        f"{_KILLS} kills of one of {team.count} workers, {len(answers)} messages, {stored} of them stored: lost 0, on "
        f"a screen twice 0, on the wire again {sum(phone.repeats for phone in phones)}"
    )
