"""Messages as JSON lines, for programs."""

import base64
from typing import Any

import click
import msgspec

__all__ = ["body_fields", "print_json"]


def print_json(record: dict[str, Any]) -> None:
    """Print one object in one line."""
    click.echo(msgspec.json.encode(_encodable(record)))


def body_fields(body: bytes) -> dict[str, str]:
    """Return a body under ``body`` if it is UTF-8, else under ``body_base64``."""
    try:
        return {"body": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode("ascii")}


def _encodable(record: dict[str, Any]) -> dict[str, Any]:
    # Header text keeps octets that are not UTF-8 as lone surrogates, which JSON cannot say.
    return {
        name: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value
        for name, value in record.items()
    }
