"""PostgreSQL: what the store survives, and what it says when it cannot go on."""

import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread
import msgspec
import pytest

from msilo_core.actions import (
    Bound,
    Completion,
    Dump,
    Dumped,
    Expire,
    LookedUp,
    LookUp,
    Outcome,
    Refused,
    Remind,
    Renew,
    Settle,
    StorageFailed,
    Stored,
    Unbind,
)
from msilo_core.errors import LocalError, SchemaError, StorageError, Unavailable
from msilo_core.uri import Aor
from msilo_storage import Storage, create_schema, lanes, open_store
from msilo_storage.postgres import PostgresStorage
from tests.postgres import Console, PostgresServer
from tests.storage.values import (
    BOB,
    CAROL,
    NOW_MS,
    NOW_S,
    append,
    bind,
    binding,
    dump,
    every_kind_of_work,
    message,
    settle,
    stores,
)

# Far below what is usual, so that no test waits long for a server that hangs.
TIMEOUT_S = 0.4
CONNECT_TIMEOUT_S = 0.4

# The watchdog comes later than the server's own timeout, and the machine may be busy.
SLACK_S = 2.0

# As Kamailio's own script makes it.
KAMAILIO_SCHEMA = """
    CREATE TABLE version (
        id SERIAL PRIMARY KEY NOT NULL,
        table_name VARCHAR(32) NOT NULL,
        table_version INTEGER DEFAULT 0 NOT NULL,
        CONSTRAINT version_table_name_idx UNIQUE (table_name)
    );
    INSERT INTO version (table_name, table_version) VALUES ('version', 1), ('silo', 8), ('subscriber', 7);
    CREATE TABLE silo (
        id SERIAL PRIMARY KEY NOT NULL,
        src_addr VARCHAR(255) DEFAULT '' NOT NULL,
        dst_addr VARCHAR(255) DEFAULT '' NOT NULL,
        username VARCHAR(64) DEFAULT '' NOT NULL,
        domain VARCHAR(64) DEFAULT '' NOT NULL,
        inc_time INTEGER DEFAULT 0 NOT NULL,
        exp_time INTEGER DEFAULT 0 NOT NULL,
        snd_time INTEGER DEFAULT 0 NOT NULL,
        ctype VARCHAR(32) DEFAULT 'text/plain' NOT NULL,
        body BYTEA,
        extra_hdrs TEXT,
        callid VARCHAR(128) DEFAULT '' NOT NULL,
        status INTEGER DEFAULT 0 NOT NULL
    );
    CREATE INDEX silo_account_idx ON silo (username, domain);
"""
KAMAILIO_SUBSCRIBER = """
    CREATE TABLE subscriber (
        id SERIAL PRIMARY KEY NOT NULL,
        username VARCHAR(64) DEFAULT '' NOT NULL,
        domain VARCHAR(64) DEFAULT '' NOT NULL,
        password VARCHAR(64) DEFAULT '' NOT NULL,
        ha1 VARCHAR(128) DEFAULT '' NOT NULL,
        ha1b VARCHAR(128) DEFAULT '' NOT NULL,
        CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
    );
    CREATE INDEX subscriber_username_idx ON subscriber (username);
"""
KAMAILIO_INSERT = r"""
    INSERT INTO silo
        (src_addr, dst_addr, username, domain, inc_time, exp_time, snd_time, ctype, body, extra_hdrs, callid)
    VALUES ('sip:alice@example.com', 'sip:bob@example.com', 'bob', 'example.com', 1800000000, 1800001000, 0,
        'text/plain', '\x68656c6c6f00', $1, 'call-1')
"""


@pytest.fixture
def url(postgres_url: str) -> str:
    """The URL of an empty store with its tables, on the shared server."""
    anyio.run(create_schema, postgres_url)
    return postgres_url


@pytest.fixture
async def store(url: str) -> AsyncGenerator[PostgresStorage]:
    async with PostgresStorage(url, timeout_s=TIMEOUT_S, connect_timeout_s=CONNECT_TIMEOUT_S) as store:
        yield store


@pytest.fixture
def console(url: str) -> Generator[Console]:
    """A connection beside the store."""
    with Console(url) as console:
        yield console


@pytest.fixture(scope="module")
def own_server() -> Generator[PostgresServer]:
    """A server that may be stopped and frozen."""
    with PostgresServer() as server:
        anyio.run(create_schema, server.url)
        yield server


@pytest.fixture
async def shaky_store(own_server: PostgresServer) -> AsyncGenerator[PostgresStorage]:
    """An empty store on that server, with a connection for each kind of call."""
    with Console(own_server.url) as console:
        console.execute("TRUNCATE silo, silo_location")
    async with PostgresStorage(own_server.url, timeout_s=TIMEOUT_S, connect_timeout_s=CONNECT_TIMEOUT_S) as store:
        for call in calls_of(store):
            await call()
        yield store


def calls_of(store: Storage) -> list[Callable[[], Awaitable[object]]]:
    """A call of each kind."""
    return [
        lambda: append(store, message(1)),
        lambda: store.look_up([LookUp(1, BOB, NOW_S)]),
        lambda: store.bind([bind()]),
        lambda: dump(store),
        lambda: settle(store, 10**9),
        lambda: store.expire([Expire(1, NOW_MS - 10**9)]),
        lambda: store.remind([Remind(1, NOW_S, "one", 10, 90)]),
        store.list,
        lambda: store.find(1),
        lambda: store.requeue([10**9]),
        lambda: store.purge([10**9]),
        store.stats,
        store.check,
    ]


async def until_it_works(call: Callable[[], Awaitable[object]]) -> None:
    """Call until the store has found out that the server is back; its back-off is well below this."""
    with anyio.fail_after(15):
        while True:
            try:
                await call()
            except Unavailable:
                await anyio.sleep(0.02)
            else:
                return


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while True:
            if condition():
                return
            await anyio.sleep(0.01)


# Who waits for a lock.
WAITING = "SELECT DISTINCT pid FROM pg_locks WHERE NOT granted"


class TestOutage:
    async def test_a_server_that_was_restarted_in_the_meantime_is_not_noticed(
        self, own_server: PostgresServer, shaky_store: PostgresStorage
    ) -> None:
        own_server.stop()
        own_server.start()
        for call in calls_of(shaky_store):
            await call()

    async def test_a_server_that_stops_and_comes_back(
        self, own_server: PostgresServer, shaky_store: PostgresStorage
    ) -> None:
        acknowledged = await append(shaky_store, message(2), message(3))
        own_server.stop()
        try:
            for call in calls_of(shaky_store):
                for _ in range(3):
                    started = time.monotonic()
                    with pytest.raises(Unavailable):
                        await call()
                    assert time.monotonic() - started < CONNECT_TIMEOUT_S + SLACK_S
        finally:
            own_server.start()
        for call in calls_of(shaky_store):
            await until_it_works(call)
        assert set(acknowledged) <= {m.message_id for m in await shaky_store.list()}

    async def test_a_server_that_hangs(self, own_server: PostgresServer, shaky_store: PostgresStorage) -> None:
        own_server.freeze()
        try:
            for call in calls_of(shaky_store)[:5]:
                started = time.monotonic()
                with pytest.raises(Unavailable, match="did not answer within"):
                    await call()
                assert time.monotonic() - started < TIMEOUT_S + SLACK_S
                # Known to be away: nobody waits for it again.
                started = time.monotonic()
                with pytest.raises(Unavailable):
                    await call()
                assert time.monotonic() - started < CONNECT_TIMEOUT_S + SLACK_S
        finally:
            own_server.thaw()
        for call in calls_of(shaky_store)[:5]:
            await until_it_works(call)

    async def test_calls_do_not_pile_up_behind_one_that_hangs(
        self, own_server: PostgresServer, shaky_store: PostgresStorage
    ) -> None:
        failures: list[StorageError] = []

        async def call(n: int) -> None:
            try:
                await append(shaky_store, message(n))
            except Unavailable as error:
                failures.append(error)

        own_server.freeze()
        try:
            with anyio.fail_after(TIMEOUT_S + SLACK_S):
                async with anyio.create_task_group() as tasks:
                    for n in range(20):
                        tasks.start_soon(call, 100 + n)
            assert len(failures) == 20
            assert len(set(map(id, failures))) == 20
        finally:
            own_server.thaw()

    async def test_closing_while_the_server_hangs(self, own_server: PostgresServer) -> None:
        store = PostgresStorage(own_server.url, timeout_s=60)
        await store.__aenter__()
        try:
            await append(store, message(1))
            own_server.freeze()
            with anyio.move_on_after(0.05):
                await append(store, message(2))
        finally:
            with anyio.fail_after(10):
                await store.__aexit__(None, None, None)
            own_server.thaw()

    @pytest.mark.parametrize("state", ["stopped", "frozen"])
    async def test_opening_while_the_server_is_away(self, own_server: PostgresServer, state: str) -> None:
        store = PostgresStorage(own_server.url, timeout_s=TIMEOUT_S, connect_timeout_s=CONNECT_TIMEOUT_S)
        stop, start = {
            "stopped": (own_server.stop, own_server.start),
            "frozen": (own_server.freeze, own_server.thaw),
        }[state]
        stop()
        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S + SLACK_S), pytest.raises(Unavailable) as caught:
                async with store:
                    pass
            assert "\n" not in str(caught.value)
        finally:
            start()
        async with store:
            assert (await store.check()).version == 8

    async def test_a_server_that_became_a_standby(
        self, own_server: PostgresServer, shaky_store: PostgresStorage
    ) -> None:
        with Console(own_server.url) as console:
            try:
                console.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                console.execute("SELECT pg_reload_conf()")
                await until(lambda: console.query("SHOW default_transaction_read_only") == [("on",)])
                with pytest.raises(Unavailable, match="read-only"):
                    await append(shaky_store, message(5))
            finally:
                console.execute("SET default_transaction_read_only = off")
                console.execute("ALTER SYSTEM RESET default_transaction_read_only")
                console.execute("SELECT pg_reload_conf()")
        await until_it_works(lambda: append(shaky_store, message(5)))


# Commits take their time.
SLOW_COMMIT = """
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON silo_location
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();
"""


class TestConnection:
    async def test_one_that_is_ended_during_a_call(self, url: str, console: Console) -> None:
        answers: list[list[int]] = []

        async def call(store: Storage) -> None:
            answers.append(await append(store, message(1), message(2)))

        async with PostgresStorage(url) as store:
            console.execute("BEGIN; LOCK TABLE silo")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, store)
                await until(lambda: bool(console.query(WAITING)))
                ((pid,),) = console.query(WAITING)
                # Ended, and waited for.
                console.query("SELECT pg_terminate_backend($1, 10000)", pid)
                console.execute("COMMIT")
            # Made again on a new connection, and stored once.
            assert [[m.message_id for m in await store.list()]] == answers

    async def test_one_that_is_ended_while_it_commits(self, url: str, console: Console) -> None:
        # Nobody knows what became of it, and a REGISTER done again would be out of order: it fails.
        console.execute(SLOW_COMMIT)
        two = binding("sip:a@192.0.2.1"), binding("sip:b@192.0.2.1")
        async with PostgresStorage(url) as store:
            async with anyio.create_task_group() as tasks:

                async def call() -> None:
                    with pytest.raises(Unavailable, match="the last change may have been made"):
                        await store.bind([bind(*two)])

                tasks.start_soon(call)
                committing = "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'"
                await until(lambda: bool(console.query(committing)))
                console.query(f"SELECT pg_terminate_backend(pid, 10000) FROM ({committing}) AS who")
            console.execute("DROP TRIGGER dawdle ON silo_location")
            (answer,) = await store.bind([bind(*two)])
            assert isinstance(answer, Bound)

    async def test_one_that_is_lost_when_a_register_has_been_carried_out(self, store: PostgresStorage) -> None:
        # It is made again, and is not out of order then.
        asked = bind(binding())
        for _ in range(2):
            assert await store.bind([asked]) == [Bound(asked.token, asked.contacts, waiting=False)]
        # What a phone sends again later is.
        (later,) = await store.bind([bind(binding(updated_ms=NOW_MS + 1))])
        assert isinstance(later, Refused)

    async def test_a_register_that_another_server_overtakes(self, store: PostgresStorage, console: Console) -> None:
        await store.bind([bind(binding())])
        answers: list[Completion] = []

        async def call() -> None:
            answers.extend(await store.bind([bind(binding(cseq=3), cseq=3), bind(binding(), owner=CAROL)]))

        console.execute("BEGIN; UPDATE silo_location SET cseq = 4, updated_ms = updated_ms + 1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await until(lambda: bool(console.query(WAITING)))
            console.execute("COMMIT")
        refused, bound = answers
        assert isinstance(refused, Refused)
        assert refused.status == 500
        assert isinstance(bound, Bound)
        assert console.query("SELECT username, cseq FROM silo_location ORDER BY username") == [("bob", 4), ("carol", 1)]

    async def test_all_of_them_are_ended_again_and_again(self, store: PostgresStorage, console: Console) -> None:
        for _ in range(3):
            console.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'msilo' AND pid <> $1",
                console.query("SELECT pg_backend_pid()")[0][0],
            )
            for call in calls_of(store):
                await call()

    async def test_a_statement_that_waits_too_long(self, store: PostgresStorage, console: Console) -> None:
        await append(store, message(1))
        before = console.query("SELECT pid FROM pg_stat_activity WHERE query LIKE '%INSERT INTO silo%' ORDER BY pid")
        console.execute("BEGIN; LOCK TABLE silo")
        with anyio.fail_after(TIMEOUT_S + SLACK_S), pytest.raises(Unavailable, match="statement timeout"):
            await append(store, message(2))
        console.execute("COMMIT")
        # The server gave it up, not we: the connection is as good as before, and there is no need to wait.
        await append(store, message(2))
        assert len(await store.list()) == 2
        after = console.query("SELECT pid FROM pg_stat_activity WHERE query LIKE '%INSERT INTO silo%' ORDER BY pid")
        assert set(before) <= set(after)

    async def test_its_plans_survive_a_change_of_the_tables(self, store: PostgresStorage, console: Console) -> None:
        for round_number in range(3):
            for call in calls_of(store):
                await call()
            kind = ("VARCHAR", "TEXT")[round_number % 2]
            console.execute(f"ALTER TABLE silo ALTER COLUMN ctype TYPE {kind}, ADD COLUMN x{round_number} INTEGER")
            console.execute(f"ALTER TABLE silo_location ALTER COLUMN node TYPE {kind}")

    async def test_a_deadlock_is_not_noticed(self, own_server: PostgresServer, shaky_store: PostgresStorage) -> None:
        first, second = binding("sip:a@192.0.2.1"), binding("sip:b@192.0.2.1")
        answers: list[Completion] = []

        async def call(store: Storage) -> None:
            answers.extend(await store.bind([bind(binding("sip:a@192.0.2.1", cseq=2), cseq=2)]))

        await shaky_store.bind([bind(first, second)])
        with Console(own_server.url) as console:
            async with PostgresStorage(own_server.url) as store:
                # Whoever waits this long for a lock looks for a circle, and gives up if there is one: not we. (Only a
                # superuser may say so, and only on a server of our own are we sure to be one.)
                console.execute("SET deadlock_timeout = '30 s'")
                console.execute("BEGIN; UPDATE silo_location SET q = 1 WHERE contact LIKE '%b@%'")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call, store)
                    await until(lambda: bool(console.query(WAITING)))
                    # It has locked the first row and waits for the second.
                    await anyio.to_thread.run_sync(
                        console.execute, "UPDATE silo_location SET q = 1 WHERE contact LIKE '%a@%'; COMMIT"
                    )
        (answer,) = answers
        assert isinstance(answer, Bound)
        assert [(b.contact, b.cseq, b.q) for b in answer.bindings] == [(first.contact, 2, 1000), (second.contact, 1, 1)]

    async def test_where_it_comes_from_can_be_seen(self, url: str, console: Console) -> None:
        named = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE $1"
        async with open_store(url, node="edge-1"):
            assert console.query(named, "%edge-1%") == [("msilo edge-1",)]
        async with open_store(f"{url}&application_name=custom", node="edge-2"):
            assert console.query(named, "%edge-2%") == []
            assert console.query(named, "custom") == [("custom",)]


class TestHosts:
    async def test_the_second_is_taken_where_the_first_is_dead(
        self, own_server: PostgresServer, tmp_path: Path
    ) -> None:
        async with open_store(url_of_hosts(tmp_path, own_server.socket_directory)) as store:
            await store.check()

    async def test_one_that_swallows_everything_does_not_hide_the_next(
        self, own_server: PostgresServer, tmp_path: Path
    ) -> None:
        hosts = url_of_hosts(tmp_path, own_server.socket_directory)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / ".s.PGSQL.5432"))
            listener.listen()
            with anyio.fail_after(CONNECT_TIMEOUT_S + SLACK_S):
                async with PostgresStorage(hosts, connect_timeout_s=CONNECT_TIMEOUT_S) as store:
                    # Further connections begin with the host that answered.
                    for call in calls_of(store)[1:]:
                        await call()
            listener.setblocking(False)
            listener.accept()[0].close()
            with pytest.raises(BlockingIOError):
                listener.accept()

    async def test_none_that_is_wanted(self, own_server: PostgresServer) -> None:
        url = f"{url_of_hosts(own_server.socket_directory)}?target_session_attrs=standby"
        with pytest.raises(Unavailable, match="target attribute requirement"):
            async with open_store(url):
                pass


def url_of_hosts(*socket_directories: Path) -> str:
    hosts = ",".join(quote(str(directory), safe="") for directory in socket_directories)
    return f"postgresql://postgres@{hosts}/postgres"


@pytest.mark.parametrize("url", ["postgresql://alice:s3cret@db:port/msilo", "postgresql://db/msilo?sslmode=maybe"])
async def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(LocalError, match="PostgreSQL: ") as caught:
        async with open_store(url):
            pass
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


class TestSchema:
    async def test_without_tables(self, postgres_url: str) -> None:
        url = postgres_url.replace("postgres@", "postgres:s3cret@")
        with pytest.raises(
            SchemaError, match=r"lacks table silo, .*: run `msilo db init --storage 'postgres"
        ) as caught:
            async with open_store(url):
                pass
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)

    async def test_without_the_database(self, own_server: PostgresServer) -> None:
        with pytest.raises(
            SchemaError, match='database "missing" does not exist: mend that there, or the URL postgres'
        ):
            async with open_store(own_server.url.replace("/postgres?", "/missing?")):
                pass

    async def test_without_a_column(self, url: str, console: Console) -> None:
        console.execute("ALTER TABLE silo DROP COLUMN lease_until; ALTER TABLE silo_location DROP COLUMN path")
        with pytest.raises(SchemaError, match=r"lacks column silo\.lease_until, column silo_location\.path: run"):
            async with open_store(url):
                pass
        # In Kamailio's table what is missing is added; one of ours that lost a column is beyond that.
        with pytest.raises(SchemaError, match=r"lacks column silo_location\.path: run"):
            await create_schema(url)

    @pytest.mark.parametrize("version", [7, 9])
    async def test_another_version_of_the_table(self, url: str, console: Console, version: int) -> None:
        console.query("UPDATE version SET table_version = $1 WHERE table_name = 'silo'", version)
        with pytest.raises(SchemaError, match=f"has version {version}, not 8"):
            async with open_store(url):
                pass
        with pytest.raises(SchemaError, match=f"has version {version}, not 8"):
            await create_schema(url)

    async def test_making_it_again_changes_nothing(self, url: str, store: PostgresStorage) -> None:
        await append(store, message(1))
        await create_schema(url)
        assert len(await store.list()) == 1

    async def test_without_the_right_to_make_it(self, postgres_url: str) -> None:
        url = f"{postgres_url}&default_transaction_read_only=on"
        with pytest.raises(Unavailable, match="read-only"):
            await create_schema(url)

    async def test_users_in_a_table_of_another(self, postgres_url: str) -> None:
        us = postgres_url.rpartition("=")[2]
        url = f"{postgres_url}&role={us}"
        with Console(postgres_url) as other:
            other.execute(f"CREATE ROLE {us}; GRANT ALL ON SCHEMA {us} TO {us}; {KAMAILIO_SUBSCRIBER}")
            with pytest.raises(SchemaError) as caught:
                await create_schema(url)
            assert str(caught.value) == (
                "PostgreSQL: must be owner of table subscriber: run `msilo db init` once as a user who may do that"
            )
            # So somebody did. We have the tables of messages to ourselves.
            await create_schema(postgres_url)
            other.execute(f"DROP TABLE silo, silo_location; GRANT SELECT ON subscriber, version TO {us}")
            for _ in range(2):
                await create_schema(url)
            async with open_store(url) as store:
                await append(store, message(1))
                assert await store.list_users() == []
            other.execute(f"DROP OWNED BY {us}; DROP ROLE {us}")

    async def test_tables_that_vanish(self, store: PostgresStorage, console: Console) -> None:
        console.execute("DROP TABLE silo")
        with pytest.raises(SchemaError, match='relation "silo" does not exist'):
            await append(store, message(1))
        with pytest.raises(SchemaError, match="lacks table silo"):
            await store.check()


class TestKamailio:
    async def test_its_table_is_taken_over(self, postgres_url: str) -> None:
        with Console(postgres_url) as kamailio:
            kamailio.execute(KAMAILIO_SCHEMA)
            headers = rf"\x{b'Subject: lunch'.hex()}0d0a"
            kamailio.query(KAMAILIO_INSERT, headers)
            await create_schema(postgres_url)
            async with open_store(postgres_url) as store:
                # Longer than any of its columns allowed.
                await append(store, message(1, callid="x" * 500, src_addr=f"sip:{'a' * 500}@example.com"))
                # Kamailio goes on using it.
                kamailio.query(KAMAILIO_INSERT, headers)
                kamailio.query(KAMAILIO_INSERT, r"\x")
                kamailio.query(KAMAILIO_INSERT, r"\xno hexadecimal")
                first, ours, *others = (await dump(store)).messages
                assert ours.callid == "x" * 500
                for theirs in (first, *others):
                    assert theirs.src_addr == "sip:alice@example.com"
                    assert theirs.dst_addr == "sip:bob@example.com"
                    assert (theirs.inc_time_s, theirs.exp_time_s) == (1_800_000_000, 1_800_001_000)
                    assert theirs.ctype == "text/plain"
                    assert theirs.body == b"hello\0"
                    assert theirs.callid == "call-1"
                    assert (theirs.cseq, theirs.from_tag, theirs.from_hdr, theirs.to_hdr) == (-1, "", "", "")
                assert first.extra_hdrs == others[0].extra_hdrs == "Subject: lunch\r\n"
                assert [theirs.extra_hdrs for theirs in others[1:]] == ["", r"\xno hexadecimal"]
                assert await settle(store, first.message_id)
                assert await settle(store, others[0].message_id, Outcome.FAILED, status=480)
            rows = kamailio.query("SELECT id, callid FROM silo WHERE snd_time = 0 ORDER BY id")
            assert rows == [(ours.message_id, "x" * 500), *((theirs.message_id, "call-1") for theirs in others)]
            versions = kamailio.query("SELECT table_name, table_version FROM version ORDER BY id")
            assert versions == [("version", 1), ("silo", 8), ("subscriber", 7)]

    async def test_it_can_read_what_we_write(self, store: PostgresStorage, console: Console) -> None:
        await append(store, message(1, extra_hdrs="Subject: lunch\r\n", body=b"hello\0"), message(2))
        rows = console.query(
            "SELECT src_addr, dst_addr, body, ctype, inc_time, extra_hdrs, callid, status FROM silo"
            " WHERE username = 'bob' AND domain = 'example.com' AND snd_time = 0 ORDER BY id"
        )
        plain = ("sip:alice@example.com", "sip:bob@example.com")
        headers = rf"\x{b'Subject: lunch'.hex()}0d0a"
        assert rows == [
            (*plain, b"hello\0", "text/plain", NOW_S, headers, message(1).callid, 0),
            (*plain, b"message 2", "text/plain", NOW_S, r"\x", message(2).callid, 0),
        ]


class TestOperator:
    async def test_it_waits_for_no_row_that_is_locked(self, store: PostgresStorage, console: Console) -> None:
        locked, free = await append(store, message(1), message(2))
        console.execute("UPDATE silo SET status = 403")
        console.execute(f"BEGIN; SELECT FROM silo WHERE id = {locked} FOR UPDATE")
        with anyio.fail_after(TIMEOUT_S):
            assert (await store.requeue()).done == (free,)
            assert (await store.purge(waiting=True)).done == (free,)
        console.execute("COMMIT")
        assert (await store.purge()).done == (locked,)


class TestRows:
    async def test_one_that_does_not_fit_an_index_fails_alone(self, store: PostgresStorage) -> None:
        # Not to be compressed below the 2,700 octets of an index entry.
        callid = "".join(chr(0x100 + n * 7919 % 20_000) for n in range(4000))
        batch = stores(
            *(message(n) for n in range(10)), message(10, callid=callid), message(11, callid="a\0b"), message(12)
        )
        answers = await store.append(batch)
        assert [answer.token for answer in answers] == [action.token for action in batch]
        assert [type(answer) for answer in answers] == [Stored] * 10 + [StorageFailed] * 2 + [Stored]
        reasons = [answer.reason for answer in answers if isinstance(answer, StorageFailed)]
        assert "index row" in reasons[0]
        assert len(await store.list()) == 11

    async def test_an_owner_that_cannot_be_fails_alone(self, store: PostgresStorage) -> None:
        await append(store, message(1))
        await store.bind([bind(binding())])
        bad = msgspec.structs.replace(BOB, username="b\0b")
        found = await store.look_up([LookUp(1, bad, NOW_S), LookUp(2, BOB, NOW_S)])
        assert [type(answer) for answer in found] == [StorageFailed, LookedUp]
        leased = await store.dump([Dump(1, bad, 9, "one", NOW_MS, NOW_MS), Dump(2, BOB, 9, "one", NOW_MS, NOW_MS)])
        assert [type(answer) for answer in leased] == [StorageFailed, Dumped]
        bound = await store.bind([bind(binding(), owner=bad), bind(cseq=2)])
        assert [type(answer) for answer in bound] == [StorageFailed, Bound]

    @pytest.mark.parametrize("analysed", [False, True], ids=["plans of an empty table", "new plans"])
    async def test_work_does_not_grow_with_the_tables(self, url: str, console: Console, analysed: bool) -> None:
        async with PostgresStorage(url, timeout_s=10) as store:
            # More often than PostgreSQL plans anew before it settles on one plan for all values.
            for _ in range(8):
                await every_kind_of_work(store, weigh=False)
            console.execute(BIG_TABLES)
            if analysed:
                console.execute("ANALYZE silo, silo_location")
            await every_kind_of_work(store, weigh=False)
        # Leaving the store sent its counts.
        assert rows_read(console) < 2000

    async def test_plans_of_a_table_that_was_known_to_be_small_do_not_last(
        self, url: str, console: Console, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lanes, "_PLAN_S", 1)
        async with PostgresStorage(url, timeout_s=10) as store:
            await self.deliver(store, 1)
            console.execute("ANALYZE silo, silo_location")
            await self.deliver(store, 2)
            console.execute(BIG_TABLES)
            await anyio.sleep(1.1)
            await self.deliver(store, 3)
        assert rows_read(console) < 2000

    @staticmethod
    async def deliver(store: Storage, n: int) -> None:
        """Store a message to somebody who is there, try in vain to deliver it, and leave it and where he is."""
        owner = Aor(f"dave{n}", "example.com")
        (number,) = await append(store, message(n, owner=owner))
        await store.bind([bind(binding(), binding("sip:dave@192.0.2.2"), owner=owner)])
        await store.look_up([LookUp(1, owner, NOW_S)])
        await store.dump([Dump(2, owner, 1, "one", NOW_MS, 1000)])
        await store.renew([Renew(3, owner, (number,), "one", 1000)])
        await store.settle([Settle(4, owner, number, "one", Outcome.FAILED, 480)])
        await store.unbind([Unbind(5, owner, "sip:dave@192.0.2.2", 0)])


# 30,000 messages to Bob, of which the oldest third were set aside and the next one are for later; 20,000 to others, of
# which half were for earlier; and a binding for each of those.
BIG_TABLES = f"""
    INSERT INTO silo (username, domain, exp_time, callid, cseq, status, snd_time)
    SELECT 'bob', 'example.com', {NOW_S + 1000}, n, 1, (n <= 10000)::int,
        CASE WHEN n BETWEEN 10001 AND 20000 THEN {NOW_S + 500} ELSE 0 END
    FROM generate_series(1, 30000) AS n;
    INSERT INTO silo (username, domain, exp_time, callid, cseq, snd_time)
    SELECT 'user' || n % 1000, 'example.com', {NOW_S + 1000}, n, 1, CASE WHEN n % 2 = 0 THEN {NOW_S - 1000} ELSE 0 END
    FROM generate_series(1, 20000) AS n;
    INSERT INTO silo_location
    SELECT
        'user' || n, 'example.com', 'sip:x', '', 1, {NOW_S + 1000}, '', 1, '', '', 0, '', 'udp', '', 1, '', 1, 0, '', 0
    FROM generate_series(1, 20000) AS n;
"""


def rows_read(console: Console) -> int:
    """How many entries of indexes and rows of tables were read since the tables were made."""
    ((count,),) = console.query("""
        SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = current_schema)
            + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = current_schema)
    """)
    return int(count)
