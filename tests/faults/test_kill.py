"""SIGKILL at bad moments: what was acknowledged is there afterwards, in its order, and is on the screen once."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.people import Phone, Sender, assert_in_order, pump, wait
from tests.faults.scale import PATIENCE, scaled
from tests.ports import free_port
from tests.runners.peer import Peer
from tests.runners.service import Service
from tests.runners.tables import execute, setting_of, wait_until_empty

pytestmark = PATIENCE

_MESSAGES = scaled(300, 10_000)
_KILLS = scaled(3, 100)

# A batch takes a few milliseconds: so long after an answer any part of the next may be under way.
_BATCH_S = 0.005

# Messages of one owner that a server holds at a time: four times `page_messages_max`.
_PAGE = 64

_OWNERS = [f"owner{n}" for n in range(scaled(4, 20))]


_SETTINGS = scaled(
    ["asyncio-sqlite", "trio-postgresql"], ["asyncio-sqlite", "trio-sqlite", "asyncio-postgresql", "trio-postgresql"]
)


@pytest.fixture(params=_SETTINGS)
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """(backend, URL of an empty store)."""
    return setting_of(str(request.param), request, tmp_path)


def test_while_storing(setting: tuple[str, str], chance: random.Random, tmp_path: Path) -> None:
    backend, storage = setting
    port = free_port()
    with Sender(("127.0.0.1", port), _OWNERS, count=_MESSAGES) as sender:
        for moment in _moments(chance):
            with _service(tmp_path, backend, storage, port) as service:
                pump([sender], lambda: len(sender.answers) >= moment)  # noqa: B023
                wait([sender], chance.uniform(0, _BATCH_S))
                service.kill()
    assert {answer.status for answer in sender.answers.values()} == {202}
    # Who got no answer sent again, so that all were acknowledged in the end, some of them by another server.
    rows = execute(storage, "SELECT username, body FROM silo ORDER BY id")
    stored = Counter(bytes(row["body"]) for row in rows)
    assert stored.keys() == sender.answers.keys(), "acknowledged and lost"
    assert stored.total() == len(stored), "stored twice"
    for owner in _OWNERS:
        assert_in_order([bytes(row["body"]) for row in rows if row["username"] == owner], sender.answers)
    assert "Traceback" not in (tmp_path / "msilo.log").read_text()
    print(f"{_KILLS} kills while {_MESSAGES} messages were stored: lost 0, stored twice 0")


def test_while_delivering(setting: tuple[str, str], chance: random.Random, tmp_path: Path) -> None:
    backend, storage = setting
    port = free_port()
    server = ("127.0.0.1", port)
    with _service(tmp_path, backend, storage, port), Sender(server, _OWNERS, count=_MESSAGES) as sender:
        pump([sender], lambda: sender.is_done)
    stored = {owner: _bodies(storage, owner) for owner in _OWNERS}

    # How often each message was between the phone's answer and its end in the store when the server was killed.
    in_flight: Counter[bytes] = Counter()
    with Phone(server, owners=_OWNERS, chance=chance) as phone:
        for moment in _moments(chance):
            with _service(tmp_path, backend, storage, port) as service:
                phone.register()
                pump([phone], lambda: len(phone.screen) >= moment)  # noqa: B023
                wait([phone], chance.uniform(0, _BATCH_S) if moment < _MESSAGES else 1.0)
                service.kill()
            # What was on the wire.
            wait([phone], 0.01)
            left = {owner: _bodies(storage, owner) for owner in _OWNERS}
            for owner in _OWNERS:
                shown = phone.screen_of(owner)
                flying = set(left[owner]).intersection(shown)
                assert len(flying) <= _PAGE
                in_flight.update(flying)
                assert set(left[owner]) | set(shown) == set(stored[owner]), "deleted, and no phone had it"
            # The dead server holds what it was delivering for as long as its lease: let that be over.
            execute(storage, "UPDATE silo SET lease_until = 0")
    assert not any(_bodies(storage, owner) for owner in _OWNERS), "still stored, or set aside"
    for owner in _OWNERS:
        assert phone.screen_of(owner) == stored[owner], "not each once, in the order of the table"
    assert not phone.crowded
    assert not [body for body, times in phone.seen.items() if times > 1 + in_flight[body]]
    assert "Traceback" not in (tmp_path / "msilo.log").read_text()
    print(
        f"{_KILLS} kills while {_MESSAGES} messages were delivered: lost 0, on the screen twice 0, "
        f"on the wire again {phone.repeats} of {in_flight.total()} that were in flight"
    )


def test_goes_on_without_a_register(setting: tuple[str, str], chance: random.Random, tmp_path: Path) -> None:
    backend, storage = setting
    port = free_port()
    server = ("127.0.0.1", port)
    count, kills = 200, scaled(1, 10)
    config = "[delivery]\nlease = 3\nretry_look = 1\n"
    with Sender(server, _OWNERS, count=count) as sender, Phone(server, owners=_OWNERS, chance=chance) as phone:
        with _service(tmp_path, backend, storage, port):
            pump([sender], lambda: sender.is_done)
        phone.register()
        for moment in [*sorted(chance.sample(range(count), kills)), count]:
            with _service(tmp_path, backend, storage, port, config):
                # Leases run out, and the next look finds what was under them. What a server had just begun to look
                # after when it died is left to it for half a minute, and so again if the next one cannot do it either.
                pump([phone], lambda: len(phone.screen) >= moment, within_s=180)  # noqa: B023
        assert set(phone.screen) == sender.with_status(202)
        assert len(phone.screen) == count


def test_phone_says_that_it_has_it(setting: tuple[str, str], tmp_path: Path) -> None:
    backend, storage = setting
    port = free_port()
    server = ("127.0.0.1", port)
    with Peer(server) as alice, Peer(server) as phone:
        with _service(tmp_path, backend, storage, port):
            assert alice.exchange(alice.message("bob")).status == 202
            assert phone.exchange(phone.registration("bob")).status == 200
            first = phone.receive()
        execute(storage, "UPDATE silo SET lease_until = 0")
        with _service(tmp_path, backend, storage, port):
            assert phone.exchange(phone.registration("bob")).status == 200
            again = phone.receive()
            assert again.branch != first.branch
            phone.answer(again, 482)
            wait_until_empty(storage, "bob")


def _moments(chance: random.Random) -> list[int]:
    """Return after how many messages it is killed, and at last the end."""
    return [*sorted(chance.sample(range(_MESSAGES), _KILLS)), _MESSAGES]


def _service(directory: Path, backend: str, storage: str, port: int, config: str = "") -> Service:
    options = ("--backend", backend, "--listen", f"udp://127.0.0.1:{port}")
    return Service(directory, *options, storage=storage, config=config)


def _bodies(storage: str, owner: str) -> list[bytes]:
    rows = execute(storage, f"SELECT body FROM silo WHERE username = '{owner}' ORDER BY id")
    return [bytes(row["body"]) for row in rows]
