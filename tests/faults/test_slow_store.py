"""A store that is slower than messages come in: those that it has no time for get 503 at once, and phones register."""

import random
from pathlib import Path

import pytest

from tests.faults.people import Answer, Person, Phone, Prober, Sender, pump
from tests.faults.scale import PATIENCE
from tests.faults.traffic import SETTINGS
from tests.postgres import Console
from tests.runners.service import Service
from tests.runners.tables import execute, init

pytestmark = PATIENCE

_STORAGE_S = 2.0
_AWAITED = 100

# More than are awaited, and what a socket's buffer holds.
_WINDOW = 200


@pytest.fixture
def storage(postgres_url: str) -> str:
    """URL of an empty PostgreSQL store."""
    init(postgres_url)
    return postgres_url


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_messages_are_refused_and_phones_register(
    backend: str, storage: str, chance: random.Random, tmp_path: Path
) -> None:
    config = f"{SETTINGS}[limits]\nstorage_ms = {_STORAGE_S * 1000:.0f}\nstorage_actions_max = {_AWAITED}\n"
    owners = [f"owner{n}" for n in range(4)]
    with (
        Service(tmp_path, "--backend", backend, storage=storage, config=config) as service,
        Console(storage) as console,
        Sender(service.udp, ["bob"], window=_WINDOW) as sender,
        Phone(service.udp, owners=owners, chance=chance, refresh_s=0.1) as phone,
        Prober(service.udp, every_s=0.01) as prober,
    ):
        people: list[Person] = [sender, phone, prober]
        # Whatever changes messages waits; what changes bindings does not.
        console.execute("BEGIN; LOCK TABLE silo IN EXCLUSIVE MODE")
        phone.register()
        pump(people, lambda: len(sender.answers) > 3 * _WINDOW and _waited(sender) != [])
        console.execute("COMMIT")
        accepted = len(sender.with_status(202))
        pump(people, lambda: len(sender.with_status(202)) > accepted + _WINDOW)
        sender.is_writing = False
        pump(people, lambda: sender.is_done)
        assert service.stop() == 0
    assert "Traceback" not in service.log_text()

    answers = sender.answers.values()
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} == {202, 503}
    assert all(answer.retry_after for answer in refused)
    assert len(_waited(sender)) <= _AWAITED
    assert len(refused) > len(_waited(sender))
    assert len(phone.registrations) > len(owners)
    assert {answer.status for answer in phone.registrations} == {200}
    # What needs no store gets its answer.
    assert prober.wrong == []
    stored = {bytes(row["body"]) for row in execute(storage, "SELECT body FROM silo")}
    assert sender.with_status(202) <= stored
    print(
        f"{len(answers)} MESSAGEs: {len(sender.with_status(202))} accepted, {len(refused)} 503, of which"
        f" {len(_waited(sender))} had waited for the store; {len(phone.registrations)} REGISTERs, all 200"
    )


def _waited(sender: Sender) -> list[Answer]:
    """Those whose store was awaited in vain."""
    return [one for one in sender.answers.values() if one.status == 503 and one.took_s > _STORAGE_S / 2]
