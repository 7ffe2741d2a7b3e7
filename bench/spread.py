"""One load by several generators, each a process of its own, that begin together."""

import multiprocessing
import secrets
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from typing import Final

import click
import msgspec

from bench import load
from bench.load import Kind, Load, LoadResult
from bench.requests import Names
from bench.wire import Address, TransportName

__all__ = ["Traffic", "new_run", "run"]

_LOOK_S: Final = 0.1


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What all generators do together; see :class:`bench.load.Load`.

    Attributes:
        run: from :func:`new_run`: the same for loads on the same users.
    """

    kind: Kind
    target: Address
    transport: TransportName
    run: str
    domain: str
    phase: int = 0
    count: int
    window: int
    users: int
    body_bytes: int
    processes: int


def new_run() -> str:
    """Return what tells the users of a run from those of any other."""
    return secrets.token_hex(4)


def run(traffic: Traffic, progress: Callable[[int], object]) -> LoadResult:
    """Carry it out and return the sum of what the generators saw; latencies are ascending.

    Raises:
        click.ClickException: the server is not there, or says nothing any more.
    """
    shares = [_share(traffic, generator) for generator in range(traffic.processes)]
    try:
        results = [load.run(shares[0], progress)] if len(shares) == 1 else _run_in_processes(shares, progress)
    except (OSError, BrokenExecutor) as error:
        where = f"{traffic.transport}://{traffic.target[0]}:{traffic.target[1]}"
        raise click.ClickException(f"{where}: {error}") from None
    return _sum(results)


def _share(traffic: Traffic, generator: int) -> Load:
    def of(total: int) -> int:
        return max(1, (total + generator) // traffic.processes)

    users = of(traffic.users)
    window = of(traffic.window)
    if traffic.kind != "store":
        # REGISTERs of one user are to arrive in order.
        window = min(window, users)
    if traffic.kind == "ordered store":
        # The largest below that divides the users, so that each has one place in the window at most.
        window = next(size for size in range(window, 0, -1) if users % size == 0)
    return Load(
        kind=traffic.kind,
        target=traffic.target,
        transport=traffic.transport,
        names=Names(run=traffic.run, generator=generator, domain=traffic.domain),
        phase=traffic.phase,
        count=of(traffic.count),
        window=window,
        users=users,
        body_bytes=traffic.body_bytes,
    )


def _run_in_processes(shares: list[Load], progress: Callable[[int], object]) -> list[LoadResult]:
    context = multiprocessing.get_context("spawn")
    together, done = context.Barrier(len(shares)), context.Value("q", 0)
    seen = 0
    with ProcessPoolExecutor(len(shares), context, _prepare, (together, done)) as pool:
        futures = [pool.submit(_run_share, share) for share in shares]
        while not all(future.done() for future in futures):
            time.sleep(_LOOK_S)
            now = done.value
            progress(now - seen)
            seen = now
        # Where one fails the others cannot begin: what it says comes first.
        for future in futures:
            if isinstance(error := future.exception(), OSError):
                raise error
        return [future.result() for future in futures]


_together: Barrier
_done: "Synchronized[int]"


def _prepare(together: Barrier, done: "Synchronized[int]") -> None:
    global _together, _done  # a child of the pool has nothing else that outlives a call
    _together, _done = together, done


def _run_share(share: Load) -> LoadResult:
    def progress(more: int) -> None:
        with _done.get_lock():
            _done.value += more

    try:
        return load.run(share, progress, start=_together.wait)
    except OSError:
        _together.abort()
        raise


def _sum(results: list[LoadResult]) -> LoadResult:
    statuses: dict[int, int] = {}
    latencies_ms: dict[str, list[float]] = {}
    for result in results:
        for status, count in result.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
        for series, values in result.latencies_ms.items():
            latencies_ms.setdefault(series, []).extend(values)
    return LoadResult(
        began_ns=min(result.began_ns for result in results),
        ended_ns=max(result.ended_ns for result in results),
        latencies_ms={series: sorted(values) for series, values in latencies_ms.items()},
        statuses=dict(sorted(statuses.items())),
        resent=sum(result.resent for result in results),
        cpu_s=sum(result.cpu_s for result in results),
        exchanged=sum(result.exchanged for result in results),
        delivered=sum(result.delivered for result in results),
        out_of_place=sum(result.out_of_place for result in results),
        repeated=sum(result.repeated for result in results),
        refreshed=sum(result.refreshed for result in results),
        missing=sum(result.missing for result in results),
    )
