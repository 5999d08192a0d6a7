"""A picture per stream: both arms over time, the episodes, and the verdicts, on one axis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.detection.trial import Drawn
from lab.evaluate.information_plane import plain
from lab.verdict_bands import draw_bands
from model.gate.harm import log_losses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WINDOWS = 60


def draw_trial(figure: Figure, name: str, drawn: Drawn) -> None:
    """Log loss of both arms on top, verdicts below."""
    losses, verdicts = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    examples = len(drawn.time)

    def place(time: float) -> float:
        return float(np.searchsorted(drawn.time, time)) / 1e3

    for axes in (losses, verdicts):
        for episode in drawn.episodes:
            axes.axvspan(place(episode.begin), place(episode.end), color="#ffe9b3", alpha=0.45, lw=0, zorder=0)
            axes.axvline(place(episode.begin), color="#b4530a", lw=1, ls=(0, (4, 3)), zorder=1)
        plain(axes)
    for row, episode in enumerate(drawn.episodes):
        at = (place(episode.begin), 0.98 - 0.09 * (row % 3))
        text = f" {episode.name.replace('_', ' ')}"
        losses.annotate(text, at, xycoords=("data", "axes fraction"), va="top", fontsize=9, color="#8a6d00")
    edges = np.linspace(0, examples, _WINDOWS + 1).astype(np.int64)
    middle = (edges[:-1] + edges[1:]) / 2e3
    for logit, label, colour in (
        (drawn.arms.frozen, "frozen", "#888888"), (drawn.arms.live, "live", "#0b6bcb"),
    ):  # fmt: skip
        losses.plot(
            middle,
            _means(log_losses(logit.astype(np.float64), drawn.arms.truth.astype(np.float64)), edges),
            color=colour,
            lw=2,
            label=label,
        )
    losses.set_ylabel("log loss, by what users did")
    losses.set_title(name, loc="left", fontweight="bold", parse_math=False)
    losses.legend(frameon=False, fontsize=9, loc="upper right")
    shown = [replace(band, begin=place(band.begin), end=place(band.end)) for band in drawn.bands]
    draw_bands(verdicts, shown)
    verdicts.set_xlabel("examples seen (thousands); shaded: something is the matter")
    verdicts.set_xlim(0, examples / 1e3)


def _means(values: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((sums[edges[1:]] - sums[edges[:-1]]) / np.maximum(np.diff(edges), 1))
