"""SQLite: what it survives, and what it says when it cannot go on."""

import os
import pwd
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from msilo_core.actions import LookedUp, LookUp, Outcome
from msilo_core.errors import Full, SchemaError, Unavailable
from msilo_storage.sqlite import SqliteStorage
from tests.postgres import UNPRIVILEGED_USER
from tests.storage.values import BOB, NOW_S, append, bind, binding, dump, every_kind_of_work, message, settle, stores

# As Kamailio's own script makes it.
KAMAILIO_SCHEMA = """
    CREATE TABLE version (
        id INTEGER PRIMARY KEY NOT NULL,
        table_name VARCHAR(32) NOT NULL,
        table_version INTEGER DEFAULT 0 NOT NULL,
        CONSTRAINT version_table_name_idx UNIQUE (table_name)
    );
    INSERT INTO version (table_name, table_version) VALUES ('version', 1), ('silo', 8), ('subscriber', 7);
    CREATE TABLE silo (
        id INTEGER PRIMARY KEY NOT NULL,
        src_addr VARCHAR(255) DEFAULT '' NOT NULL,
        dst_addr VARCHAR(255) DEFAULT '' NOT NULL,
        username VARCHAR(64) DEFAULT '' NOT NULL,
        domain VARCHAR(64) DEFAULT '' NOT NULL,
        inc_time INTEGER DEFAULT 0 NOT NULL,
        exp_time INTEGER DEFAULT 0 NOT NULL,
        snd_time INTEGER DEFAULT 0 NOT NULL,
        ctype VARCHAR(32) DEFAULT 'text/plain' NOT NULL,
        body BLOB,
        extra_hdrs TEXT,
        callid VARCHAR(128) DEFAULT '' NOT NULL,
        status INTEGER DEFAULT 0 NOT NULL
    );
    CREATE INDEX silo_account_idx ON silo (username, domain);
"""
KAMAILIO_INSERT = """
    INSERT INTO silo
        (src_addr, dst_addr, username, domain, inc_time, exp_time, snd_time, ctype, body, extra_hdrs, callid)
    VALUES ('sip:alice@example.com', 'sip:bob@example.com', 'bob', 'example.com', ?, ?, 0, 'text/plain', ?, ?, ?)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "msilo.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SqliteStorage]:
    async with SqliteStorage(path, busy_timeout_s=0.1) as store:
        yield store


# A process that stores for ever, and says the number of the last message of each batch once it is durable.
WRITER = """
import sys
import anyio
from msilo_storage.sqlite import SqliteStorage
from tests.storage.values import append, message

async def write():
    async with SqliteStorage(sys.argv[1]) as store:
        for n in range(0, 1_000_000, 10):
            numbers = await append(store, *(message(n + m) for m in range(10)))
            print(numbers[-1], flush=True)

anyio.run(write)
"""


def fill(path: Path, content: str) -> None:
    path.write_text(content)


def content_of(path: Path) -> str:
    return path.read_text()


def store_until_killed(path: Path) -> list[int]:
    """Let another process store, kill it in the middle, and return the numbers that it said were durable."""
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(20)]
        writer.kill()
        lines += writer.stdout.readlines()
    return [int(line) for line in lines if line.endswith("\n")]


class TestDurability:
    async def test_what_was_acknowledged_survives_a_kill(self, path: Path) -> None:
        acknowledged = store_until_killed(path)
        async with SqliteStorage(path) as store:
            kept = [m.message_id for m in await store.list(limit=1_000_000)]
        assert set(acknowledged) <= set(kept)
        # A batch is there whole or not at all.
        assert len(kept) % 10 == 0

    async def test_nobody_else_may_read_the_file(self, path: Path) -> None:
        umask = os.umask(0)
        try:
            async with SqliteStorage(path) as store:
                await append(store, message())
                assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
        finally:
            os.umask(umask)

    async def test_closing_leaves_one_file(self, store: SqliteStorage, path: Path) -> None:
        await append(store, message())
        await store.__aexit__(None, None, None)
        assert [file.name for file in path.parent.iterdir()] == [path.name]


class TestTrouble:
    async def test_a_full_disk(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        connect = sqlite3.connect

        def connect_to_small_disk(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **kwargs)
            connection.execute("PRAGMA max_page_count = 40")
            return connection

        monkeypatch.setattr(sqlite3, "connect", connect_to_small_disk)
        async with SqliteStorage(path) as store:
            (small,) = await append(store, message(1, body=b"x" * 65_536))
            with pytest.raises(Full):
                await store.append(stores(message(2), message(3, body=b"x" * 131_072)))
            assert [m.message_id for m in await store.list()] == [small]
            # As soon as there is room it goes on.
            assert await settle(store, small, Outcome.WITHDRAWN)
            await append(store, message(2), message(3, body=b"x" * 65_536))
            assert len(await store.list()) == 2

    async def test_a_file_that_another_program_holds(self, store: SqliteStorage, path: Path) -> None:
        await append(store, message(1))
        await store.bind([bind(binding())])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await append(store, message(2))
            # Who only reads does not wait.
            assert await store.look_up([LookUp(1, BOB, NOW_S)]) == [LookedUp(1, (binding(),), waiting=True)]
            other.execute("ROLLBACK")
        await append(store, message(2))
        assert len(await store.list()) == 2

    async def test_a_file_that_was_changed_under_it(self, store: SqliteStorage, path: Path) -> None:
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE silo")
        with pytest.raises(SchemaError, match="no such table"):
            await append(store, message(1))
        with pytest.raises(SchemaError, match=r"lacks table silo: run"):
            await store.check()

    async def test_a_row_that_another_program_wrote_badly(self, store: SqliteStorage, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            values = (NOW_S, NOW_S + 1, "text", "Subject: text\r\n", b"\xff")
            other.execute(KAMAILIO_INSERT.replace("?)", "CAST(? AS TEXT))"), values)
        (kept,) = (await dump(store)).messages
        assert kept.body == b"text"
        assert kept.extra_hdrs == "Subject: text\r\n"
        assert kept.callid == "\udcff"


class TestWork:
    async def test_it_does_not_grow_with_the_tables(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        connect = sqlite3.connect
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        def connect_and_count(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **kwargs)
            connection.set_progress_handler(count, 1)
            return connection

        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", connect_and_count)
            async with SqliteStorage(path) as store:
                await every_kind_of_work(store, weigh=False)
                steps = 0
                await every_kind_of_work(store, weigh=False)
                steps_small = steps
                with closing(connect(path)) as other:
                    other.executescript(BIG_TABLES)
                steps = 0
                await every_kind_of_work(store, weigh=False)
        assert steps_small < steps < 3 * steps_small


# 10,000 messages to Bob, of which half were set aside, and as many to others and for later.
BIG_TABLES = f"""
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)
    INSERT INTO silo (username, domain, exp_time, callid, cseq, status)
    SELECT iif(n % 2, 'bob', 'user' || n), 'example.com', {NOW_S + 1000}, n, 1, n % 4 = 1 FROM numbers;
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10000)
    INSERT INTO silo (username, domain, exp_time, snd_time, callid, cseq)
    SELECT
        iif(n % 2, 'bob', 'user' || n), 'example.com', {NOW_S + 2000}, iif(n % 2, {NOW_S + 1000}, {NOW_S - 1000}),
        'later ' || n, 1
    FROM numbers;
"""


@contextmanager
def as_anybody() -> Generator[None]:
    """Be somebody whom the modes of files apply to: they do not to root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(pwd.getpwnam(UNPRIVILEGED_USER).pw_uid)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


class TestOpening:
    async def test_no_such_directory(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match=r"directory .*/missing does not exist"):
            async with SqliteStorage(tmp_path / "missing" / "msilo.db"):
                pass

    async def test_a_directory_in_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match="cannot be written"):
            async with SqliteStorage(tmp_path):
                pass

    @pytest.mark.parametrize("content", ["Dear diary, " * 1000, "SQLite format 3\0" * 100], ids=["text", "damaged"])
    async def test_something_else_in_its_place(self, path: Path, content: str) -> None:
        fill(path, content)
        with pytest.raises(SchemaError, match=r"msilo\.db is not an SQLite database: give the name of one|malformed"):
            async with SqliteStorage(path):
                pass
        assert content_of(path) == content

    @pytest.mark.parametrize(
        ("file_mode", "directory_mode", "complaint"),
        [
            (0o666, 0o000, "cannot be written: Permission denied"),
            (0o666, 0o644, "cannot be written: Permission denied"),
            (0o000, 0o755, "cannot be written: let the user that this runs as write it, and its directory"),
            (0o444, 0o755, "cannot be written: let the user that this runs as write it, and its directory"),
            (0o666, 0o555, "cannot be written: let the user that this runs as write it, and its directory"),
        ],
    )
    @pytest.mark.parametrize("create", [True, False])
    async def test_a_file_of_somebody_else(
        self, file_mode: int, directory_mode: int, complaint: str, create: bool
    ) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "msilo.db"
            async with SqliteStorage(path):
                pass
            path.chmod(file_mode)
            path.parent.chmod(directory_mode)
            try:
                with as_anybody(), pytest.raises(SchemaError) as caught:
                    async with SqliteStorage(path, create=create):
                        pass
            finally:
                path.parent.chmod(0o755)
            assert str(caught.value) == f"{path} {complaint}"

    async def test_an_empty_file_where_nothing_may_be_made(self, path: Path) -> None:
        fill(path, "")
        with pytest.raises(SchemaError, match=r"lacks table silo, .*run `msilo db init --storage sqlite:///"):
            async with SqliteStorage(path, create=False):
                pass

    @pytest.mark.parametrize(("version", "create"), [(7, True), (9, True), (None, False)])
    async def test_another_version_of_the_table(self, path: Path, version: int | None, create: bool) -> None:
        async with SqliteStorage(path):
            pass
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            if version is None:
                other.execute("DELETE FROM version")
            else:
                other.execute("UPDATE version SET table_version = ? WHERE table_name = 'silo'", (version,))
        with pytest.raises(SchemaError, match=r"has (version [79]|no version), not 8"):
            async with SqliteStorage(path, create=create):
                pass

    async def test_two_servers_that_make_it_at_the_same_time(self, path: Path) -> None:
        async def use(n: int) -> None:
            async with SqliteStorage(path) as store:
                await append(store, message(n))

        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(use, n)
        async with SqliteStorage(path) as store:
            assert len(await store.list()) == 5

    async def test_another_program_writes_when_it_is_opened(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.executescript("CREATE TABLE diary (day); BEGIN IMMEDIATE; INSERT INTO diary VALUES ('Sunday')")
            with pytest.raises(Unavailable, match="locked"):
                async with SqliteStorage(path, busy_timeout_s=0.1):
                    pass

            async def stop_writing() -> None:
                await anyio.sleep(0.1)
                other.execute("COMMIT")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stop_writing)
                async with SqliteStorage(path) as store:
                    await append(store, message(1))


class TestKamailio:
    async def test_its_table_is_taken_over(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as kamailio:
            kamailio.executescript(KAMAILIO_SCHEMA)
            values = (NOW_S, NOW_S + 1000, b"hello\0", b"Subject: lunch\r\n", "call-1")
            kamailio.execute(KAMAILIO_INSERT, values)
            async with SqliteStorage(path) as store:
                await append(store, message(1))
                # Kamailio goes on using it.
                kamailio.execute(KAMAILIO_INSERT, values)
                first, ours, second = (await dump(store)).messages
                assert ours.cseq == 1
                for theirs in (first, second):
                    assert theirs.src_addr == "sip:alice@example.com"
                    assert theirs.dst_addr == "sip:bob@example.com"
                    assert theirs.inc_time_s == NOW_S
                    assert theirs.ctype == "text/plain"
                    assert theirs.body == b"hello\0"
                    assert theirs.extra_hdrs == "Subject: lunch\r\n"
                    assert theirs.callid == "call-1"
                    assert (theirs.cseq, theirs.from_tag, theirs.from_hdr, theirs.to_hdr) == (-1, "", "", "")
                assert await settle(store, first.message_id)
                assert await settle(store, second.message_id, Outcome.FAILED, status=480)
            rows = kamailio.execute("SELECT id, callid FROM silo WHERE snd_time = 0 ORDER BY id").fetchall()
            assert [callid for _, callid in rows] == [message(1).callid, "call-1"]
            versions = kamailio.execute("SELECT table_name, table_version FROM version ORDER BY id").fetchall()
            assert versions == [("version", 1), ("silo", 8), ("subscriber", 7)]

    async def test_it_can_read_what_we_write(self, store: SqliteStorage, path: Path) -> None:
        await append(store, message(1, extra_hdrs="Subject: lunch\r\n", body=b"hello\0"))
        with closing(sqlite3.connect(path)) as kamailio:
            row = kamailio.execute(
                "SELECT id, src_addr, dst_addr, body, ctype, inc_time, extra_hdrs, callid FROM silo"
                " WHERE username = 'bob' AND domain = 'example.com' AND snd_time = 0 ORDER BY id"
            ).fetchone()
        assert row == (
            1, "sip:alice@example.com", "sip:bob@example.com", b"hello\0", "text/plain", NOW_S,
            b"Subject: lunch\r\n", message(1).callid,
        )  # fmt: skip
