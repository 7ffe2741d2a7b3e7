"""Ports that a test gives to a program which cannot choose its own."""

import itertools
import os
import socket
from typing import Final

__all__ = ["free_port"]

# Below those that the kernel gives out by itself, a slice for each process that runs tests at the same time.
_FIRST: Final = 20_000
_SLICE: Final = 500
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Who runs the tests of another copy at the same time begins elsewhere.
_SHIFT: Final = os.getpid() * 37
_ports: Final = itertools.cycle(_FIRST + _WORKER * _SLICE + (_SHIFT + n) % _SLICE for n in range(_SLICE))


def free_port() -> int:
    """Return a port, of UDP and TCP, that nobody has, and that no other test will be given soon."""
    for port in itertools.islice(_ports, _SLICE):
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as one:
                    # Connections that have ended are nobody's.
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
                    one.bind(("", port))
        except OSError:
            continue
        return port
    raise AssertionError(f"no free port in {_SLICE}")
