"""The disk is full: 503 with Retry-After, what was acknowledged stays, and with room again all goes on by itself."""

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
_ROUNDS = scaled(1, 10)


class Disk:
    """A small one.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave no room on it."""
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                pass

    def clear(self) -> None:
        """Take away what :meth:`fill` put there."""
        self._ballast.unlink()


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk of so many megabytes as the test says."""
    # Not below what only the user of the tests may enter.
    with tempfile.TemporaryDirectory(prefix="msilo-disk-") as directory:
        os.chmod(directory, 0o755)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}m,mode=755", "none", directory]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("making a disk takes a user who may")
        try:
            yield Disk(Path(directory))
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.mark.parametrize("disk", [8], indirect=True)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_sqlite(backend: str, disk: Disk, chance: random.Random, tmp_path: Path) -> None:
    storage = f"sqlite:///{disk.path}/msilo.db"
    _test(backend, storage, disk, None, chance, tmp_path)


@pytest.mark.parametrize("disk", [8], indirect=True)
def test_tables_of_postgresql(disk: Disk, chance: random.Random, tmp_path: Path) -> None:
    with PostgresServer() as database:
        database.give(disk.path)
        with Console(database.url) as console:
            console.execute(f"CREATE TABLESPACE small LOCATION '{disk.path}'")
            console.execute("ALTER DATABASE postgres SET default_tablespace = small")
        init(database.url)
        _test("asyncio", database.url, disk, database, chance, tmp_path)


@pytest.mark.parametrize("disk", [80], indirect=True)
def test_all_of_postgresql(disk: Disk, chance: random.Random, tmp_path: Path) -> None:
    data = disk.path / "data"
    data.mkdir()
    with PostgresServer(data=data) as database:
        init(database.url)
        _test("asyncio", database.url, disk, database, chance, tmp_path)


def _test(
    backend: str, storage: str, disk: Disk, database: PostgresServer | None, chance: random.Random, directory: Path
) -> None:
    config = f"{SETTINGS}[limits]\nstorage_ms = {_STORAGE_S * 1000:.0f}\n"
    back_s: list[float] = []
    with (
        Service(directory, "--backend", backend, storage=storage, config=config) as service,
        Traffic(service.udp, chance) as traffic,
    ):
        pid = service.pid
        traffic.until_served()
        for _ in range(_ROUNDS):
            wait(traffic.people, chance.uniform(0, 1))
            disk.fill()
            traffic.until_refused()
            wait(traffic.people, chance.uniform(0, scaled(1, 5)))
            disk.clear()
            if database is not None and not database.is_running:
                meanwhile(traffic.people, database.start)
            back_s.append(traffic.until_served())
        traffic.finish(storage)
        assert service.pid == pid
        traffic.check(2 * _STORAGE_S + _SLACK_S)
        assert service.stop() == 0
    assert "Traceback" not in service.log_text()
    print(f"{_ROUNDS} times full; served again after {max(back_s):.1f} s at the latest")
