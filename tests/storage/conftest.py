"""The stores, each empty and of one test alone."""

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from msilo_storage import Storage, create_schema, open_store


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
            anyio.run(create_schema, url)
            return url


@pytest.fixture
async def store(store_url: str) -> AsyncGenerator[Storage]:
    """An open store."""
    async with open_store(store_url, node="one") as store:
        yield store


@pytest.fixture
async def peer(store: Storage, store_url: str) -> AsyncGenerator[Storage]:
    """The same store as another server sees it."""
    if store_url == "memory:":
        yield store
    else:
        async with open_store(store_url, node="two") as peer:
            yield peer
