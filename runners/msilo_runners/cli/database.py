"""``msilo silo`` and ``msilo db``: what is stored, for an operator."""

import time
from typing import Final

import click

from msilo_core import LocalError, Message
from msilo_runners.cli.loop import run
from msilo_runners.cli.options import open_database, storage_option
from msilo_runners.cli.records import body_fields, print_json
from msilo_runners.errors import SettingsError
from msilo_runners.logs import printable
from msilo_storage import StorageReport, create_schema, redact

__all__ = ["db", "silo"]

PAGE_MESSAGES: Final = 500
"""Messages read at a time, so that a list of a million needs no more memory than one of a thousand."""

BODY_CHARS: Final = 40
"""Of a body in the table for people."""


@click.group()
def silo() -> None:
    """Look at the messages that are kept."""


@silo.command("list")
@storage_option
@click.option("--owner", metavar="AOR", help="Whose inbox, such as sip:bob@example.com; all if not given.")
@click.option("--dead", is_flag=True, help="Those that were set aside, instead of those that wait.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each message.")
def list_messages(url: str, owner: str | None, dead: bool, as_json: bool) -> None:
    """List messages, oldest first."""
    run(_list, url, owner, dead, as_json)


@click.group()
def db() -> None:
    """Prepare a database, and look it over."""


@db.command()
@storage_option
def init(url: str) -> None:
    """Create the tables that are missing; those that exist stay as they are."""
    run(_init, url)
    click.echo(f"{redact(url)}: ready")


@db.command()
@storage_option
def check(url: str) -> None:
    """Check the tables, and count what they hold."""
    report = run(_check, url)
    click.echo(
        f"{report.url}: silo version {report.version}, {report.messages} messages wait, {report.dead} set aside, "
        f"{report.bindings} bindings, {report.users} users"
    )


async def _list(url: str, owner: str | None, dead: bool, as_json: bool) -> None:
    show = _print_json if as_json else _print_row
    async with open_database(url) as store:
        after = 0
        while page := await store.list(owner, after=after, limit=PAGE_MESSAGES, dead=dead):
            for message in page:
                show(message)
            after = page[-1].message_id


async def _init(url: str) -> None:
    try:
        await create_schema(url)
    except LocalError as error:
        raise SettingsError(str(error)) from None


async def _check(url: str) -> StorageReport:
    async with open_database(url) as store:
        return await store.check()


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
