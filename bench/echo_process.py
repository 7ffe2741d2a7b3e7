"""Datagrams back to where they came from, behind the line of a 200: ``python -m bench.echo_process``.

It says its port in a line on stdout, and ends with its stdin.
"""

import contextlib
import select
import socket
import sys
from typing import Final

__all__: list[str] = []

_STATUS: Final = b"SIP/2.0 200 OK\r\n"
_DRAIN_MAX: Final = 256


def main() -> None:
    """Serve until stdin ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        print(sock.getsockname()[1], flush=True)
        while True:
            readable, _, _ = select.select([sock, sys.stdin], [], [])
            if sys.stdin in readable:
                return
            with contextlib.suppress(BlockingIOError):
                for _ in range(_DRAIN_MAX):
                    data, remote = sock.recvfrom(65_535)
                    sock.sendto(_STATUS + data, remote)


if __name__ == "__main__":
    main()
