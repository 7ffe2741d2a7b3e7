"""MSILO.md section 1: the table `silo`, as plain SQL finds it after MESSAGEs came."""

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from msilo_core import Config, Outcome, SiloConfig, Store
from msilo_core.route import Route
from msilo_storage import create_schema, open_store
from tests.core.wire import crlf
from tests.core.world import EPOCH_MS, World, message, status_of
from tests.postgres import Console
from tests.silo.test_section5_reminders import Deferring
from tests.storage.values import dump, settle

NOW_S: Final = EPOCH_MS // 1000

COLUMNS: Final = (
    "id", "src_addr", "dst_addr", "username", "domain", "inc_time", "exp_time", "snd_time", "ctype", "body",
    "extra_hdrs", "callid", "status",
)  # fmt: skip

REQUEST: Final = (
    crlf("""
    MESSAGE sip:b%6Fb@EXAMPLE.com;user=ip SIP/2.0
    Via: SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bKtable
    Max-Forwards: 70
    From: "Alice, of A" <sip:alice@example.com;x=y>;tag=f1
    To: Bob <sip:bobby@example.net>
    Call-ID: a84b4c76e66710@192.0.2.4
    CSeq: 1 MESSAGE
    Route: <sip:127.0.0.1;lr>
    Subject: caf\u00e9
    Date: Mon, 21 Sep 2026 14:13:20 GMT
    Authorization: Digest username="alice"
    Expires: 600
    P-Asserted-Identity: <sip:alice@example.com>
    Privacy: none
    X-Folded: one
      two
    Content-Type: text/plain;charset=utf-8
    Content-Length: 6

    """)
    + b"\0\xff\r\n'\\"
)
HEADERS: Final = (
    "Subject: caf\u00e9\r\nExpires: 600\r\nP-Asserted-Identity: <sip:alice@example.com>\r\nPrivacy: none\r\n"
    "X-Folded: one\r\n  two\r\n"
).encode()


class Database:
    """One that Kamailio and we may share, empty at first.

    Attributes:
        url: for our store.
        query: carries out a statement as any other program does, and returns the rows.
        is_postgres: which of the two it is.
    """

    def __init__(self, url: str, query: Callable[[str], list[tuple[Any, ...]]]) -> None:
        self.url = url
        self.query = query
        self.is_postgres = url.startswith("postgres")
        anyio.run(create_schema, url)

    def keep(self, *requests: bytes, config: SiloConfig | None = None, route: Route | None = None) -> None:
        """Let MESSAGEs come to a server that stores here."""
        world = World(Config(silo=config if config is not None else SiloConfig()), route=route)
        world.hold = {Store}
        for request in requests:
            assert world.datagram(request) == []
        for completion in anyio.run(self._append, [*world.held]):
            (accepted,) = world.carry_out(world.engine.complete(completion, world.now))
            assert status_of(accepted) == 202

    def row(self, *, of: str = "{}") -> dict[str, Any]:
        """Return the one row, or of each of its columns this."""
        (row,) = self.query(f"SELECT {', '.join(of.format(column) for column in COLUMNS)} FROM silo")
        return dict(zip(COLUMNS, row, strict=True))

    async def _append(self, stores: list[Store]) -> list[Any]:
        async with open_store(self.url) as store:
            return [*await store.append(stores)]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Database]:
    """One of either kind."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        with Console(url) as console:
            yield Database(url, console.query)
        return
    path = tmp_path / "silo.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield Database(f"sqlite:///{path}", lambda statement: connection.execute(statement).fetchall())


# -- The table ---------------------------------------------------------------------------------------------------------


def test_columns_of_the_original_come_first_in_its_order(database: Database) -> None:
    names = (
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema AND table_name = 'silo'"
        " ORDER BY ordinal_position"
        if database.is_postgres
        else "SELECT name FROM pragma_table_info('silo') ORDER BY cid"
    )
    assert tuple(name for (name,) in database.query(names))[: len(COLUMNS)] == COLUMNS


def test_version_is_the_one_that_kamailio_starts_with(database: Database) -> None:
    assert database.query("SELECT table_version FROM version WHERE table_name = 'silo'") == [(8,)]


def test_rows_of_an_owner_are_found_by_an_index(database: Database) -> None:
    if database.is_postgres:
        # In place of silo_account_idx: the schema says why.
        query = "SELECT attname FROM pg_attribute WHERE attrelid = 'silo_owner_idx'::regclass ORDER BY attnum"
        assert database.query(query) == [("username",), ("domain",), ("id",)]
    else:
        query = "SELECT name FROM pragma_index_info('silo_account_idx') ORDER BY seqno"
        assert database.query(query) == [("username",), ("domain",)]


def test_row_that_names_no_more_than_it_must_gets_the_defaults(database: Database) -> None:
    database.query("INSERT INTO silo (id) VALUES (7)")
    assert database.row() == {
        "id": 7, "src_addr": "", "dst_addr": "", "username": "", "domain": "", "inc_time": 0, "exp_time": 0,
        "snd_time": 0, "ctype": "text/plain", "body": None, "extra_hdrs": None, "callid": "", "status": 0,
    }  # fmt: skip


# -- A row -------------------------------------------------------------------------------------------------------------


def test_each_column_of_a_message(database: Database) -> None:
    database.keep(REQUEST)
    assert database.row() == {
        "id": 1,
        # URIs, without display name and tag.
        "src_addr": "sip:alice@example.com;x=y",
        "dst_addr": "sip:bobby@example.net",
        # The owner, however the Request-URI wrote him.
        "username": "bob",
        "domain": "example.com",
        "inc_time": NOW_S,
        # By its Expires, from its Date.
        "exp_time": NOW_S + 600,
        "snd_time": 0,
        "ctype": "text/plain;charset=utf-8",
        "body": b"\0\xff\r\n'\\",
        # Without those that have a column, those of the hop and credentials.
        "extra_hdrs": rf"\x{HEADERS.hex()}" if database.is_postgres else HEADERS,
        "callid": "a84b4c76e66710@192.0.2.4",
        "status": 0,
    }


def test_each_column_has_its_type(database: Database) -> None:
    database.keep(REQUEST)
    integers = ("id", "inc_time", "exp_time", "snd_time")
    if database.is_postgres:
        # Wider than in the original, which cuts text and ends in 2038. A column of TEXT is one that it decodes.
        kinds = dict.fromkeys(COLUMNS, "character varying") | dict.fromkeys(integers, "bigint")
        assert database.row(of="pg_typeof({})::text") == kinds | {
            "body": "bytea", "extra_hdrs": "text", "status": "integer"
        }  # fmt: skip
    else:
        kinds = dict.fromkeys(COLUMNS, "text") | dict.fromkeys((*integers, "status"), "integer")
        # There Kamailio's driver writes the octets themselves.
        assert database.row(of="typeof({})") == kinds | {"body": "blob", "extra_hdrs": "blob"}


def test_message_with_nothing_but_what_it_must_have(database: Database) -> None:
    database.keep(message(b"").replace(b"Content-Type: text/plain\r\n", b""))
    row = database.row()
    assert (row["ctype"], row["body"]) == ("", b"")
    assert row["extra_hdrs"] == (r"\x" if database.is_postgres else b"")
    assert row["exp_time"] == NOW_S + 259_200


def test_deferred_message(database: Database) -> None:
    config = SiloConfig(snd_time_avp="$avp(due)", expire_time=100)
    database.keep(message(headers="X-Due: 20260921141420\r\n"), config=config, route=Deferring())
    row = database.row()
    assert (row["snd_time"], row["exp_time"], row["inc_time"]) == (NOW_S + 60, NOW_S + 160, NOW_S)


def test_status_of_what_was_set_aside_is_that_of_the_answer(database: Database) -> None:
    async def refuse() -> None:
        async with open_store(database.url) as store:
            await dump(store, now_ms=EPOCH_MS)
            assert await settle(store, 1, Outcome.REFUSED, status=415)

    database.keep(message())
    anyio.run(refuse)
    assert database.row()["status"] == 415


# -- Several -----------------------------------------------------------------------------------------------------------


def test_numbers_are_the_order_of_arrival_and_of_the_dump(database: Database) -> None:
    async def leased() -> list[tuple[int, bytes]]:
        async with open_store(database.url) as store:
            return [(row.message_id, row.body) for row in (await dump(store, now_ms=EPOCH_MS)).messages]

    texts = [b"%d" % number for number in (3, 1, 2)]
    database.keep(*(message(text, number=int(text)) for text in texts))
    database.keep(message(b"0", number=0))
    rows = database.query("SELECT id, body FROM silo ORDER BY id")
    assert [body for _, body in rows] == [*texts, b"0"]
    assert anyio.run(leased) == rows


def test_number_is_never_given_again(database: Database) -> None:
    database.keep(message(number=1), message(number=2))
    database.query("DELETE FROM silo")
    database.keep(message(number=3))
    assert database.row()["id"] == 3
