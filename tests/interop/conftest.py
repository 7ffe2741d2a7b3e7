"""Kamailio's own table in a database of one test alone."""

import pytest

from tests.interop.kamailio import create_tables, require


@pytest.fixture
def kamailio_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database with Kamailio's table as Debian's scripts make it; skips where Kamailio is missing."""
    require()
    url: str = request.getfixturevalue("postgres_url")
    create_tables(url)
    return url
