"""``msilo config``: settings files."""

import os
from pathlib import Path

import click

from msilo_core import LocalError
from msilo_runners.errors import SettingsError
from msilo_runners.kamailio import import_kamailio, parse_define_option
from msilo_runners.kamailio.zone import machine_zone
from msilo_runners.logs import printable
from msilo_runners.settings import read_settings
from msilo_storage import TableNames, open_store

__all__ = ["config"]


@click.group()
def config() -> None:
    """Look over a settings file, or make one."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
def check(file: Path) -> None:
    """Read FILE as `msilo serve --config FILE` does, and say whether it can be understood.

    Nothing is opened: what is not there, or cannot be reached, only `msilo serve` finds out.
    """
    server = read_settings(file).server
    try:
        # Nothing is opened before it is entered.
        open_store(server.storage, names=TableNames.of(server.silo))
    except LocalError as error:
        raise SettingsError(f"{file}: {error}") from None
    click.echo(f"{printable(str(file))}: ok")


@config.command("import-kamailio")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write here instead of stdout.")
@click.option(
    "-A", "--define", "definitions", multiple=True, metavar="NAME[=VALUE]",
    help="What Kamailio is started with by its -A; may be repeated.",
)  # fmt: skip
def import_kamailio_file(file: Path, output: Path | None, definitions: tuple[str, ...]) -> None:
    """Make settings of FILE, a kamailio.cfg, and print them.

    Whatever could not be carried over is a comment in them. FILE is not changed, and no database is looked at.
    """
    imported = import_kamailio(
        file,
        defines=dict(parse_define_option(text) for text in definitions),
        environ=os.environ,
        zone=machine_zone(os.environ),
    )
    if output is None:
        click.echo(imported.text, nl=False)
    else:
        _write(output, imported.text)
    click.echo(
        printable(f"{file}: {imported.carried} settings carried over, {imported.left} not: see the comments"), err=True
    )


def _write(path: Path, text: str) -> None:
    try:
        # The URL of a database may hold a password.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SettingsError(f"{path} is there already: give another name, or remove it") from None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
