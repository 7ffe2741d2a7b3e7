"""What a database has, compared with what it must have, and what an operator is told of it."""

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from msilo_core.errors import SchemaError
from msilo_core.parameters import COLUMNS
from msilo_storage.protocol import StorageReport
from msilo_storage.tables import (
    DEFAULT_NAMES,
    OUR_COLUMNS,
    SCHEMA_VERSION,
    Dialect,
    Sql,
    TableNames,
    columns_of_tables,
    indexes_of,
    schema_statements,
)

__all__ = [
    "Examination",
    "Found",
    "Part",
    "Progress",
    "check_schema",
    "check_upgradable",
    "examination_of",
    "remedy",
    "statements_needed",
]

Progress: TypeAlias = Callable[[float], None]
"""Takes how much of an upgrade is done, from 0 to 1; it may be called from another thread."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a database has.

    Attributes:
        database: product and version.
        columns: names by table; none for a table that is missing.
        narrow: ``table.column`` of those that cut what Kamailio does not write so long.
        indexes: names of indexes.
        views: tables in whose place a view or the like stands.
        version: what the table ``version`` says of ours; None if that is nothing, or it cannot be read.
        denied: rights that the user of the URL lacks, such as ``INSERT on silo``.
    """

    database: str
    columns: Mapping[str, Collection[str]]
    indexes: Collection[str]
    version: int | None
    narrow: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


class Part(msgspec.Struct, frozen=True):
    """One kind of things that a database must have: how many, and which of them it lacks."""

    count: int
    missing: tuple[str, ...]


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`msilo_storage.examine` found in a database, ready or not.

    Attributes:
        url: the storage URL without a password.
        database: product and version.
        table: name of Kamailio's table.
        version: its version; None if there is none.
        kamailio: columns of Kamailio's.
        ours: columns of ours in the same table.
        tables: all tables.
        indexes: indexes of ours.
        content: what the tables hold; None if they are not ready.
        complaint: what is wrong and what to do about it, in one line; empty if they are ready.
    """

    url: str
    database: str
    table: str
    version: int | None
    kamailio: Part
    ours: Part
    tables: Part
    indexes: Part
    content: StorageReport | None
    complaint: str


def check_schema(url: str, dialect: Dialect, sql: Sql, found: Found) -> None:
    """Compare what a database has with what it must have.

    Args:
        url: the storage URL without a password, for the complaint.
        dialect: of the database.
        sql: names of the table and its columns.
        found: what it has.

    Raises:
        SchemaError: something is missing, of another version or denied; the text names it and the remedy.
    """
    check_upgradable(url, sql.names, found)
    missing = _missing(dialect, sql, found)
    if missing:
        command = "upgrade" if found.columns[sql.names.table] else "init"
        raise SchemaError(f"{url} lacks {', '.join(missing)}: {remedy(command, url, sql.names)}")
    if found.denied:
        raise SchemaError(f"the user of {url} lacks {', '.join(found.denied)}: GRANT it as the owner of the table")
    if found.version is None:
        raise SchemaError(
            f"table {sql.names.table} of {url} has no version, not {SCHEMA_VERSION}: "
            f"{remedy('upgrade', url, sql.names)}"
        )


def check_upgradable(url: str, names: TableNames, found: Found) -> None:
    """Refuse what we can make nothing of: another version of Kamailio's table, or not its table at all.

    Raises:
        SchemaError: so it is; the text says why.
    """
    for view in found.views:
        raise SchemaError(f"{view} of {url} is no table but a view or the like: give db_table another name")
    if found.version not in (None, SCHEMA_VERSION):
        raise SchemaError(
            f"table {names.table} of {url} has version {found.version}, not {SCHEMA_VERSION}: "
            "bring it up to Kamailio's first"
        )
    if missing := _part(names, COLUMNS.values(), found).missing:
        columns = ", ".join(f"{names.table}.{column}" for column in missing)
        raise SchemaError(
            f"{url} lacks column {columns}, which Kamailio has: name it by the parameter sc_… if it has another name"
        )


def examination_of(
    url: str, dialect: Dialect, sql: Sql, found: Found, content: StorageReport | None, complaint: str
) -> Examination:
    """Return what an operator is told."""
    names = sql.names
    indexes = indexes_of(dialect, sql)
    tables = columns_of_tables(names)
    return Examination(
        url=url,
        database=found.database,
        table=names.table,
        version=found.version,
        kamailio=_part(names, COLUMNS.values(), found),
        ours=_part(names, OUR_COLUMNS, found),
        tables=Part(len(tables), tuple(table for table in tables if not found.columns[table])),
        indexes=Part(len(indexes), tuple(index for index in indexes if index not in found.indexes)),
        content=content,
        complaint=complaint,
    )


def statements_needed(dialect: Dialect, sql: Sql, found: Found) -> list[str]:
    """Return the statements that bring a database to ours, none that would change nothing.

    One that changes nothing would still want rights, and lock out whoever uses the table.
    """
    if not _missing(dialect, sql, found) and found.version is not None:
        return []
    altered = {name.split(".")[0] for name in (*_missing_columns(sql.names, found), *found.narrow)}
    # One that is made now gets its other columns then, as Kamailio's does.
    altered |= {table for table, columns in found.columns.items() if not columns}
    existing = {*(table for table, columns in found.columns.items() if columns), *found.indexes}

    def is_needed(statement: str) -> bool:
        match = _MAKES.match(statement)
        if match is None:
            return True
        verb, name = match.groups()
        return name in altered if verb == "ALTER" else name not in existing

    return [statement for statement in schema_statements(dialect, sql) if is_needed(statement)]


_MAKES: Final = re.compile(r'(CREATE|ALTER) (?:UNIQUE )?(?:TABLE|INDEX) (?:IF NOT EXISTS )?"?(\w+)"?')


def _missing(dialect: Dialect, sql: Sql, found: Found) -> list[str]:
    tables = [f"table {table}" for table in columns_of_tables(sql.names) if not found.columns[table]]
    columns = [f"column {name}" for name in _missing_columns(sql.names, found)]
    room = [f"room in column {name}" for name in found.narrow]
    indexes: list[str] = []
    if not tables:
        indexes = [f"index {index}" for index in indexes_of(dialect, sql) if index not in found.indexes]
    return tables + columns + room + indexes


def _missing_columns(names: TableNames, found: Found) -> list[str]:
    return [
        f"{table}.{column}"
        for table, wanted in columns_of_tables(names).items()
        if found.columns[table]
        for column in wanted
        if column not in found.columns[table]
    ]


def _part(names: TableNames, columns: Collection[str], found: Found) -> Part:
    present = found.columns[names.table]
    wanted: Iterable[str] = map(names.column, columns)
    return Part(len(columns), tuple(column for column in wanted if present and column not in present))


def remedy(command: str, url: str, names: TableNames) -> str:
    """Return what to run on a database; `url` has no password."""
    config = "" if names == DEFAULT_NAMES else " --config FILE"
    # As a shell takes it: with several parameters there is a & in it.
    return f"run `msilo db {command} --storage {shlex.quote(url)}{config}`"
