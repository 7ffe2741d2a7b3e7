"""What several commands have in common."""

import click

from msilo_runners.settings import ServerConfig
from msilo_storage import Storage, open_store

__all__ = ["open_database", "password_option", "storage_option", "username_option"]

storage_option = click.option(
    "--storage", "url", default=ServerConfig().storage, show_default=True, metavar="URL", help="Storage URL."
)

password_option = click.option(
    "--password", envvar="MSILO_PASSWORD", show_envvar=True, metavar="P", help="What challenges are answered with."
)

username_option = click.option(
    "--username", metavar="NAME", help="Name to log in by, where it is not the user part of the address."
)


def open_database(url: str) -> Storage:
    """Return the store of a URL, not open yet; a mistyped name must not leave an empty database behind."""
    return open_store(url, create=False)
