"""The databases of servers under test: those that are named, or temporary ones that are gone afterwards.

A PostgreSQL of our own is durable: its settings are PostgreSQL's own.
"""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Final

import anyio

from msilo_storage import create_schema
from tests.postgres import PostgresServer, schema_in

__all__ = ["TEMPORARY_POSTGRES", "TEMPORARY_SQLITE", "empty_postgres", "opened", "postgres_server"]

TEMPORARY_SQLITE: Final = "sqlite:///:temporary:"
TEMPORARY_POSTGRES: Final = "postgresql:///:temporary:"


@contextlib.contextmanager
def opened(url: str, directory: Path) -> Generator[str]:
    """The storage URL of the database that is meant.

    Args:
        url: of a database that is there, or one of the temporary ones.
        directory: for the temporary one.
    """
    if url == TEMPORARY_POSTGRES:
        with postgres_server(url) as server, empty_postgres(server) as own:
            yield own
    else:
        yield url.replace(TEMPORARY_SQLITE, f"sqlite:///{directory}/msilo.db")


@contextlib.contextmanager
def postgres_server(url: str) -> Generator[str]:
    """The URL of a PostgreSQL: the one that is named, or a temporary one."""
    if url == TEMPORARY_POSTGRES:
        with PostgresServer(is_durable=True) as server:
            yield server.url
    else:
        yield url


@contextlib.contextmanager
def empty_postgres(url: str) -> Generator[str]:
    """The storage URL of our empty tables in a schema of their own, which is gone afterwards."""
    with schema_in(url) as own:
        anyio.run(create_schema, own)
        yield own
