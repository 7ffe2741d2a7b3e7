"""The stores, each empty and of one test alone, with a table and columns that have other names than Kamailio's."""

from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import anyio
import pytest

from msilo_storage import Storage, create_schema, open_store
from tests.storage.values import HOSTILE_NAMES


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store with its tables."""
    match request.param:
        case "memory":
            return "memory:"
        case "sqlite":
            return f"sqlite:///{tmp_path / 'msilo.db'}"
        case _:
            url: str = request.getfixturevalue("postgres_url")
            anyio.run(partial(create_schema, url, names=HOSTILE_NAMES))
            return url


@pytest.fixture
async def store(store_url: str) -> AsyncGenerator[Storage]:
    """An open store."""
    async with open_store(store_url, node="one", names=HOSTILE_NAMES) as store:
        yield store


@pytest.fixture
async def peer(store: Storage, store_url: str) -> AsyncGenerator[Storage]:
    """The same store as another server sees it."""
    if store_url == "memory:":
        yield store
    else:
        async with open_store(store_url, node="two", names=HOSTILE_NAMES) as peer:
            yield peer
