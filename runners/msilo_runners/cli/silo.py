"""``msilo silo``: the messages that are kept, for an operator."""

import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import anyio
import click
import msgspec

from msilo_core import Message, parse_aor
from msilo_runners.cli.options import Database, checked_aor, database_options, open_database
from msilo_runners.cli.records import body_fields, print_json
from msilo_runners.errors import SettingsError
from msilo_runners.logs import printable
from msilo_runners.loop import run
from msilo_storage import Entry, Storage, Sweep, Totals

__all__ = ["silo"]

PAGE_MESSAGES: Final = 500
"""Messages read at a time, so that a list of a million needs no more memory than one of a thousand."""

NUMBER_MAX: Final = 2**63 - 1
"""The highest number that a database can give a message."""

HEX_OCTETS: Final = 256
"""Of a body that is no text, shown to people; ``--json`` has it whole."""

NAMED_MAX: Final = 10
"""Numbers in a complaint, which is one line."""


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return the seconds of a text such as ``7d``."""
    if value is None:
        return None
    found = re.fullmatch("([0-9]{1,9})([smhdw])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration: give a number with s, m, h, d or w, such as 7d")
    return int(found[1]) * _UNITS_S[found[2]]


_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_number = click.IntRange(1, NUMBER_MAX)
_numbers = click.argument("numbers", metavar="[ID]...", nargs=-1, type=_number)
_owner = click.option("--owner", metavar="AOR", callback=checked_aor, help="Whose inbox, such as sip:bob@example.com.")
_json_line = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def silo() -> None:
    """Look at the messages that are kept, and at those that were set aside."""


@silo.command("list")
@database_options
@_owner
@click.option("--dead", is_flag=True, help="Those that were set aside, instead of those that wait.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many; all if not given.")
@click.option(
    "--after", type=click.IntRange(0, NUMBER_MAX), default=0, metavar="ID", help="Only those behind this one."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each message.")
def list_messages(
    database: Database, owner: str | None, dead: bool, limit: int | None, after: int, as_json: bool
) -> None:
    """List messages, oldest first, without their bodies."""
    run(_list, database, owner, dead, limit, after, as_json)


@silo.command()
@click.argument("number", metavar="ID", type=_number)
@database_options
@_json_line
def show(database: Database, number: int, as_json: bool) -> None:
    """Show one message, with all that is known of it."""
    entry = run(_find, database, number)
    if entry is None:
        raise SettingsError(f"there is no message {number}: see 'msilo silo list', with --dead and without")
    if as_json:
        print_json({**_fields(entry.message), **_more_fields(entry), **body_fields(entry.message.body)})
        return
    for line in _lines(entry):
        click.echo(printable(line))


@silo.command()
@_numbers
@database_options
@_owner
@click.option("--all", "of_all", is_flag=True, help="Of all owners.")
@_json_line
def requeue(database: Database, numbers: tuple[int, ...], owner: str | None, of_all: bool, as_json: bool) -> None:
    """Let messages that were set aside wait for delivery again, as if they had never been tried.

    Those that have expired stay as they are.
    """
    if bool(numbers) + (owner is not None) + of_all != 1:
        raise click.UsageError("which messages? Give their numbers, or --owner, or --all")

    def call(store: Storage) -> Callable[..., Awaitable[Sweep]]:
        return partial(store.requeue, numbers or None, owner=owner)

    swept = run(_sweep, database, numbers, call)
    swept.report("requeued", "expired", as_json)
    swept.complain("not set aside")


@silo.command()
@_numbers
@database_options
@_owner
@click.option("--older-than", "age_s", callback=_seconds, metavar="DURATION", help="Arrived before, such as 7d or 12h.")
@click.option("--all", "of_all", is_flag=True, help="Of all owners.")
@click.option("--waiting", is_flag=True, help="Also those that wait for delivery.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json_line
def purge(
    database: Database,
    numbers: tuple[int, ...],
    owner: str | None,
    age_s: int | None,
    of_all: bool,
    waiting: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete messages that were set aside, for good.

    Those that a server delivers at this moment stay as they are.
    """
    if bool(numbers) + (owner is not None or age_s is not None) + of_all != 1:
        raise click.UsageError("which messages? Give their numbers, or --owner and --older-than, or --all")
    before_s = None if age_s is None else max(int(time.time()) - age_s, 0)
    if not numbers and not yes:
        _confirm(owner, before_s, waiting)

    def call(store: Storage) -> Callable[..., Awaitable[Sweep]]:
        return partial(store.purge, numbers or None, owner=owner, received_before_s=before_s, waiting=waiting)

    swept = run(_sweep, database, numbers, call)
    swept.report("purged", "being_delivered", as_json)
    swept.complain("waiting, add --waiting")


@silo.command()
@database_options
@_owner
@_json_line
def stats(database: Database, owner: str | None, as_json: bool) -> None:
    """Count what is kept. Without --owner the whole table is read."""
    totals = run(_stats, database, owner)
    age_s = max(int(time.time()) - totals.oldest_inc_time_s, 0)
    if as_json:
        print_json(_totals_fields(totals, age_s))
        return
    click.echo(f"waiting: {totals.waiting}, {totals.deferred} of them deferred")
    if totals.oldest_inc_time_s:
        click.echo(f"oldest: {_utc(totals.oldest_inc_time_s)}, {_age(age_s)} ago")
    click.echo(f"being delivered: {totals.leased}")
    if totals.taken:
        click.echo(f"kept for late devices: {totals.taken}")
    click.echo(f"set aside: {totals.dead}")
    for status, count in totals.dead_by_status.items():
        click.echo(f"    with {status}: {count}")
    click.echo(f"octets of bodies: {totals.body_bytes}")
    if owner is None:
        click.echo("owners with the most:")
        for most, count in totals.owners:
            click.echo(printable(f"    {most}: {count}"))


# Work


async def _list(
    database: Database, owner: str | None, dead: bool, limit: int | None, after: int, as_json: bool
) -> None:
    left = NUMBER_MAX if limit is None else limit
    async with open_database(database) as store:
        while page := await store.list(owner, after=after, limit=min(left, PAGE_MESSAGES), dead=dead):
            for message in page:
                if as_json:
                    print_json(_fields(message))
                else:
                    click.echo(printable(_row(message)))
            after = page[-1].message_id
            left -= len(page)


async def _find(database: Database, number: int) -> Entry | None:
    async with open_database(database) as store:
        return await store.find(number)


async def _stats(database: Database, owner: str | None) -> Totals:
    async with open_database(database) as store:
        return await store.stats(owner)


class _Swept(msgspec.Struct):
    """What became of the messages that were meant.

    Attributes:
        done: how many it was done to.
        left: how many stay as they are.
        unknown: numbers that were given and are no message's.
        others: numbers that were given, of messages that it is not done to.
    """

    done: int = 0
    left: int = 0
    unknown: list[int] = msgspec.field(default_factory=list[int])
    others: list[int] = msgspec.field(default_factory=list[int])

    def report(self, done: str, left: str, as_json: bool) -> None:
        """Say how many, in the words for those that it was done to and those that stay."""
        if as_json:
            print_json({done: self.done, left: self.left})
        else:
            stay = f"; {self.left} stay: {left.replace('_', ' ')}" if self.left else ""
            click.echo(f"{self.done} {done}{stay}")

    def complain(self, why_not: str) -> None:
        """Raise SettingsError if one that was named was not found, or is not one that it is done to."""
        complaints: list[str] = []
        if self.unknown:
            complaints.append(f"there is no message {_some(self.unknown)}: see 'msilo silo list --dead'")
        if self.others:
            complaints.append(f"{why_not}: {_some(self.others)}")
        if complaints:
            raise SettingsError("; ".join(complaints))


async def _sweep(
    database: Database, numbers: tuple[int, ...], call_of: Callable[[Storage], Callable[..., Awaitable[Sweep]]]
) -> _Swept:
    swept = _Swept()
    missed = {*numbers}
    async with open_database(database) as store:
        call, after = call_of(store), 0
        while True:
            begun_s = time.monotonic()
            page = await call(after=after)
            swept.done += len(page.done)
            swept.left += len(page.left)
            missed.difference_update(page.done, page.left)
            if page.after is None:
                break
            after = page.after
            if sys.stderr.isatty():
                click.echo(f"\r{swept.done}", nl=False, err=True)
            # Half of the time is for the server: SQLite lets one write, and he who asks again at once gets the turn.
            await anyio.sleep(time.monotonic() - begun_s)
        if swept.done and sys.stderr.isatty():
            click.echo("\r", nl=False, err=True)
        for number in sorted(missed):
            (swept.unknown if await store.find(number) is None else swept.others).append(number)
    return swept


def _confirm(owner: str | None, before_s: int | None, waiting: bool) -> None:
    what = "all that was set aside" + (" or waits" if waiting else "")
    of_owner = "" if owner is None else f" of {parse_aor(owner)}"
    before = "" if before_s is None else f" and arrived before {_utc(before_s)}"
    if not sys.stdin.isatty():
        raise click.UsageError(f"nobody can be asked whether to delete {what}{of_owner}{before}: add --yes")
    click.confirm(printable(f"Delete {what}{of_owner}{before}?"), abort=True, err=True)


# Words


def _fields(message: Message) -> dict[str, Any]:
    return {
        "id": message.message_id,
        "owner": str(message.owner),
        "from": message.src_addr,
        "to": message.dst_addr,
        "received": _utc(message.inc_time_s),
        "expires": _utc(message.exp_time_s),
        "deferred_to": _time_or_none(message.snd_time_s),
        "content_type": message.ctype,
        "body_bytes": len(message.body),
        "call_id": message.callid,
        "attempts": message.attempts,
        "next_time": _time_or_none(message.next_time_s),
        "status": message.status,
        "reason": message.reason,
    }


def _more_fields(entry: Entry) -> dict[str, Any]:
    message = entry.message
    return {
        "last_status": entry.last_status,
        "lease_node": entry.lease_node,
        "lease_until": _time_or_none(entry.lease_until_ms // 1000),
        "repeats": entry.repeats,
        "cseq": message.cseq,
        "from_header": message.from_hdr,
        "to_header": message.to_hdr,
        "date_header": message.date_hdr,
        "headers": message.extra_hdrs,
    }


def _totals_fields(totals: Totals, age_s: int) -> dict[str, Any]:
    return {
        "waiting": totals.waiting,
        "deferred": totals.deferred,
        "being_delivered": totals.leased,
        "kept_for_late_devices": totals.taken,
        "dead": totals.dead,
        "dead_by_status": {str(status): count for status, count in totals.dead_by_status.items()},
        "oldest": _time_or_none(totals.oldest_inc_time_s),
        "oldest_age_s": age_s if totals.oldest_inc_time_s else None,
        "body_bytes": totals.body_bytes,
        "owners": [{"owner": str(owner), "messages": count} for owner, count in totals.owners],
    }


def _row(message: Message) -> str:
    row = f"{message.message_id:>8}  {_utc(message.inc_time_s)}  {message.src_addr} -> {message.owner}"
    row += f"  {message.ctype or '-'}, {len(message.body)} octets"
    if message.status:
        return f"{row}  [{message.status} {message.reason}]"
    if message.snd_time_s:
        row += f"  deferred to {_utc(message.snd_time_s)}"
    if message.attempts:
        row += f"  tried {message.attempts}: {message.reason}"
    return row


def _lines(entry: Entry) -> Iterator[str]:
    message = entry.message
    yield f"message: {message.message_id}"
    yield f"state: {_state(entry)}"
    yield f"owner: {message.owner}"
    yield f"from: {message.src_addr}"
    yield f"to: {message.dst_addr}"
    yield f"received: {_utc(message.inc_time_s)}"
    yield f"expires: {_utc(message.exp_time_s)}"
    yield f"attempts: {message.attempts}"
    if entry.last_status or message.reason:
        yield f"last answer: {entry.last_status or 'none'} {message.reason}".rstrip()
    if message.status in (0, 200):
        yield f"next attempt: {_time_or_none(message.next_time_s) or 'at the next REGISTER'}"
    yield f"repeats: {entry.repeats}"
    yield f"Call-ID: {message.callid}"
    yield "headers:"
    own = (("From", message.from_hdr), ("To", message.to_hdr), ("Date", message.date_hdr))
    for name, value in (*own, ("Content-Type", message.ctype)):
        if value:
            yield f"    {name}: {value}"
    for line in message.extra_hdrs.removesuffix("\r\n").split("\r\n") if message.extra_hdrs else ():
        yield f"    {line}"
    yield f"body: {len(message.body)} octets"
    yield from _body_lines(message.body)


def _state(entry: Entry) -> str:
    message = entry.message
    if message.status not in (0, 200):
        return f"set aside with {message.status} {message.reason}".rstrip()
    if entry.lease_node:
        return f"being delivered by {entry.lease_node}, until {_utc(entry.lease_until_ms // 1000)}"
    if message.status:
        return f"delivered, kept for late devices; {len(message.taken_by.split())} need it no more"
    if message.snd_time_s:
        return f"deferred to {_utc(message.snd_time_s)}"
    return "waits"


def _body_lines(body: bytes) -> Iterator[str]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        for start in range(0, min(len(body), HEX_OCTETS), 16):
            yield f"    {body[start : min(start + 16, HEX_OCTETS)].hex(' ')}"
        if len(body) > HEX_OCTETS:
            yield f"    and {len(body) - HEX_OCTETS} more: --json has all"
    else:
        for line in text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else ():
            yield f"    {line}"


def _some(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - NAMED_MAX} more" if len(numbers) > NAMED_MAX else ""
    return ", ".join(map(str, numbers[:NAMED_MAX])) + more


def _age(age_s: int) -> str:
    for unit, word in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if age_s >= 2 * unit:
            return f"{age_s // unit} {word}"
    return f"{age_s} s"


def _time_or_none(unix_s: int) -> str | None:
    return _utc(unix_s) if unix_s else None


def _utc(unix_s: int) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
    except (OverflowError, ValueError, OSError):
        # Not from us: further than a calendar goes.
        return str(unix_s)
