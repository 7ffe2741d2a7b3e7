"""From a URL to a store, and what an operator is told when that fails."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from msilo_core.errors import LocalError, SchemaError
from msilo_storage import create_schema, open_store, redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "memory:"),
        ("sqlite:////var/lib/msilo.db", "sqlite:////var/lib/msilo.db"),
        ("postgresql://alice@db.example.com/msilo", "postgresql://alice@db.example.com/msilo"),
        ("postgresql://alice:s3cret@db.example.com/msilo", "postgresql://alice:***@db.example.com/msilo"),
        ("postgres://alice:s3cret@a:5432,b:5433/msilo?x=y", "postgres://alice:***@a:5432,b:5433/msilo?x=y"),
        ("postgresql://alice:@db/msilo", "postgresql://alice:***@db/msilo"),
        ("postgresql://:s3cret@db/msilo", "postgresql://:***@db/msilo"),
        ("postgresql://db/msilo?password=s3cret&user=alice", "postgresql://db/msilo?password=***&user=alice"),
        ("postgresql://db/msilo?x=y&PASSWORD=s3cret", "postgresql://db/msilo?x=y&PASSWORD=***"),
        ("postgresql://db/msilo?sslpassword=s3cret", "postgresql://db/msilo?sslpassword=***"),
        # Characters that ought to be escaped: too much is hidden rather than too little.
        ("postgresql://alice:s3/cr?et@db/msilo", "postgresql://alice:***@db/msilo"),
        ("postgresql://alice:s3@cret@db/msilo", "postgresql://alice:***@db/msilo"),
        ("postgresql://db:5432/msilo?user=alice@site", "postgresql://db:***@site"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert "s3" not in redact(url)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "memory:, sqlite:///relative.db"),
        ("mysql://alice:s3cret@db/msilo", r"mysql://alice:\*\*\*@db/msilo' is not a storage URL"),
        ("memory", "is not a storage URL"),
        ("postgresql:msilo", "is not a storage URL"),
        ("msilo.db", "is not a storage URL"),
        ("sqlite:msilo.db", "names no file"),
        ("sqlite://msilo.db", "names no file: give sqlite:///relative.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "give memory:"),
    ],
)
def test_what_is_no_storage_url(url: str, complaint: str) -> None:
    with pytest.raises(LocalError, match=complaint) as caught:
        open_store(url)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("password", ["s3/cret", "s3#cret", "s3?cret", "s3@cret"])
async def test_what_must_be_escaped_in_a_password(password: str) -> None:
    with pytest.raises(LocalError, match="in a name or a password write %40, %2F, %3F and %23") as caught:
        async with open_store(f"postgresql://alice:{password}@127.0.0.1:1/msilo"):
            pass
    assert "s3" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_what_the_driver_does_not_know() -> None:
    with pytest.raises(LocalError, match=r"sslmode.*: mend the URL postgresql://alice:\*\*\*@127\.0\.0\.1:1/msilo"):
        async with open_store("postgresql://alice:s3cret@127.0.0.1:1/msilo?sslmode=perhaps"):
            pass


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without_asyncpg(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "asyncpg" else find_spec(name, package)

    monkeypatch.setattr("msilo_storage.urls.find_spec", without_asyncpg)
    with pytest.raises(LocalError, match=r"pip install 'msilo\[postgres\]'"):
        open_store("postgresql://db/msilo")


async def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("sqlite:///msilo.db") as store:
        assert (await store.check()).url == "sqlite:///msilo.db"
    assert (tmp_path / "msilo.db").exists()


async def test_schema_of_an_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'msilo.db'}"
    with pytest.raises(SchemaError, match="run `msilo db init"):
        async with open_store(url, create=False):
            pass
    assert not (tmp_path / "msilo.db").exists()
    await create_schema(url)
    async with open_store(url, create=False) as store:
        assert (await store.check()).messages == 0


async def test_schema_in_memory() -> None:
    await create_schema("memory:")
