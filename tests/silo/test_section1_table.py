"""MSILO.md section 1: the columns of a row, as they stand in the table.

The names of table and columns, and what an upgrade does to Kamailio's own table, are in tests/storage.
"""

from pathlib import Path

import anyio
import pytest

from msilo_core import Config, SiloConfig
from msilo_core.actions import Dump, Dumped, Store
from msilo_storage import open_store
from tests.core.world import EPOCH_MS, World, message
from tests.runners.tables import Row, execute, init
from tests.silo.test_section5_reminders import Deferring

NOW_S = EPOCH_MS // 1000
COLUMNS = (
    "id", "src_addr", "dst_addr", "username", "domain", "inc_time", "exp_time", "snd_time", "ctype", "body",
    "extra_hdrs", "callid", "status",
)  # fmt: skip


def stored(*requests: bytes, silo: SiloConfig | None = None) -> list[Store]:
    """Return what the engine has the store do for these requests."""
    world = World(Config(silo=silo if silo is not None else SiloConfig()), route=Deferring())
    world.hold = {Store}
    for request in requests:
        world.datagram(request)
    return list(world.held)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store with an empty table."""
    is_sqlite = request.param == "sqlite"
    url: str = f"sqlite:///{tmp_path}/msilo.db" if is_sqlite else request.getfixturevalue("postgres_url")
    init(url)
    return url


def written(url: str, stores: list[Store]) -> list[Row]:
    """Have it done, and return the rows, read past the product."""

    async def carry_out() -> None:
        async with open_store(url) as store:
            await store.append(stores)

    anyio.run(carry_out)
    return execute(url, f"SELECT {', '.join(COLUMNS)} FROM silo ORDER BY id")


def hdrs_in(url: str, text: str) -> str | bytes:
    """Return header lines as Kamailio's module for that database writes them, which takes them for a blob."""
    return text.encode() if url.startswith("sqlite:") else f"\\x{text.encode().hex()}"


def test_each_column(url: str) -> None:
    request = message(b"nul \0, and \xff", headers="Subject: lunch\r\nX-Note: Grüße\r\nExpires: 600\r\n")
    request = request.replace(b"Content-Type: text/plain", b"Content-Type: text/plain;charset=utf-8")
    # Whose it is, and who it says it is for, are two things.
    request = request.replace(b"To: <sip:bob@example.com>", b'To: "Team" <sip:team@example.com;user=phone>')
    (row,) = written(url, stored(request))
    assert row == {
        "id": 1,
        "src_addr": "sip:alice@example.com",
        "dst_addr": "sip:team@example.com;user=phone",
        "username": "bob",
        "domain": "example.com",
        "inc_time": NOW_S,
        "exp_time": NOW_S + 600,
        "snd_time": 0,
        "ctype": "text/plain;charset=utf-8",
        "body": b"nul \0, and \xff",
        "extra_hdrs": hdrs_in(url, "Subject: lunch\r\nX-Note: Grüße\r\nExpires: 600\r\n"),
        "callid": "call1@alice.example.com",
        "status": 0,
    }


def test_what_is_empty(url: str) -> None:
    request = message(b"").replace(b"Content-Type: text/plain\r\n", b"")
    (row,) = written(url, stored(request))
    assert (row["ctype"], row["body"], row["extra_hdrs"]) == ("", b"", hdrs_in(url, ""))


def test_deferred(url: str) -> None:
    request = message(headers="X-Due: 20260921141420\r\n")
    silo = SiloConfig(snd_time_avp="$avp(due)", expire_time=60)
    (row,) = written(url, stored(request, silo=silo))
    assert (row["inc_time"], row["snd_time"], row["exp_time"]) == (NOW_S, NOW_S + 60, NOW_S + 120)


def test_ids_ascend_in_the_order_of_arrival(url: str) -> None:
    rows = written(url, stored(*(message(b"%d" % number, number=number) for number in range(5))))
    assert [row["body"] for row in rows] == [b"0", b"1", b"2", b"3", b"4"]
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})

    async def dumped() -> list[bytes]:
        async with open_store(url) as store:
            owner = stored(message())[0].message.owner
            (answer,) = await store.dump([Dump(1, owner, 9, "msilo", EPOCH_MS, EPOCH_MS + 40_000)])
        assert isinstance(answer, Dumped)
        return [one.body for one in answer.messages]

    assert anyio.run(dumped) == [b"0", b"1", b"2", b"3", b"4"]


def test_its_version(url: str) -> None:
    written(url, stored(message()))
    assert execute(url, "SELECT table_version FROM version WHERE table_name = 'silo'") == [{"table_version": 8}]


def test_values_that_kamailio_would_cut(url: str) -> None:
    """Kamailio has 32 characters for the type, and 64 for a user."""
    name = "b" * 200
    content_type = "application/vnd.example.something+json;charset=utf-8;profile=long"
    request = message(to=name).replace(b"text/plain", content_type.encode())
    (row,) = written(url, stored(request))
    assert (row["username"], row["ctype"]) == (name, content_type)
