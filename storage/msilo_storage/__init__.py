"""Messages, bindings and users, kept: in memory, in SQLite, in PostgreSQL, and users in a file."""

from msilo_storage.inspection import Examination, Part
from msilo_storage.operators import Entry, Sweep, Totals
from msilo_storage.protocol import Storage, StorageReport, Users
from msilo_storage.tables import TableNames
from msilo_storage.urls import create_schema, examine, open_store, redact, upgrade_schema
from msilo_storage.userfile import UserFile

__all__ = [
    "Entry",
    "Examination",
    "Part",
    "Storage",
    "StorageReport",
    "Sweep",
    "TableNames",
    "Totals",
    "UserFile",
    "Users",
    "create_schema",
    "examine",
    "open_store",
    "redact",
    "upgrade_schema",
]
