"""Messages and bindings, kept: in memory, in SQLite, in PostgreSQL."""

from msilo_storage.protocol import Storage, StorageReport
from msilo_storage.urls import create_schema, open_store, redact

__all__ = ["Storage", "StorageReport", "create_schema", "open_store", "redact"]
