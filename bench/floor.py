"""What the machine allows at the moment: rows that PostgreSQL stores in batches, and datagrams there and back."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Generator
from typing import Final

import anyio
import asyncpg

from bench.servers import Server, UdpProcess
from bench.setting import Setting

__all__ = ["echo", "insert_rate"]

_TABLE: Final = "bench_raw"

# As wide as a row of a usual message in the table `silo`, with the same two ways to find it.
_CREATE: Final = f"""
    CREATE TABLE {_TABLE} (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, src_addr text, dst_addr text, username text, domain text,
        inc_time integer, exp_time integer, ctype text, body bytea, extra_hdrs text, callid text, cseq integer,
        from_tag text
    );
    CREATE INDEX ON {_TABLE} (username, domain);
    CREATE UNIQUE INDEX ON {_TABLE} (username, domain, callid, cseq, from_tag)
"""
_INSERT: Final = f"""
    INSERT INTO {_TABLE} (
        src_addr, dst_addr, username, domain, inc_time, exp_time, ctype, body, extra_hdrs, callid, cseq, from_tag
    )
    SELECT 'sip:alice@example.com', 'sip:' || username || '@example.com', username, 'example.com', 1795391912,
        1795651112, 'text/plain;charset=utf-8', body, 'User-Agent: bench', callid, 1, 'a0b1c2d3'
    FROM unnest($1::text[], $2::bytea[], $3::text[]) AS row (username, body, callid)
    RETURNING id
"""


def insert_rate(url: str, *, batch: int, body_bytes: int, rows: int) -> float:
    """Return how many rows PostgreSQL stores in a second, one connection, a commit for each batch.

    Args:
        url: of its database.
        batch: rows in a statement.
        body_bytes: of a row.
        rows: how many to store, about.
    """
    return anyio.run(_insert, url, batch, body_bytes, rows)


async def _insert(url: str, batch: int, body_bytes: int, rows: int) -> float:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_CREATE)
        insert = await connection.prepare(_INSERT)
        bodies = [b"x" * body_bytes] * batch
        batches = max(1, rows // batch)
        began_s = time.perf_counter()
        for number in range(batches):
            first = number * batch
            users = [f"user{(first + at) % 1_000:06}" for at in range(batch)]
            await insert.fetch(users, bodies, [f"{first + at:08x}@client.example.com" for at in range(batch)])
        elapsed_s = time.perf_counter() - began_s
        await connection.execute(f"DROP TABLE {_TABLE}")
    finally:
        await connection.close()
    return batches * batch / elapsed_s


@contextlib.contextmanager
def echo(setting: Setting) -> Generator[Server]:
    """A server that answers each datagram with itself, and does nothing else: what a Python process can do at most."""
    del setting
    with subprocess.Popen(
        [sys.executable, "-m", "bench.echo_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield UdpProcess(process.pid, ("127.0.0.1", int(process.stdout.readline())))
        finally:
            process.kill()
