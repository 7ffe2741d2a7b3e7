"""``msilo silo`` and ``msilo db``: what is stored, for an operator."""

import sys
import time
from collections.abc import Callable
from typing import Final

import click

from msilo_core import Message
from msilo_runners.cli.loop import run
from msilo_runners.cli.options import Database, database_options, open_database
from msilo_runners.cli.records import body_fields, print_json
from msilo_runners.errors import SettingsError
from msilo_runners.logs import printable
from msilo_storage import Examination, Part, create_schema, examine, redact, upgrade_schema

__all__ = ["db", "silo"]

PAGE_MESSAGES: Final = 500
"""Messages read at a time, so that a list of a million needs no more memory than one of a thousand."""

BODY_CHARS: Final = 40
"""Of a body in the table for people."""

BAR_LENGTH: Final = 1000
"""Steps of a progress bar."""


@click.group()
def silo() -> None:
    """Look at the messages that are kept."""


@silo.command("list")
@database_options
@click.option("--owner", metavar="AOR", help="Whose inbox, such as sip:bob@example.com; all if not given.")
@click.option("--dead", is_flag=True, help="Those that were set aside, instead of those that wait.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each message.")
def list_messages(database: Database, owner: str | None, dead: bool, as_json: bool) -> None:
    """List messages, oldest first."""
    run(_list, database, owner, dead, as_json)


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


async def _list(database: Database, owner: str | None, dead: bool, as_json: bool) -> None:
    show = _print_json if as_json else _print_row
    async with open_database(database) as store:
        after = 0
        while page := await store.list(owner, after=after, limit=PAGE_MESSAGES, dead=dead):
            for message in page:
                show(message)
            after = page[-1].message_id


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


def _print_json(message: Message) -> None:
    print_json(
        {
            "id": message.message_id,
            "owner": str(message.owner),
            "from": message.src_addr,
            "to": message.dst_addr,
            "received": _utc(message.inc_time_s),
            "expires": _utc(message.exp_time_s),
            "content_type": message.ctype,
            **body_fields(message.body),
            "call_id": message.callid,
            "attempts": message.attempts,
            "status": message.status,
            "reason": message.reason,
        }
    )


def _print_row(message: Message) -> None:
    text = message.body[: 4 * BODY_CHARS].decode("utf-8", "replace")
    cut = printable(text[:BODY_CHARS]) + ("…" if len(text) > BODY_CHARS else "")
    reason = f"  [{message.status} {message.reason}]" if message.status else ""
    row = f"{_utc(message.inc_time_s)}  {message.src_addr} -> {message.owner}  {message.ctype}{reason}"
    click.echo(f"{message.message_id:>8}  {printable(row)}  {cut}")


def _utc(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
