"""The tables, what they and their columns are called, and the SQL that makes them."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Final, Literal, Self, TypeAlias

import msgspec

from msilo_core.errors import LocalError
from msilo_core.parameters import COLUMNS, SiloConfig
from msilo_storage.rows import BINDING_COLUMNS, MESSAGE_COLUMNS, NEW_USER_COLUMNS

__all__ = [
    "DEFAULT_NAMES",
    "OUR_COLUMNS",
    "SCHEMA_VERSION",
    "Dialect",
    "Sql",
    "TableNames",
    "columns_of_tables",
    "indexes_of",
    "schema_statements",
]

Dialect: TypeAlias = Literal["postgres", "sqlite"]

SCHEMA_VERSION: Final = 8
"""Version of the table ``silo`` in Kamailio's table ``version``; ours has all its columns and its meaning."""

# What Kamailio's table `version` takes for a name.
_TABLE_NAME_CHARS_MAX: Final = 32

_OTHER_TABLES: Final = ("subscriber", "version")
OUR_COLUMNS: Final = tuple(
    column
    for column in (*MESSAGE_COLUMNS, "repeats", "last_status", "lease_node", "lease_until")
    if column not in COLUMNS.values()
)
"""Those that stand in Kamailio's table beside its own."""


class TableNames(msgspec.Struct, frozen=True):
    """What Kamailio's table and its columns are called, where its parameters ``db_table`` and ``sc_*`` rename them.

    The table of bindings, and the indexes, are named after the table, so that several may lie in one database.

    Attributes:
        table: name of the table, 32 characters at most.

    The other attributes are the columns, each under the name that it has by default.

    Raises:
        LocalError: the table's name is too long, or that of another table.
    """

    table: str = "silo"
    id: str = "id"
    src_addr: str = "src_addr"
    dst_addr: str = "dst_addr"
    username: str = "username"
    domain: str = "domain"
    inc_time: str = "inc_time"
    exp_time: str = "exp_time"
    snd_time: str = "snd_time"
    ctype: str = "ctype"
    body: str = "body"
    extra_hdrs: str = "extra_hdrs"
    callid: str = "callid"
    status: str = "status"

    def __post_init__(self) -> None:
        if len(self.table) > _TABLE_NAME_CHARS_MAX:
            raise LocalError(f"db_table = {self.table!r} is too long: give up to {_TABLE_NAME_CHARS_MAX} characters")
        if self.table.lower() in _OTHER_TABLES:
            raise LocalError(f"db_table = {self.table!r} is another table: give another name")

    @classmethod
    def of(cls, config: SiloConfig) -> Self:
        """Return the names that a silo's parameters give."""
        return cls(config.db_table, *(getattr(config, parameter) for parameter in COLUMNS))

    @property
    def location(self) -> str:
        """Name of the table of bindings."""
        return f"{self.table}_location"

    def column(self, name: str) -> str:
        """Return what a column is called that is `name` by default; our own keep theirs."""
        return name if name in OUR_COLUMNS else str(getattr(self, name))


DEFAULT_NAMES: Final = TableNames()


class Sql:
    """Puts names in statements: ``sql("SELECT {id} FROM {silo}")``, each statement once.

    A statement is written with Kamailio's names: ``{silo}`` is the table, ``{silo_location}`` the bindings',
    ``{silo_owner_idx}`` and the like are indexes, and ``{id}``, ``{username}`` and so on are columns, our own included.
    All are quoted. ``{silo_text}`` is the table's name as a text.
    """

    def __init__(self, names: TableNames) -> None:
        self.names = names
        self._words = _Words(names)
        self._composed: dict[str, str] = {}

    def __call__(self, template: str) -> str:
        """Return a statement with the names in it."""
        composed = self._composed.get(template)
        if composed is None:
            composed = self._composed[template] = template.format_map(self._words)
        return composed


class _Words(dict[str, str]):
    def __init__(self, names: TableNames) -> None:
        super().__init__({"silo": _quoted(names.table), "silo_text": "'" + names.table.replace("'", "''") + "'"})
        self._names = names

    def __missing__(self, word: str) -> str:
        table, underscore, what = word.partition("silo_")
        is_ours = underscore and not table
        self[word] = _quoted(f"{self._names.table}_{what}" if is_ours else self._names.column(word))
        return self[word]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def columns_of_tables(names: TableNames) -> dict[str, tuple[str, ...]]:
    """Return every table, with the columns that it must have."""
    return {
        names.table: (*map(names.column, (*COLUMNS.values(), *OUR_COLUMNS)),),
        names.location: BINDING_COLUMNS,
        "subscriber": NEW_USER_COLUMNS,
        "version": ("table_name", "table_version"),
    }


def schema_statements(dialect: Dialect, sql: Sql) -> Iterator[str]:
    """Yield the statements that make what is missing, in order."""
    statement = ""
    script = files("msilo_storage").joinpath("schema", f"{dialect}.sql").read_text(encoding="utf-8")
    for line in sql(script).splitlines(keepends=True):
        if statement or (line.strip() and not line.startswith("--")):
            statement += line
        # The body of a function stands between two of these.
        if line.endswith(";\n") and statement.count("$$") % 2 == 0:
            yield statement
            statement = ""


def indexes_of(dialect: Dialect, sql: Sql) -> tuple[str, ...]:
    """Return the names of the indexes that the tables must have."""
    made = (_MAKES_INDEX.match(statement) for statement in schema_statements(dialect, sql))
    return tuple(match[1] for match in made if match is not None)


_MAKES_INDEX: Final = re.compile(r'CREATE (?:UNIQUE )?INDEX IF NOT EXISTS "([^"]+)"')
