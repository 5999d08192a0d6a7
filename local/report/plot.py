"""The picture of a run: the order of requests and log loss, frozen against live, and where kernels were swapped in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.verdict_bands import draw_bands
from local.report.drift import AnnouncedSpan, label
from local.report.stream import Floats, ScoredStream
from local.report.verdicts import VerdictSpan, bands_of
from model.ranking import list_auc
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


def rolling_request_auc(stream: ScoredStream, scores: Floats, window: int) -> Floats:
    """AUC within the requests that ended among the last `window` items, weighted by their items, `(n,)`.

    Not-a-number until a request has ended that holds both labels.
    """
    order = list_auc(stream.label, scores, stream.request)
    ends = np.cumsum(order.size) - 1
    weight = np.zeros(len(stream))
    weight[ends] = np.where(order.mixed, order.size, 0)
    won = np.zeros(len(stream))
    won[ends] = np.where(order.mixed, order.auc, 0.0) * weight[ends]
    judged = rolling_mean(weight, window)
    areas: Floats = np.divide(rolling_mean(won, window), judged, out=np.full(len(stream), np.nan), where=judged > 0)
    return areas


def swap_positions(version: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in the stream where the serving kernel is newer than any before it."""
    newest = np.maximum.accumulate(version) if version.size else version
    return np.flatnonzero(np.diff(newest, prepend=0) > 0)


def draw_plot(
    stream: ScoredStream,
    path: Path,
    *,
    title: str,
    drift: Sequence[AnnouncedSpan] = (),
    verdicts: Sequence[VerdictSpan] = (),
    dpi: int = 110,
) -> Path:
    """Writes the plot to `path` (PNG, or SVG by its ending) and returns it.

    Announced drift is shaded and named; below the arms, a row per domain shows the monitor's verdicts, unless all were
    stable. Raises ValueError for an empty stream.
    """
    if not len(stream):
        raise ValueError("an empty stream has nothing to draw")
    import matplotlib
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        shown = bands_of(verdicts, stream)
        rows = len({band.stratum for band in shown})
        figure = Figure(figsize=(11, 8.4 + 0.42 * rows), dpi=dpi, layout="constrained")
        if shown:
            order, losses, verdict_axes, kernels = figure.subplots(
                4, 1, sharex=True, height_ratios=(4, 4, 0.5 * rows, 1)
            )
            draw_bands(verdict_axes, shown)
        else:
            order, losses, kernels = figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 1))
        _draw_order(order, stream)
        _draw_losses(losses, stream)
        _draw_title(order, stream, title)
        _draw_drift(order, stream, drift)
        for span in drift:
            _shade(losses, stream, span)
        _draw_kernels(kernels, stream)
        with whole_file(path) as file:
            figure.savefig(file, format=path.suffix.removeprefix("."))
    return path


def _draw_order(axes: Any, stream: ScoredStream) -> None:
    """Over twice as many items as log loss: a request's order is one figure where its items are ten."""
    window = 2 * window_size(len(stream))
    frozen, live = (rolling_request_auc(stream, scores, window) for scores in (stream.frozen, stream.live))
    axes.set_ylabel("AUC within requests\n(higher is better)")
    _draw_arms(axes, frozen, live, window // _FIRST_SHARE, live >= frozen)


def _draw_losses(axes: Any, stream: ScoredStream) -> None:
    window = window_size(len(stream))
    frozen, live = (rolling_mean(log_losses(stream.label, scores), window) for scores in (stream.frozen, stream.live))
    axes.set_ylabel("log loss\n(lower is better)")
    _draw_arms(axes, frozen, live, window // _FIRST_SHARE, live <= frozen)


def _draw_arms(axes: Any, frozen: Floats, live: Floats, first: int, better: NDArray[np.bool_]) -> None:
    """Both arms from position `first` on, the space between shaded where live is better."""
    position = np.arange(min(first, len(live) - 1), len(live))
    frozen, live, better = frozen[position], live[position], better[position]
    axes.fill_between(position, live, frozen, where=better, color=LIVE, alpha=0.10, linewidth=0)
    axes.plot(position, frozen, color=FROZEN, linewidth=2.4)
    axes.plot(position, live, color=LIVE, linewidth=2.4)
    if np.isfinite(live[-1]):
        _name_lines(axes, len(better) + int(position[0]), float(frozen[-1]), float(live[-1]))
    axes.set_xlim(0, (len(better) + int(position[0])) * 1.13)
    axes.yaxis.set_major_locator(_few_ticks())


def _draw_title(axes: Any, stream: ScoredStream, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=16, fontweight="bold", pad=30)
    window = window_size(len(stream))
    axes.text(
        0,
        1.03,
        f"Every item scored before anything learned from it; means of the last {2 * window:,} and {window:,} items",
        transform=axes.transAxes,
        fontsize=11.5,
        color=KERNEL,
    )


def _draw_drift(axes: Any, stream: ScoredStream, spans: Sequence[AnnouncedSpan]) -> None:
    """Shades each span and names it at the top; overlapping names stack."""
    taken: list[float] = []
    for span in spans:
        stretches = _shade(axes, stream, span)
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


def _shade(axes: Any, stream: ScoredStream, span: AnnouncedSpan) -> list[tuple[int, int]]:
    """Shades the stretches of a span, deeper from where it is at full strength, and returns them."""
    stretches = span.stretches(stream)
    for begin, end in stretches:
        axes.axvspan(begin, end, color=DRIFT, alpha=0.10, linewidth=0, zorder=0)
        axes.axvline(begin, color=DRIFT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
    if span.full is not None:
        for begin, end in replace(span, begins=span.full).stretches(stream):
            axes.axvspan(begin, end, color=DRIFT, alpha=0.08, linewidth=0, zorder=0)
    return stretches


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
