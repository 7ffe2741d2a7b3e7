"""``msilo db``: the tables, for an operator."""

import sys
from collections.abc import Callable
from typing import Final

import click

from msilo_runners.cli.options import Database, database_options
from msilo_runners.errors import SettingsError
from msilo_runners.loop import run
from msilo_storage import Examination, Part, create_schema, examine, redact, upgrade_schema

__all__ = ["db"]

BAR_LENGTH: Final = 1000
"""Steps of a progress bar."""


@click.group()
def db() -> None:
    """Prepare a database, and look it over."""


@db.command()
@database_options
def init(database: Database) -> None:
    """Create the tables that are missing; those that exist stay as they are."""
    run(_init, database)
    click.echo(f"{redact(database.url)}: ready")


@db.command()
@database_options
def upgrade(database: Database) -> None:
    """Add to a table that Kamailio made, or an older release, the columns and indexes that it lacks.

    All or nothing. Kamailio waits meanwhile, and goes on using the table.
    """
    if sys.stderr.isatty():
        with click.progressbar(length=BAR_LENGTH, label=redact(database.url), file=sys.stderr) as bar:

            def show(share: float) -> None:
                bar.update(round(BAR_LENGTH * share) - bar.pos)

            run(_upgrade, database, show)
    else:
        run(_upgrade, database, None)
    click.echo(f"{redact(database.url)}: ready")


@db.command()
@database_options
def check(database: Database) -> None:
    """Say what a database has, what it lacks, and what its tables hold."""
    report = run(_examine, database)
    is_there = report.table not in report.tables.missing
    version = "no version" if report.version is None else f"version {report.version}"
    click.echo(f"{report.url}: {report.database}")
    click.echo(f"table {report.table}: {version if is_there else 'missing'}")
    if is_there:
        click.echo(f"columns of Kamailio's: {_shown(report.kamailio)}")
        click.echo(f"columns of ours: {_shown(report.ours)}")
    click.echo(f"tables: {_shown(report.tables)}")
    click.echo(f"indexes: {_shown(report.indexes)}")
    if (content := report.content) is not None:
        click.echo(f"messages: {content.messages} wait, {content.deferred} of them deferred; {content.dead} set aside")
        click.echo(f"bindings: {content.bindings}")
        click.echo(f"users: {content.users}")
    if report.complaint:
        raise SettingsError(report.complaint)


async def _init(database: Database) -> None:
    await create_schema(database.url, names=database.names)


async def _upgrade(database: Database, progress: Callable[[float], None] | None) -> None:
    await upgrade_schema(database.url, names=database.names, progress=progress)


async def _examine(database: Database) -> Examination:
    return await examine(database.url, names=database.names)


def _shown(part: Part) -> str:
    if not part.missing:
        return f"all {part.count}"
    return f"{part.count - len(part.missing)} of {part.count}, without {', '.join(part.missing)}"
