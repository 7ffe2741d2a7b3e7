"""What a server uses of the machine, all of its processes, as Linux counts it; elsewhere nobody knows."""

import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["cpu_s", "memory_mb"]

_IS_LINUX: Final = sys.platform == "linux"
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

# Of /proc/PID/stat behind the name of the program: user and system time, in ticks.
_UTIME, _STIME = 11, 12


def cpu_s(pid: int) -> float | None:
    """Return the CPU time so far of a process and its children, of all threads, in steps of some milliseconds."""
    if not _IS_LINUX:
        return None
    ticks = 0
    for process in _family(pid):
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[_UTIME]) + int(fields[_STIME])
    return ticks / _TICKS_PER_S


def memory_mb(pid: int) -> float | None:
    """Return the memory of a process and its children, in MB; each has its part of what they share."""
    if not _IS_LINUX:
        return None
    kilobytes = 0
    for process in _family(pid):
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kilobytes += int(line.split()[1])
    return kilobytes / 1000


def _family(pid: int) -> list[Path]:
    process = Path(f"/proc/{pid}")
    children = (process / "task" / str(pid) / "children").read_text().split()
    return [process, *(relative for child in children for relative in _family(int(child)))]
