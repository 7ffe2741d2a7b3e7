"""Figures as pictures; matplotlib is only imported where one is asked for."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import click

__all__ = ["draw_loop", "require"]


def require() -> None:
    """Say before anything is measured that nothing can be drawn."""
    if find_spec("matplotlib") is None:
        raise click.ClickException(
            "--plot needs matplotlib: run `pip install matplotlib`, which is part of the extra dev"
        )


def draw_loop(
    path: Path,
    title: str,
    by_window: Sequence[tuple[int, Mapping[str, Any]]],
    by_batch: Sequence[Mapping[str, Any]],
) -> None:
    """Draw rate over window, latency over load, and rate over batch size.

    Args:
        path: the PNG.
        title: what was measured.
        by_window: window, and the figures with it.
        by_batch: figures with different limits of the batch; empty for none.
    """
    from matplotlib.figure import Figure

    windows = [window for window, _ in by_window]
    rates: list[float] = [figures["rate_per_s"] for _, figures in by_window]
    # Its own annotations leave out the types of some arguments.
    figure = cast(Any, Figure(figsize=(15, 4.5), layout="constrained"))
    figure.suptitle(title)
    window_axes, load_axes, batch_axes = figure.subplots(1, 3)
    window_axes.plot(windows, rates, marker="o")
    window_axes.set(xscale="log", xlabel="window (requests under way)", ylabel="rate (1/s)", ylim=(0, None))
    for percentile in ("p50_ms", "p99_ms"):
        latencies: list[float] = [figures[percentile] for _, figures in by_window]
        load_axes.plot(rates, latencies, marker="o", label=percentile.removesuffix("_ms"))
    load_axes.set(yscale="log", xlabel="load (1/s)", ylabel="latency (ms)", xlim=(0, None))
    load_axes.legend()
    sizes = [_batch_mean(figures) for figures in by_batch]
    batch_axes.plot(sizes, [figures["rate_per_s"] for figures in by_batch], marker="o")
    batch_axes.set(xscale="log", xlabel="actions in a batch of the store (mean)", ylabel="rate (1/s)", ylim=(0, None))
    figure.savefig(path, format="png")


def _batch_mean(figures: Mapping[str, Any]) -> float:
    """Return the mean size of the batches of what changes the store most."""
    batches: Mapping[str, Mapping[str, float]] = figures["batches"]
    return max(batching["mean"] for batching in batches.values())
