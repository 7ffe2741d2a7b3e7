"""The tables that a database must have, and what an operator is told when it has not."""

from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import Final, Literal

from msilo_core.errors import SchemaError
from msilo_storage.rows import BINDING_COLUMNS, MESSAGE_COLUMNS, NEW_USER_COLUMNS

__all__ = ["SCHEMA_VERSION", "TABLES", "check_schema", "schema_script"]

SCHEMA_VERSION: Final = 8
"""Version of the table ``silo`` in Kamailio's table ``version``; ours has all its columns and its meaning."""

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "silo": (*MESSAGE_COLUMNS, "repeats", "last_status", "next_time", "lease_node", "lease_until"),
    "silo_location": BINDING_COLUMNS,
    "subscriber": NEW_USER_COLUMNS,
    "version": ("table_name", "table_version"),
}
"""Every table, with the columns that it must have."""


def check_schema(url: str, columns: Mapping[str, Collection[str]], version: int | None) -> None:
    """Compare what a database has with what it must have.

    Args:
        url: the storage URL without a password, for the complaint.
        columns: names by table; none for a table that is missing.
        version: what the table ``version`` says of ``silo``; None if that is nothing, or there is no such table.

    Raises:
        SchemaError: something is missing or of another version; the text names it and the remedy.
    """
    missing: list[str] = []
    for table, wanted in TABLES.items():
        present = columns[table]
        if not present:
            missing.append(f"table {table}")
        else:
            missing += (f"column {table}.{column}" for column in wanted if column not in present)
    if missing:
        raise SchemaError(f"{url} lacks {', '.join(missing)}: run `msilo db init --storage {url}`")
    if version != SCHEMA_VERSION:
        found = "no version" if version is None else f"version {version}"
        raise SchemaError(f"table silo of {url} has {found}, not {SCHEMA_VERSION}: bring it up to Kamailio's first")


def schema_script(dialect: Literal["postgres", "sqlite"]) -> str:
    """Return the SQL that makes what is missing."""
    return files("msilo_storage").joinpath("schema", f"{dialect}.sql").read_text(encoding="utf-8")
