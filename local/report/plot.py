"""The picture of a run: log loss over the stream, frozen against live, and where kernels were swapped in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from local.report.drift import AnnouncedSpan, label
from local.report.stream import Floats, ScoredStream
from model.whole_files import whole_file

FROZEN = "#8a8f98"
LIVE = "#0b6bcb"
KERNEL = "#5a5f68"
INK = "#22262b"
DRIFT = "#b4530a"
_STYLE = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#c8ccd2",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": "#eceef1",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 13,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_LONGEST_WINDOW = 4_000
_SHORTEST_WINDOW = 20
_LETTER = 0.0115
"""Width of a letter of a name, as a share of the stream."""
_FIRST_SHARE = 5
"""The curve begins when a fifth of the window is filled: before that the mean is mostly noise."""


def log_losses(label: Floats, score: Floats) -> Floats:
    """Log loss of each example, nats, `(n,)`."""
    sure = np.clip(score, 1e-7, 1 - 1e-7)
    losses: Floats = -(label * np.log(sure) + (1 - label) * np.log1p(-sure))
    return losses


def window_size(examples: int) -> int:
    """Examples over which the curve is averaged: a tenth of the stream, within sensible bounds."""
    return max(1, min(examples, _LONGEST_WINDOW, max(_SHORTEST_WINDOW, examples // 10)))


def rolling_mean(values: Floats, window: int) -> Floats:
    """Mean of the last `window` values at every position, `(n,)`; of all so far where there are fewer."""
    sums = np.concatenate([np.zeros(1), np.cumsum(values, dtype=np.float64)])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(0, end - window)
    means: Floats = (sums[end] - sums[begin]) / (end - begin)
    return means


def swap_positions(version: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in the stream where the serving kernel is newer than any before it."""
    newest = np.maximum.accumulate(version) if version.size else version
    return np.flatnonzero(np.diff(newest, prepend=0) > 0)


def draw_plot(
    stream: ScoredStream, path: Path, *, title: str, drift: Sequence[AnnouncedSpan] = (), dpi: int = 110
) -> Path:
    """Writes the plot to `path` (PNG, or SVG by its ending) and returns it. Announced drift is shaded and named.

    Raises ValueError for an empty stream.
    """
    if not len(stream):
        raise ValueError("an empty stream has no log loss to draw")
    import matplotlib
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(11, 5.6), dpi=dpi, layout="constrained")
        losses, kernels = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        _draw_losses(losses, stream, title)
        _draw_drift(losses, stream, drift)
        _draw_kernels(kernels, stream)
        with whole_file(path) as file:
            figure.savefig(file, format=path.suffix.removeprefix("."))
    return path


def _draw_losses(axes: Any, stream: ScoredStream, title: str) -> None:
    window = window_size(len(stream))
    position = np.arange(window // _FIRST_SHARE, len(stream))
    frozen = rolling_mean(log_losses(stream.label, stream.frozen), window)[position]
    live = rolling_mean(log_losses(stream.label, stream.live), window)[position]
    axes.fill_between(position, live, frozen, where=live <= frozen, color=LIVE, alpha=0.10, linewidth=0)
    axes.plot(position, frozen, color=FROZEN, linewidth=2.4)
    axes.plot(position, live, color=LIVE, linewidth=2.4)
    axes.set_ylabel("log loss (lower is better)")
    axes.set_title(title, loc="left", fontsize=16, fontweight="bold", pad=30)
    axes.text(
        0,
        1.03,
        f"Every item scored before anything learned from it; mean of the last {window:,} examples",
        transform=axes.transAxes,
        fontsize=11.5,
        color=KERNEL,
    )
    _name_lines(axes, len(stream), float(frozen[-1]), float(live[-1]))
    axes.set_xlim(0, len(stream) * 1.13)
    axes.yaxis.set_major_locator(_few_ticks())


def _draw_drift(axes: Any, stream: ScoredStream, spans: Sequence[AnnouncedSpan]) -> None:
    """Shades each span, deeper from where it is at full strength, and names it at the top; overlapping names stack."""
    taken: list[float] = []
    for span in spans:
        stretches = span.stretches(stream)
        for begin, end in stretches:
            axes.axvspan(begin, end, color=DRIFT, alpha=0.10, linewidth=0, zorder=0)
            axes.axvline(begin, color=DRIFT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        if span.full is not None:
            for begin, end in replace(span, begins=span.full).stretches(stream):
                axes.axvspan(begin, end, color=DRIFT, alpha=0.08, linewidth=0, zorder=0)
        if not stretches:
            continue
        position = stretches[0][0]
        row = next((n for n, until in enumerate(taken) if until <= position), len(taken))
        width = len(label(span)) * _LETTER * len(stream)
        taken[row : row + 1] = [position + width]
        axes.annotate(
            label(span),
            (position, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -4 - 15 * row),
            textcoords="offset points",
            va="top",
            fontsize=11,
            color=DRIFT,
        )
    if spans:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.06 * len(taken) * (high - low))


def _name_lines(axes: Any, end: int, frozen: float, live: float) -> None:
    low, high = axes.get_ylim()
    apart = 0.07 * (high - low)
    middle = (frozen + live) / 2
    shift = max(0.0, apart - abs(frozen - live)) / 2
    up = 1 if frozen >= live else -1
    for name, value, sign, colour in (("frozen", frozen, up, FROZEN), ("live", live, -up, LIVE)):
        height = value + sign * shift if value != middle else middle + sign * apart / 2
        axes.text(end * 1.012, height, name, color=colour, fontsize=14, fontweight="bold", va="center")


def _draw_kernels(axes: Any, stream: ScoredStream) -> None:
    newest = np.maximum.accumulate(stream.version)
    positions = swap_positions(stream.version)
    axes.fill_between(np.arange(len(stream)), newest, step="post", color=KERNEL, alpha=0.18, linewidth=0)
    axes.plot(positions, newest[positions], "|", color=LIVE, markersize=7, markeredgewidth=1.0)
    axes.set_ylabel("kernel\nversion")
    axes.set_ylim(0, max(1.0, float(newest[-1])) * 1.25)
    axes.set_xlabel("shown items, in the order they were served")
    axes.yaxis.set_major_locator(_few_ticks(2, whole=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _few_ticks(count: int = 5, *, whole: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=count, integer=whole)
