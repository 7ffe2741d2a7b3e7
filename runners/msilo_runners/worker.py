"""One worker of ``msilo serve --workers N``: ``python -m msilo_runners.worker NUMBER FD``, begun by its parent.

NUMBER is for those who look at the processes of a machine. FD is its end of a stream to
:class:`msilo_runners.workers.Workers`, by which comes one line of :class:`~msilo_runners.seats.Orders`; lines of
:data:`~msilo_runners.seats.Answer` go back. When the stream ends the worker does: its parent lets it go, or is gone.
"""

import os
import signal
import socket
import sys
from typing import Final

import anyio
import msgspec

from msilo_core import SipError
from msilo_runners.logs import log_to_stderr
from msilo_runners.loop import run
from msilo_runners.routes import load_route
from msilo_runners.seats import Answer, Idle, Orders, Ready, Refused, Seat
from msilo_runners.server import Server

OPERATOR_ERROR: Final = 2


def main() -> None:
    """Be a worker, to the end."""
    # Of a terminal it comes to all; the parent says when this one is to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = socket.socket(fileno=int(sys.argv[2]))
    with parent.makefile("rb") as lines:
        line = lines.readline()
    if not line:
        # The parent died as soon as it had begun this process.
        return
    orders = msgspec.json.decode(line, type=Orders)
    parent.setblocking(False)
    for number in (parent.fileno(), *orders.place.descriptors):
        # Not for what a route of the operator's may start.
        os.set_inheritable(number, False)
    log_to_stderr(prefix=f"worker {orders.place.worker.number}: ")
    try:
        run(_serve, parent, orders, backend=orders.backend)
    except SipError as error:
        _answer(parent, Refused(str(error)))
        sys.exit(OPERATOR_ERROR)


async def _serve(parent: socket.socket, orders: Orders) -> None:
    config = orders.config
    route = load_route(config.route) if config.route else None
    async with Server(config, route, seat=Seat(orders.place)) as server:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            _answer(parent, Ready())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_let_go, parent, tasks.cancel_scope)
                async for _ in signals:
                    tasks.cancel_scope.cancel()
            await server.drain()
            # What comes here may be for another, or for a connection that is here.
            _answer(parent, Idle())
            await anyio.wait_readable(parent)


async def _until_let_go(parent: socket.socket, scope: anyio.CancelScope) -> None:
    """Cancel when the parent is gone: it says nothing more while it lives, and lets no worker go that it needs."""
    await anyio.wait_readable(parent)
    scope.cancel()


def _answer(parent: socket.socket, answer: Answer) -> None:
    # One who does not hear it is gone, which is found out elsewhere.
    try:
        parent.send(msgspec.json.encode(answer) + b"\n")
    except OSError:
        return


if __name__ == "__main__":
    main()
