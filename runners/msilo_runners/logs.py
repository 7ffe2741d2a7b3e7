"""Log lines: one for each event, none that a peer or an outage can multiply without end."""

import logging
import re
import sys
import time
from typing import Any, Final

__all__ = ["OneLineFormatter", "Throttle", "log_to_stderr", "printable"]

COMPLAINT_INTERVAL_S: Final = 10.0
"""Time between two lines about one trouble: seldom enough for a disk, often enough to see that it lasts."""

# C0 and C1 controls, DEL, and what Unicode breaks lines or turns the writing direction at.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return `text` in one line, with what could steer a terminal or hide itself shown as an escape."""
    escaped = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


class Throttle:
    """Admits one event in :data:`COMPLAINT_INTERVAL_S` seconds."""

    __slots__ = ("_admitted_s",)

    def __init__(self) -> None:
        self._admitted_s = -COMPLAINT_INTERVAL_S

    def admit(self) -> bool:
        """Whether this event is the first for that long."""
        now_s = time.monotonic()
        if now_s - self._admitted_s < COMPLAINT_INTERVAL_S:
            return False
        self._admitted_s = now_s
        return True


class OneLineFormatter(logging.Formatter):
    """Keeps each message in its line; only a traceback, which says that msilo has a bug, takes more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        # The text of an exception may be a peer's.
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def log_to_stderr(level: int = logging.INFO, prefix: str = "") -> None:
    """Send all log lines of the process to stderr, with `prefix` before each message."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter(f"%(asctime)s %(levelname)s {prefix}%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
