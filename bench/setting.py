"""What a run is about, and the options that say so."""

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from bench.database import TEMPORARY_POSTGRES, TEMPORARY_SQLITE
from bench.requests import BODY_BYTES_MIN
from bench.wire import Address, TransportName
from msilo_core import WORKERS_MAX
from msilo_core.limits import Limits

__all__ = ["Backend", "Setting", "count_option", "setting_options", "target_address"]

Backend: TypeAlias = Literal["asyncio", "trio"]

F = TypeVar("F", bound=Callable[..., Any])

_GENERATORS_MAX: Final = 256


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a command; see their help."""

    backend: Backend
    storage: str
    target: str | None
    transport: TransportName
    domain: str
    count: int
    window: int
    users: int
    body_bytes: int
    processes: int
    batch_limit: int
    workers: int = 1


def count_option(default: int, text: str) -> Callable[[F], F]:
    """Return the option ``--count``."""
    return click.option("--count", type=click.IntRange(min=1), default=default, show_default=True, help=text)


def setting_options(*, users: int, body_bytes_min: int = BODY_BYTES_MIN) -> Callable[[F], F]:
    """Return the other options of a :class:`Setting`, with the defaults of a command."""
    options = [
        click.option(
            "--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True,
            help="The event loop of our server.",
        ),
        click.option(
            "--storage", metavar="URL", default=TEMPORARY_SQLITE, show_default=True,
            help=f"The store of our server, such as {TEMPORARY_POSTGRES} or memory:. Rows stay where it is a database "
            "of yours: give an empty one.",
        ),
        click.option(
            "--target", metavar="URI",
            help="A server that is running, udp://HOST:PORT or tcp://HOST:PORT, instead of one of our own. It must "
            "believe this machine: requests have no credentials.",
        ),
        click.option(
            "--transport", type=click.Choice(["udp", "tcp"]), default="udp", show_default=True,
            help="To our server; by TCP each generator has one connection.",
        ),
        click.option("--domain", default="example.com", show_default=True, help="Of all users."),
        click.option(
            "--window", type=click.IntRange(min=1), default=256, show_default=True, help="Requests under way at once."
        ),
        click.option("--users", type=click.IntRange(1, 1_000_000), default=users, show_default=True, help="How many."),
        click.option(
            "--body-bytes", type=click.IntRange(body_bytes_min, 60_000), default=80, show_default=True,
            help="Length of each body.",
        ),
        click.option(
            "--processes", type=click.IntRange(1, _GENERATORS_MAX), default=1, show_default=True,
            help="Generators, where one is not enough for the server: the line says what they cost.",
        ),
        click.option(
            "--batch-limit", type=click.IntRange(min=1), default=Limits().batch_max, show_default=True,
            help="Most actions in one statement of our server's store (limits.batch_max).",
        ),
        click.option(
            "--workers", type=click.IntRange(1, WORKERS_MAX), default=1, show_default=True,
            help="Processes of our server. The system parts the generators among them by their ports: give a few "
            "--processes for each.",
        ),
    ]  # fmt: skip

    def with_options(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return with_options


def target_address(target: str) -> tuple[TransportName, Address]:
    """Return transport and address of a server that is running.

    Raises:
        click.BadParameter: that is none.
    """
    try:
        where = urlsplit(target)
        port = where.port
    except ValueError:
        where, port = urlsplit(""), None
    if where.scheme in ("udp", "tcp") and where.hostname and port:
        return ("udp" if where.scheme == "udp" else "tcp"), (where.hostname, port)
    raise click.BadParameter(f"{target}: give udp://HOST:PORT or tcp://HOST:PORT", param_hint="--target")
