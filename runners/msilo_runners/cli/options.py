"""What several commands have in common."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from msilo_core import PeerError, parse_aor
from msilo_runners.errors import SettingsError
from msilo_runners.settings import ServerConfig, Settings, read_settings
from msilo_storage import Storage, TableNames, open_store

__all__ = ["Database", "checked_aor", "database_options", "open_database", "password_option", "username_option"]

password_option = click.option(
    "--password", envvar="MSILO_PASSWORD", show_envvar=True, metavar="P", help="What challenges are answered with."
)

username_option = click.option(
    "--username", metavar="NAME", help="Name to log in by, where it is not the user part of the address."
)


def checked_aor(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Refuse what is no address of record, in an argument or an option that this is the `callback` of."""
    if value is not None:
        try:
            parse_aor(value)
        except PeerError:
            raise click.BadParameter(
                f"{value!r} is no address of record: give one such as sip:bob@example.com"
            ) from None
    return value


class Database(msgspec.Struct, frozen=True):
    """Where the tables are, and what they are called."""

    url: str
    names: TableNames


def database_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a database, and it the parameter `database`."""

    @click.option(
        "--storage",
        "url",
        metavar="URL",
        help=f"Storage URL.  [default: that of --config, or {ServerConfig().storage}]",
    )
    @click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings of the server, for its storage and the names of table and columns.",
    )
    @functools.wraps(command)
    def with_database(*args: Any, url: str | None, config: Path | None, **kwargs: Any) -> None:
        server = (Settings() if config is None else read_settings(config)).server
        database = Database(server.storage if url is None else url, TableNames.of(server.silo))
        command(*args, database=database, **kwargs)

    return with_database


def open_database(database: Database) -> Storage:
    """Return the store of a database, not open yet; a mistyped name must not leave an empty one behind.

    Raises:
        SettingsError: it is in memory, where what a server has is nowhere to be seen, and what is added is lost.
    """
    if database.url == "memory:":
        raise SettingsError("memory: is gone when its program ends: give the URL of a database")
    return open_store(database.url, create=False, names=database.names)
