"""Kamailio's table brought up to ours, and what an operator is told of a database that is not ready."""

import shlex
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from msilo_core.actions import Outcome
from msilo_core.errors import LocalError, SchemaError, Unavailable
from msilo_storage import TableNames, create_schema, examine, open_store, upgrade_schema
from msilo_storage.postgres import PostgresStorage
from msilo_storage.tables import DEFAULT_NAMES, OUR_COLUMNS, Sql
from tests.postgres import Console, PostgresServer
from tests.storage.values import BOB, HOSTILE_NAMES, NOW_S, append, dump, message, settle

# As Kamailio's own scripts make them, but for the names. The account index keeps its own there.
_KAMAILIO: Final = """
    CREATE TABLE version (
        id {serial} PRIMARY KEY NOT NULL,
        table_name VARCHAR(32) NOT NULL,
        table_version INTEGER DEFAULT 0 NOT NULL,
        CONSTRAINT version_table_name_idx UNIQUE (table_name)
    );
    INSERT INTO version (table_name, table_version) VALUES ('version', 1), ({{silo_text}}, 8);
    CREATE TABLE {{silo}} (
        {{id}} {serial} PRIMARY KEY NOT NULL,
        {{src_addr}} VARCHAR(255) DEFAULT '' NOT NULL,
        {{dst_addr}} VARCHAR(255) DEFAULT '' NOT NULL,
        {{username}} VARCHAR(64) DEFAULT '' NOT NULL,
        {{domain}} VARCHAR(64) DEFAULT '' NOT NULL,
        {{inc_time}} INTEGER DEFAULT 0 NOT NULL,
        {{exp_time}} INTEGER DEFAULT 0 NOT NULL,
        {{snd_time}} INTEGER DEFAULT 0 NOT NULL,
        {{ctype}} VARCHAR(32) DEFAULT 'text/plain' NOT NULL,
        {{body}} {blob},
        {{extra_hdrs}} TEXT,
        {{callid}} VARCHAR(128) DEFAULT '' NOT NULL,
        {{status}} INTEGER DEFAULT 0 NOT NULL
    );
    CREATE INDEX silo_account_idx ON {{silo}} ({{username}}, {{domain}});
"""
# It names its columns, and none of ours; it leaves out what is NULL or has a default that it wants.
_INSERT: Final = r"""
    INSERT INTO {silo}
        ({src_addr}, {dst_addr}, {username}, {domain}, {inc_time}, {exp_time}, {snd_time}, {ctype}, {body},
        {extra_hdrs})
    VALUES ('sip:alice@example.com', 'sip:bob@example.com', 'bob', 'example.com', 1800000000, 1800001000, 0,
        'text/plain', '%s', %s)
"""


class Kamailio:
    """Another program on the same database.

    Attributes:
        url: of the database.
    """

    def __init__(self, url: str, execute: Callable[[str], object], query: Callable[[str], list[tuple[object, ...]]]):
        self.url = url
        self.execute = execute
        self.query = query
        self.is_postgres = url.startswith("postgres")

    def create(self, names: TableNames = DEFAULT_NAMES) -> None:
        kinds = ("SERIAL", "BYTEA") if self.is_postgres else ("INTEGER", "BLOB")
        self.execute(Sql(names)(_KAMAILIO.format(serial=kinds[0], blob=kinds[1])))

    def store(self, headers: str | None, names: TableNames = DEFAULT_NAMES) -> None:
        body = r"\x68656c6c6f" if self.is_postgres else "hello"
        self.execute(Sql(names)(_INSERT) % (body, "NULL" if headers is None else f"'{headers}'"))


@pytest.fixture(params=["sqlite", "postgres"])
def kamailio(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Kamailio]:
    """Kamailio on an empty database."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        with Console(url) as console:
            yield Kamailio(url, console.execute, console.query)
        return
    path = tmp_path / "kamailio.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield Kamailio(f"sqlite:///{path}", connection.executescript, lambda s: connection.execute(s).fetchall())


@pytest.fixture
def on_postgres(postgres_url: str) -> Generator[Kamailio]:
    """Kamailio, with its table, on PostgreSQL."""
    with Console(postgres_url) as console:
        kamailio = Kamailio(postgres_url, console.execute, console.query)
        kamailio.create()
        yield kamailio


class TestUpgrade:
    @pytest.mark.parametrize("names", [DEFAULT_NAMES, HOSTILE_NAMES], ids=["its own names", "other names"])
    async def test_both_go_on_with_the_same_table(self, kamailio: Kamailio, names: TableNames) -> None:
        kamailio.create(names)
        headers = rf"\x{b'Subject: lunch'.hex()}0d0a" if kamailio.is_postgres else "Subject: lunch\r\n"
        kamailio.store(headers, names)
        done: list[float] = []
        await upgrade_schema(kamailio.url, names=names, progress=done.append)
        assert done == sorted(done)
        assert (min(done) >= 0, done[-1]) == (True, 1)
        async with open_store(kamailio.url, create=False, names=names) as store:
            await append(store, message(1))
            kamailio.store(headers, names)
            kamailio.store(r"\x" if kamailio.is_postgres else "", names)
            kamailio.store(None, names)
            first, ours, *others = (await dump(store)).messages
            assert ours.callid == message(1).callid
            assert {(theirs.body, theirs.cseq) for theirs in (first, *others)} == {(b"hello", -1)}
            assert [m.extra_hdrs for m in (first, *others)] == ["Subject: lunch\r\n"] * 2 + ["", ""]
            # What it could not deliver at once stays for either of them.
            assert await settle(store, first.message_id)
            assert await settle(store, ours.message_id, Outcome.FAILED, status=480)
        read = Sql(names)("SELECT {callid}, {extra_hdrs} FROM {silo} WHERE {snd_time} = 0 ORDER BY {id}")
        assert [callid for callid, _ in kamailio.query(read)] == [message(1).callid, "", "", ""]

    async def test_again_it_changes_nothing(self, kamailio: Kamailio) -> None:
        kamailio.create()
        await upgrade_schema(kamailio.url)
        url = kamailio.url
        if kamailio.is_postgres:
            # Whoever may not change anything is not asked to.
            url += "&default_transaction_read_only=on"
        done: list[float] = []
        await upgrade_schema(url, progress=done.append)
        await create_schema(url)
        assert done == []

    async def test_what_an_older_release_made_is_completed(self, kamailio: Kamailio) -> None:
        await create_schema(kamailio.url)
        kamailio.execute("DROP INDEX silo_due_idx; DROP INDEX silo_repeat_idx; DROP TABLE silo_location")
        kamailio.execute("DROP INDEX silo_again_idx; ALTER TABLE silo DROP COLUMN next_time")
        with pytest.raises(SchemaError, match=r"lacks table silo_location, column silo\.next_time: run `msilo db upgr"):
            async with open_store(kamailio.url, create=False):
                pass
        await upgrade_schema(kamailio.url)
        assert (await examine(kamailio.url)).complaint == ""

    async def test_an_index_that_an_older_release_had_goes(self, kamailio: Kamailio) -> None:
        await create_schema(kamailio.url)
        kamailio.execute("DROP INDEX silo_again_idx")
        kamailio.execute("CREATE INDEX silo_retry_idx ON silo (next_time) WHERE status = 0 AND next_time > 0")
        await upgrade_schema(kamailio.url)
        names = "SELECT indexname FROM pg_indexes" if kamailio.is_postgres else "SELECT name FROM sqlite_master"
        found = {name for (name,) in kamailio.query(names)}
        assert found & {"silo_retry_idx", "silo_again_idx"} == {"silo_again_idx"}

    async def test_where_there_is_nothing_to_upgrade(self, kamailio: Kamailio) -> None:
        with pytest.raises(SchemaError, match=r"lacks table silo: run `msilo db init --storage [^ ]+`$"):
            await upgrade_schema(kamailio.url)
        with pytest.raises(SchemaError, match=r"lacks table order: run `msilo db init --storage .+ --config FILE`$"):
            await upgrade_schema(kamailio.url, names=HOSTILE_NAMES)

    async def test_in_memory_there_is_nothing_to_do(self) -> None:
        await upgrade_schema("memory:")

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (
                "UPDATE version SET table_version = 7",
                r"table silo of \S+ has version 7, not 8: bring it up to Kamailio's",
            ),
            ("ALTER TABLE silo DROP COLUMN extra_hdrs", r"\S+ lacks column silo\.extra_hdrs, which Kamailio has: name"),
            (
                "ALTER TABLE silo RENAME TO rows; CREATE VIEW silo AS SELECT * FROM rows",
                r"silo of \S+ is no table but a view or the like: give db_table another name",
            ),
        ],
        ids=["version", "column", "view"],
    )
    async def test_what_is_not_its_table_is_left_alone(self, kamailio: Kamailio, change: str, complaint: str) -> None:
        kamailio.create()
        kamailio.execute(change)
        for make in (upgrade_schema, create_schema):
            with pytest.raises(SchemaError, match=complaint) as caught:
                await make(kamailio.url)
            assert "\n" not in str(caught.value)
        with pytest.raises(SchemaError, match=complaint):
            async with open_store(kamailio.url):
                pass
        report = await examine(kamailio.url)
        assert report.complaint == str(caught.value)
        assert report.content is None
        assert len(report.ours.missing) == len(OUR_COLUMNS)


class TestUpgradeOfPostgres:
    @pytest.mark.parametrize("mode", ["ROW EXCLUSIVE", "ACCESS SHARE"], ids=["a writer", "a reader"])
    async def test_it_does_not_wait_for_ever_and_leaves_all_as_it_was(self, on_postgres: Kamailio, mode: str) -> None:
        store = PostgresStorage(on_postgres.url)
        on_postgres.execute(f"BEGIN; LOCK TABLE silo IN {mode} MODE")
        with pytest.raises(Unavailable) as caught:
            await store.create_schema(only_existing=True, lock_timeout_s=0.2)
        assert str(caught.value) == (
            f"another program has held table silo of {on_postgres.url} for 0.2 s, nothing was changed: "
            "try again when its transaction has ended"
        )
        on_postgres.execute("COMMIT")
        report = await examine(on_postgres.url)
        assert (len(report.ours.missing), len(report.indexes.missing)) == (len(OUR_COLUMNS), report.indexes.count)
        await store.create_schema(only_existing=True)

    async def test_its_own_index_goes_whatever_it_is_called(self, on_postgres: Kamailio) -> None:
        on_postgres.execute('ALTER INDEX silo_account_idx RENAME TO "Mine"; CREATE INDEX other ON silo (domain)')
        await upgrade_schema(on_postgres.url)
        names = {name for (name,) in on_postgres.query("SELECT indexname FROM pg_indexes WHERE tablename = 'silo'")}
        assert names == {
            "silo_pkey", "other", "silo_owner_idx", "silo_waiting_idx", "silo_deferred_idx", "silo_due_idx",
            "silo_expiry_idx", "silo_imdn_idx", "silo_repeat_idx", "silo_again_idx", "silo_taken_idx", "silo_dead_idx",
        }  # fmt: skip

    async def test_nothing_is_cut_any_more(self, on_postgres: Kamailio) -> None:
        await upgrade_schema(on_postgres.url)
        on_postgres.execute("ALTER TABLE silo ALTER COLUMN ctype TYPE VARCHAR(32)")
        report = await examine(on_postgres.url)
        assert "lacks room in column silo.ctype: run `msilo db upgrade" in report.complaint
        await upgrade_schema(on_postgres.url)
        async with open_store(on_postgres.url) as store:
            await append(store, message(1, ctype="text/plain;" + "x" * 100))

    async def test_without_the_right_to_change_it(self, on_postgres: Kamailio) -> None:
        us = on_postgres.url.rpartition("=")[2]
        on_postgres.execute(f"CREATE ROLE {us}; GRANT ALL ON SCHEMA {us} TO {us}; GRANT ALL ON silo, version TO {us}")
        with pytest.raises(SchemaError) as caught:
            await upgrade_schema(f"{on_postgres.url}&role={us}")
        assert str(caught.value) == (
            "PostgreSQL: must be owner of table silo: run `msilo db upgrade` once as a user who may do that"
        )
        on_postgres.execute(f"DROP OWNED BY {us}; DROP ROLE {us}")

    async def test_without_the_right_to_use_it(self, on_postgres: Kamailio) -> None:
        await upgrade_schema(on_postgres.url)
        us = on_postgres.url.rpartition("=")[2]
        url = f"{on_postgres.url}&role={us}"
        on_postgres.execute(f"""
            CREATE ROLE {us}; GRANT USAGE ON SCHEMA {us} TO {us};
            GRANT SELECT, INSERT, UPDATE ON silo, silo_location TO {us}
        """)
        with pytest.raises(SchemaError) as caught:
            async with open_store(url):
                pass
        assert str(caught.value) == (
            f"the user of {url} lacks DELETE on silo, DELETE on silo_location, SELECT on subscriber, "
            f"SELECT on version, USAGE on {us}.silo_id_seq: GRANT it as the owner of the table"
        )
        assert (await examine(url)).complaint == str(caught.value)
        on_postgres.execute(f"""
            GRANT DELETE ON silo, silo_location TO {us}; GRANT SELECT ON subscriber, version TO {us};
            GRANT USAGE ON SEQUENCE silo_id_seq TO {us}
        """)
        async with open_store(url) as store:
            await append(store, message(1))
        on_postgres.execute(f"DROP OWNED BY {us}; DROP ROLE {us}")

    async def test_how_far_a_long_one_is(self, on_postgres: Kamailio, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("msilo_storage.postgres_schema._POLL_S", 0.01)
        on_postgres.execute(f"""
            INSERT INTO silo (username, domain, exp_time) SELECT n, 'example.com', {NOW_S} + n
            FROM generate_series(1, 200000) AS n
        """)
        done_small: list[float] = []
        done: list[float] = []
        on_postgres.execute("CREATE TABLE small (LIKE silo INCLUDING ALL)")
        await upgrade_schema(on_postgres.url, names=TableNames("small"), progress=done_small.append)
        await upgrade_schema(on_postgres.url, progress=done.append)
        assert done == sorted(done)
        # Not only step by step.
        assert len(done) > len(done_small)


class TestExamine:
    async def test_an_empty_database(self, kamailio: Kamailio) -> None:
        kamailio.execute("CREATE TABLE unrelated (x INTEGER)")
        report = await examine(kamailio.url)
        assert (report.table, report.version, report.content) == ("silo", None, None)
        assert report.tables.missing == ("silo", "silo_location", "subscriber", "version")
        assert "lacks table silo, table silo_location, table subscriber, table version: run `msilo db init" in (
            report.complaint
        )

    async def test_a_table_of_kamailios(self, kamailio: Kamailio) -> None:
        kamailio.create(HOSTILE_NAMES)
        report = await examine(kamailio.url, names=HOSTILE_NAMES)
        assert (report.table, report.version) == ("order", 8)
        assert (report.kamailio.count, report.kamailio.missing) == (13, ())
        assert report.ours.missing == OUR_COLUMNS
        assert report.tables.missing == ("order_location", "subscriber")
        assert len(report.indexes.missing) == report.indexes.count
        url = shlex.quote(kamailio.url)
        assert report.complaint.endswith(f": run `msilo db upgrade --storage {url} --config FILE`")

    async def test_one_that_is_ready(self, kamailio: Kamailio) -> None:
        await create_schema(kamailio.url)
        async with open_store(kamailio.url) as store:
            await append(store, message(1), message(2, snd_time_s=NOW_S + 1))
            assert await dump(store, BOB)
            counted = await store.check()
        report = await examine(kamailio.url)
        assert report.database.startswith("PostgreSQL 1" if kamailio.is_postgres else "SQLite 3.")
        assert (report.complaint, report.content) == ("", counted)
        assert (counted.messages, counted.deferred) == (2, 1)
        assert {part.missing for part in (report.kamailio, report.ours, report.tables, report.indexes)} == {()}

    async def test_an_index_that_is_missing(self, kamailio: Kamailio) -> None:
        await create_schema(kamailio.url)
        kamailio.execute("DROP INDEX silo_repeat_idx")
        report = await examine(kamailio.url)
        assert report.indexes.missing == ("silo_repeat_idx",)
        assert "lacks index silo_repeat_idx: run `msilo db upgrade" in report.complaint

    async def test_where_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match="there is no "):
            await examine(f"sqlite:///{tmp_path / 'none.db'}")
        with pytest.raises(SchemaError, match=r"there is no .*: run `msilo db init .* --config FILE`$"):
            await examine(f"sqlite:///{tmp_path / 'none.db'}", names=HOSTILE_NAMES)
        with pytest.raises(LocalError, match="gone when its program ends"):
            await examine("memory:")
        assert list(tmp_path.iterdir()) == []

    async def test_a_server_that_is_away(self) -> None:
        with PostgresServer() as server:
            url = server.url
        with pytest.raises(Unavailable):
            await examine(url)
