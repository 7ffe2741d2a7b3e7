"""Messages, bindings and users, kept: in memory, in SQLite, in PostgreSQL, and users in a file."""

from msilo_storage.protocol import Storage, StorageReport, Users
from msilo_storage.urls import create_schema, open_store, redact
from msilo_storage.userfile import UserFile

__all__ = ["Storage", "StorageReport", "UserFile", "Users", "create_schema", "open_store", "redact"]
