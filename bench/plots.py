"""Figures as pictures; matplotlib is only imported where one is asked for."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import click

__all__ = ["draw_loop", "draw_ratios", "require"]


def require(path: Path) -> None:
    """Say before anything is measured that nothing can be drawn into a file."""
    if not path.parent.is_dir():
        raise click.ClickException(f"--plot {path}: there is no directory {path.parent}: create it")
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


def draw_ratios(path: Path, ratios: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Draw the ratios of a comparison with their spread, on a logarithmic scale.

    Args:
        path: the PNG.
        ratios: by server and by what was measured, as ``compare`` prints them.
    """
    from matplotlib.figure import Figure

    figure = cast(Any, Figure(figsize=(9, 5), layout="constrained"))
    axes = figure.subplots()
    for position, (server, measured) in enumerate(ratios.items()):
        spreads = [values["ratio"] for values in measured.values()]
        medians = [spread.median for spread in spreads]
        below = [spread.median - spread.least for spread in spreads]
        above = [spread.most - spread.median for spread in spreads]
        # A little apart, so that several servers do not hide each other.
        places = [place + 0.2 * position for place in range(len(measured))]
        axes.errorbar(medians, places, xerr=(below, above), fmt="o", capsize=4, label=server)
        axes.set_yticks(range(len(measured)), list(measured))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="ours in Kamailio's of the same round: median, least and most")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.legend()
    figure.savefig(path, format="png")
