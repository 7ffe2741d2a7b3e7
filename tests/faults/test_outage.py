"""The database goes away and comes back: 503 meanwhile, nothing acknowledged is lost, nobody restarts the server."""

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.people import meanwhile, wait
from tests.faults.scale import PATIENCE, scaled
from tests.faults.traffic import SETTINGS, Traffic
from tests.postgres import PostgresServer
from tests.runners.peer import Peer
from tests.runners.service import MSILO, Service
from tests.runners.tables import inbox, init

pytestmark = PATIENCE

# The server's own patience with its store, here shorter than by default, and what a busy machine adds to it.
_STORAGE_S = 1.5
_SLACK_S = 3.0

# A server that comes back does recovery first; ours may take its time to look again.
_RECOVERY_S = 30.0


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test alone, running, with the tables made."""
    with PostgresServer() as server:
        init(server.url)
        yield server


@pytest.fixture(params=["asyncio", "trio"])
def service(request: pytest.FixtureRequest, database: PostgresServer, tmp_path: Path) -> Iterator[Service]:
    """A server on that database."""
    config = f"{SETTINGS}[limits]\nstorage_ms = {_STORAGE_S * 1000:.0f}\n"
    with Service(tmp_path, "--backend", str(request.param), storage=database.url, config=config) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log_text()


@pytest.mark.parametrize("what", ["nothing listens", "no tables"])
def test_a_database_that_cannot_be_used_at_the_start(what: str, tmp_path: Path) -> None:
    with PostgresServer() as database:
        if what == "nothing listens":
            database.stop()
        ran = subprocess.run(
            [MSILO, "serve", "--listen", "udp://127.0.0.1:0", "--storage", database.url],
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("msilo: error: ")
    assert ("msilo db init" in line) == (what == "no tables")


def test_the_database_hangs_and_goes_on(database: PostgresServer, service: Service) -> None:
    with Peer(service.udp) as peer:
        assert peer.exchange(peer.message("bob", b"before")).status == 202

        database.freeze()
        _assert_refused(peer, peer.message("bob", b"lost"))
        _assert_refused(peer, peer.registration("bob"))
        database.thaw()

        _until_accepted(peer, lambda: peer.message("bob", b"after"))
        # Its sender was told 503: whatever the database made of it later, it must not be delivered.
        deadline = time.monotonic() + 10
        while [row["body"] for row in inbox(database.url, "bob")] != [b"before", b"after"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_under_load(database: PostgresServer, service: Service, chance: random.Random) -> None:
    faults = [_stop, _freeze, _restart] * 10
    chance.shuffle(faults)
    faults = faults[: scaled(1, 30)]
    with Traffic(service.udp, chance) as traffic:
        pid = service.pid
        back_s = [traffic.until_served()]
        for fault in faults:
            wait(traffic.people, chance.uniform(0, 1))
            fault(database, traffic, chance)
            back_s.append(traffic.until_served(_RECOVERY_S))
        traffic.finish(database.url)
        assert service.pid == pid
        # Two answers of the store may be what a MESSAGE waits for: where its owner is, and that it is durable.
        traffic.check(2 * _STORAGE_S + _SLACK_S)
    print(f"{len(faults)} times stopped, frozen or restarted; served again after {max(back_s[1:]):.1f} s at the latest")


def _stop(database: PostgresServer, traffic: Traffic, chance: random.Random) -> None:
    meanwhile(traffic.people, chance.choice([database.stop, database.kill]))
    wait(traffic.people, chance.uniform(0, 3))
    meanwhile(traffic.people, database.start)


def _freeze(database: PostgresServer, traffic: Traffic, chance: random.Random) -> None:
    database.freeze()
    wait(traffic.people, chance.uniform(1, 2) * _STORAGE_S)
    database.thaw()


def _restart(database: PostgresServer, traffic: Traffic, chance: random.Random) -> None:
    del chance
    meanwhile(traffic.people, database.stop)
    meanwhile(traffic.people, database.start)


def _assert_refused(peer: Peer, request: bytes) -> None:
    """Send it and see that it gets, in time, the answer that says to come back later."""
    answer = peer.exchange(request, _STORAGE_S + _SLACK_S)
    assert answer.status == 503
    assert int(answer.header("Retry-After")) > 0


def _until_accepted(peer: Peer, request: Callable[[], bytes]) -> None:
    """Send new requests until one is accepted, as a sender does who was told to come back later."""
    deadline = time.monotonic() + _RECOVERY_S
    while (status := peer.exchange(request()).status) != 202:
        assert status == 503
        assert time.monotonic() < deadline, "the server did not find its database again"
        time.sleep(0.2)
