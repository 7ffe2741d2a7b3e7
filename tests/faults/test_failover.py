"""A primary dies and its standby takes over: nothing acknowledged is lost, and nobody restarts the server."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.faults.people import meanwhile, wait
from tests.faults.scale import PATIENCE, scaled
from tests.faults.traffic import SETTINGS, Traffic
from tests.postgres import Console, PostgresServer
from tests.runners.service import Service
from tests.runners.tables import init

pytestmark = PATIENCE

_STORAGE_S = 1.5
_SLACK_S = 3.0

# A host that hangs is given up after 5 s, a connection to it after 3 s; the server asks again after 5 s at the latest.
_BACK_S = 30.0


@pytest.fixture
def hosts() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A running server with the tables made, and another that does not run."""
    with PostgresServer() as first, PostgresServer() as second:
        init(first.url)
        second.stop()
        yield first, second


@pytest.mark.parametrize("backend", scaled(["asyncio"], ["asyncio", "trio"]))
def test_standby_takes_over_under_load(
    backend: str, hosts: tuple[PostgresServer, PostgresServer], chance: random.Random, tmp_path: Path
) -> None:
    primary, standby = hosts
    directories = ",".join(quote(str(host.socket_directory), safe="") for host in hosts)
    url = f"postgresql://postgres@{directories}/postgres?target_session_attrs=read-write"
    config = f"{SETTINGS}[limits]\nstorage_ms = {_STORAGE_S * 1000:.0f}\n"
    faults = ["killed", "frozen", "killed after a while in which the standby hung"] * 4
    faults = faults[: scaled(2, 12)]
    back_s: list[float] = []
    with (
        Service(tmp_path, "--backend", backend, storage=url, config=config) as service,
        Traffic(service.udp, chance) as traffic,
    ):
        pid = service.pid
        for fault in faults:
            meanwhile(traffic.people, lambda: _replicate(primary, standby))  # noqa: B023
            traffic.until_served(_BACK_S)
            wait(traffic.people, chance.uniform(0, 1))
            if "hung" in fault:
                # Nothing is durable on both meanwhile, so that nothing may be acknowledged.
                standby.freeze()
                wait(traffic.people, chance.uniform(0, 2))
            (primary.freeze if fault == "frozen" else primary.kill)()
            standby.thaw()
            wait(traffic.people, chance.uniform(0, 2))
            meanwhile(traffic.people, standby.promote)
            back_s.append(traffic.until_served(_BACK_S))
            if fault == "frozen":
                primary.kill()
            primary, standby = standby, primary
        traffic.finish(primary.url)
        assert service.pid == pid
        traffic.check(2 * _STORAGE_S + _SLACK_S)
        assert service.stop() == 0
    assert "Traceback" not in service.log_text()
    print(f"{len(faults)} primaries killed or frozen; served by the standby after {max(back_s):.1f} s at the latest")


def _replicate(primary: PostgresServer, standby: PostgresServer) -> None:
    """Give the primary a standby that every commit waits for."""
    standby.follow(primary)
    with Console(primary.url) as console:
        # After the copy was made: the standby is not to wait for one of its own when it is promoted.
        console.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        console.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 10
        while console.query("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
