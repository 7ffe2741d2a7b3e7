"""``msilo user``: who may log in."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import click

from msilo_core import Aor, User, parse_aor
from msilo_runners.cli.options import Database, checked_aor, database_options, open_database
from msilo_runners.cli.records import print_json
from msilo_runners.errors import SettingsError
from msilo_runners.logs import printable
from msilo_runners.loop import run
from msilo_runners.settings import ServerConfig
from msilo_storage import UserFile, Users, redact

__all__ = ["user"]

PAGE_USERS: Final = 500

_file_option = click.option(
    "--file", type=click.Path(path_type=Path), metavar="FILE", help="A file of users instead of the storage."
)


@click.group()
def user() -> None:
    """Say who may log in, by a password."""


@user.command()
@click.argument("aor", metavar="SIP-URI", callback=checked_aor)
@database_options
@_file_option
def add(aor: str, database: Database, file: Path | None) -> None:
    """Add the user of SIP-URI, or give one another password.

    The password is asked for, or read from the first line of stdin where that is no terminal. It is not kept, only what
    Digest computes of it.
    """
    owner = parse_aor(aor)
    is_new = run(_add, User.with_password(owner, _password()), database, file)
    click.echo(f"{owner}: {'added' if is_new else 'changed'}")


@user.command()
@click.argument("aor", metavar="SIP-URI", callback=checked_aor)
@database_options
@_file_option
def remove(aor: str, database: Database, file: Path | None) -> None:
    """Remove the user of SIP-URI."""
    owner = parse_aor(aor)
    if not run(_remove, owner, database, file):
        raise SettingsError(f"{owner} is not a user: see 'msilo user list{_option(database.url, file)}'")
    click.echo(f"{owner}: removed")


@user.command("list")
@database_options
@_file_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each user.")
def list_users(database: Database, file: Path | None, as_json: bool) -> None:
    """List the users, and the algorithms that each can log in by."""
    run(_list, database, file, as_json)


async def _add(new: User, database: Database, file: Path | None) -> bool:
    async with _users(database, file) as users:
        return await users.add_user(new)


async def _remove(owner: Aor, database: Database, file: Path | None) -> bool:
    async with _users(database, file) as users:
        return await users.remove_user(owner)


async def _list(database: Database, file: Path | None, as_json: bool) -> None:
    async with _users(database, file) as users:
        after: Aor | None = None
        while page := await users.list_users(after=after, limit=PAGE_USERS):
            for known in page:
                if as_json:
                    print_json({"user": str(known.owner), "algorithms": list(known.algorithms)})
                else:
                    click.echo(printable(f"{known.owner}  {', '.join(known.algorithms)}"))
            after = page[-1].owner


@asynccontextmanager
async def _users(database: Database, file: Path | None) -> AsyncGenerator[Users]:
    if file is not None:
        yield UserFile(file)
        return
    async with open_database(database) as store:
        yield store


def _option(url: str, file: Path | None) -> str:
    """Return the option that the operator gave to say where the users are, or nothing."""
    if file is not None:
        return f" --file {file}"
    return "" if url == ServerConfig().storage else f" --storage {redact(url)}"


def _password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.buffer.readline().rstrip(b"\r\n").decode("utf-8", "surrogateescape")
    if not password:
        raise SettingsError("no password was given: type one, or give it in the first line of stdin")
    return password
