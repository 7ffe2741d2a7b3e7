"""Fixtures for all tests: event loops to run in, and a real PostgreSQL."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import schema_in, server_url

# No test is about how fast the machine is at the moment; and the gate tries the same each time.
settings.register_profile(
    "msilo", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("msilo")


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {"strict_exception_groups": True}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """The event loop of an async test: each runs on all."""
    backend: tuple[str, dict[str, object]] = request.param
    return backend


@pytest.fixture(scope="session")
def postgres_server_url() -> Generator[str]:
    """The URL of a running PostgreSQL server, shared by all tests."""
    with server_url() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Generator[str]:
    """The URL of an empty database, of this test alone, on the shared server."""
    with schema_in(postgres_server_url) as url:
        yield url
