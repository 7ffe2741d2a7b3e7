"""The time zone of this machine, as far as it has a name."""

import os
import zoneinfo
from collections.abc import Mapping
from pathlib import Path

__all__ = ["machine_zone"]


def machine_zone(environ: Mapping[str, str], root: Path = Path("/")) -> tuple[str, str] | None:
    """Return the name of the zone and what told it, or None.

    Args:
        environ: the environment; where it has ``TZ`` the rest does not count, as with C's ``localtime``.
        root: the root of the file system.
    """
    if "TZ" in environ:
        return _known(environ["TZ"].removeprefix(":"), "TZ")
    try:
        target = os.readlink(root / "etc/localtime")
    except OSError:
        target = ""
    # ".../zoneinfo/posix/Europe/Rome" is the same as ".../zoneinfo/Europe/Rome".
    _, found, name = target.rpartition("zoneinfo/")
    if found and (zone := _known(name.removeprefix("posix/"), "/etc/localtime")):
        return zone
    try:
        return _known((root / "etc/timezone").read_text("ascii").strip(), "/etc/timezone")
    except (OSError, UnicodeDecodeError):
        return None


def _known(name: str, source: str) -> tuple[str, str] | None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
    return name, source
