"""The tables in SQLite: what is there, and making what is missing of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from msilo_core.errors import SchemaError
from msilo_storage.inspection import Found, Progress, check_upgradable, remedy, statements_needed
from msilo_storage.tables import Sql, TableNames, columns_of_tables, schema_statements

__all__ = ["found_in", "make_schema"]

_NAMES: Final = "SELECT name FROM sqlite_master WHERE type = ?"
_VERSION: Final = "SELECT table_version FROM version WHERE table_name = ?"


def found_in(connection: sqlite3.Connection, names: TableNames) -> Found:
    """Return what a database has."""
    columns = {table: [name for name, _ in _columns(connection, table)] for table in columns_of_tables(names)}
    row = connection.execute(_VERSION, (names.table,)).fetchone() if columns["version"] else None
    views = {name.lower() for (name,) in connection.execute(_NAMES, ("view",))}
    return Found(
        database=f"SQLite {sqlite3.sqlite_version}",
        columns=columns,
        indexes=[name for (name,) in connection.execute(_NAMES, ("index",))],
        views=tuple(table for table in columns if table.lower() in views),
        version=row and row[0],
    )


def make_schema(
    connection: sqlite3.Connection, url: str, sql: Sql, only_existing: bool, progress: Progress | None
) -> None:
    """Make what is missing; tables of Kamailio's get the columns that are ours. To be called in a transaction."""
    names = sql.names
    found = found_in(connection, names)
    if only_existing and not found.columns[names.table]:
        raise SchemaError(f"{url} lacks table {names.table}: {remedy('init', url, names)}")
    check_upgradable(url, names, found)
    statements = [*_columns_to_add(sql, found), *statements_needed("sqlite", sql, found)]
    for place, statement in enumerate(statements, start=1):
        connection.execute(statement)
        if progress is not None:
            progress(place / len(statements))


def _columns_to_add(sql: Sql, found: Found) -> Iterator[str]:
    with closing(sqlite3.connect(":memory:")) as model:
        for statement in schema_statements("sqlite", sql):
            model.execute(statement)
        for table in (sql.names.table, "subscriber"):
            present = found.columns[table]
            for name, definition in _columns(model, table) if present else ():
                if name not in present:
                    yield f'ALTER TABLE "{table}" ADD COLUMN {definition}'


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    """Return (name, definition) of each column; none if there is no such table."""
    columns: list[tuple[str, str]] = []
    for _, name, kind, not_null, default, *_ in connection.execute(f'PRAGMA table_info("{table}")'):
        definition = f'"{name}" {kind}'
        if not_null:
            definition += " NOT NULL"
        if default is not None:
            definition += f" DEFAULT {default}"
        columns.append((name, definition))
    return columns
