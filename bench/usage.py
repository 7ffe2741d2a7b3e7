"""What a server uses of the machine, all of its processes, as Linux counts it; elsewhere nobody knows."""

import sys
from pathlib import Path
from typing import Final

__all__ = ["cpu_s", "memory_mb"]

_IS_LINUX: Final = sys.platform == "linux"


def cpu_s(pid: int) -> float | None:
    """Return the CPU time so far of a process and its children, of all threads that there are."""
    if not _IS_LINUX:
        return None
    # To the nanosecond, where /proc/PID/stat has whole ticks of each process, and a server many that do little.
    times_ns = (
        int(thread.read_text().split()[0])
        for process in _family(pid)
        for thread in (process / "task").glob("*/schedstat")
    )
    return sum(times_ns) / 1e9


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
    # Each thread has those that it started.
    children = [child for listed in (process / "task").glob("*/children") for child in listed.read_text().split()]
    return [process, *(relative for child in children for relative in _family(int(child)))]
