"""A look into the table ``silo`` past the product: plain SQL through the databases' own drivers."""

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.runners.service import run_msilo

__all__ = ["Row", "execute", "inbox", "init", "setting_of", "wait_until_empty"]

Row: TypeAlias = dict[str, Any]


def setting_of(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Return (backend, URL of an empty store) for a name such as ``trio-postgresql`` or ``asyncio-sqlite``."""
    backend, _, database = name.partition("-")
    if database == "sqlite":
        return backend, f"sqlite:///{tmp_path}/msilo.db"
    url: str = request.getfixturevalue("postgres_url")
    init(url)
    return backend, url


def init(storage: str) -> None:
    """Make the tables, as an operator of PostgreSQL does before the first start."""
    done = run_msilo("db", "init", "--storage", storage)
    assert done.returncode == 0, done.stderr


def inbox(storage: str, owner: str) -> list[Row]:
    """Return the rows of the user `owner`, oldest first."""
    return execute(storage, f"SELECT * FROM silo WHERE username = '{owner}' ORDER BY id")


def wait_until_empty(storage: str, owner: str) -> None:
    """Wait until nothing is left for `owner`: a message is deleted a moment after the phone answered."""
    deadline = time.monotonic() + 10
    while left := inbox(storage, owner):
        assert time.monotonic() < deadline, f"still stored: {left}"
        time.sleep(0.02)


def execute(storage: str, statement: str) -> list[Row]:
    """Run one statement at a storage URL and return its rows."""
    if storage.startswith("sqlite:"):
        with contextlib.closing(sqlite3.connect(storage.removeprefix("sqlite:///"), timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            with connection:
                return [dict(row) for row in connection.execute(statement)]
    return asyncio.run(_execute_postgres(storage, statement))


async def _execute_postgres(storage: str, statement: str) -> list[Row]:
    connection = await asyncpg.connect(storage)
    try:
        return [dict(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()
