"""``msilo serve``."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import click
import msgspec

from msilo_core import WORKERS_MAX
from msilo_runners.logs import log_to_stderr
from msilo_runners.loop import run
from msilo_runners.routes import load_route
from msilo_runners.server import Server
from msilo_runners.settings import Backend, Role, ServerConfig, Settings, read_settings, with_parameters
from msilo_runners.workers import Workers

__all__ = ["serve"]

END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings in TOML; options win.")
@click.option("--listen", multiple=True, metavar="URI", help="Such as udp://127.0.0.1:5060; may be repeated.")
@click.option("--storage", metavar="URL", help="sqlite:///FILE, postgresql://… or memory:")
@click.option("--role", type=click.Choice(["server", "silo"]), help="silo: beside a proxy.")
@click.option("--backend", type=click.Choice(["asyncio", "trio"]), help="Event loop.")
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that share the port.",
)
@click.option("--domain", multiple=True, metavar="NAME", help="A domain that is ours; any if none is given.")
@click.option("--trust", multiple=True, metavar="CIDR", help="A network that is believed, instead of loopback.")
@click.option("--users", metavar="store|FILE", help="Who logs in with a password: the store's users, or a file's.")
@click.option("--set", "assignments", multiple=True, metavar="PARAM=VALUE", help="A parameter of msilo.")
@click.option("--route", metavar="MODULE:CLASS", help="Route functions of your own, instead of those of the role.")
@click.option("--grace", type=float, metavar="SECONDS", help="Time to finish what is under way at the end.")
def serve(
    config: Path | None,
    listen: tuple[str, ...],
    storage: str | None,
    role: Role | None,
    backend: Backend | None,
    workers: int,
    domain: tuple[str, ...],
    trust: tuple[str, ...],
    users: str | None,
    assignments: tuple[str, ...],
    route: str | None,
    grace: float | None,
) -> None:
    """Run the server: registrar, MESSAGE relay and silo in one.

    Without options: udp and tcp on 127.0.0.1:5060, for this machine only, stored in msilo.db here.
    """
    settings = read_settings(config) if config is not None else Settings()
    given: dict[str, Any] = {
        "listen": listen or None,
        "storage": storage,
        "role": role,
        "domains": domain or None,
        "trusted": trust or None,
        "users": users,
        "route": route,
        "grace_s": grace,
        "silo": with_parameters(settings.server.silo, assignments) if assignments else None,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    log_to_stderr()
    server = msgspec.structs.replace(settings.server, **changes)
    backend = backend or settings.backend
    if workers > 1:
        run(_serve_together, server, workers, backend, backend=backend)
    else:
        run(_serve, server, backend=backend)


async def _serve(config: ServerConfig) -> None:
    async with Server(config, load_route(config.route) if config.route else None) as server:
        with anyio.open_signal_receiver(*END_SIGNALS) as signals:
            _say_ready(server.addresses)
            async for _ in signals:
                break
        # A second signal is for an operator who does not want to wait.
        for number in END_SIGNALS:
            signal.signal(number, signal.SIG_DFL)


async def _serve_together(config: ServerConfig, workers: int, backend: Backend) -> None:
    await Workers(config, workers, backend).run(_say_ready)


def _say_ready(addresses: Sequence[str]) -> None:
    click.echo(f"ready: {' '.join(addresses)}")
