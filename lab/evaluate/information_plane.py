"""The information plane: how much the kernel compresses and how much it matches, in nats; tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.evaluate.cells import interval_cell, number
from lab.evaluate.measures import WINDOWS, mean_known
from lab.evaluate.report import StreamReport
from lab.intervals import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_CURVES = 8
"""Domains drawn by name; more could not be distinguished, and the tables list them all."""


def information_table(streams: Sequence[StreamReport]) -> tuple[list[str], list[list[str]]]:
    """Head and a row per stream that counted information."""
    body = []
    for stream in streams:
        runs = stream.information
        if runs:
            columns = ([run.compression for run in runs], [run.per_example for run in runs])
            sums = (np.mean([run.matching for run in runs]), np.mean([run.examples for run in runs]))
            body.append(
                [stream.name, *(interval_cell(interval(c)) for c in columns), *(f"{value:,.0f}" for value in sums)]
            )
    return ["stream", "compression", "matching per example", "matching in sum", "examples"], body


def domain_table(stream: StreamReport) -> tuple[list[str], list[list[str]]]:
    """Matching by domain, nats per example of any domain: over the stream, in its first and in its last quarter."""
    quarter = WINDOWS // 4
    body = [
        [name, *(number(mean_known(curve[part])) for part in (slice(None), slice(quarter), slice(-quarter, None)))]
        for name, curve in _domain_curves(stream).items()
    ]
    return ["domain", "whole stream", "first quarter", "last quarter"], body


def draw_plane(figure: Figure, streams: Sequence[StreamReport]) -> None:
    """Left a point per stream and seed in the plane of both, right matching over the stream."""
    plane, over_time = figure.subplots(1, 2, width_ratios=(1, 1.2))
    for stream in streams:
        runs = stream.information
        points = plane.scatter([run.compression for run in runs], [run.per_example for run in runs], s=28, alpha=0.8)
        centre = (mean_known([run.compression for run in runs]), mean_known([run.per_example for run in runs]))
        plane.annotate(stream.name, centre, xytext=(5, 4), textcoords="offset points", fontsize=8, parse_math=False)
        curve = _mean_curve([run.curve for run in runs])
        over_time.plot(_shares(), curve, lw=1.8, color=points.get_facecolor()[0])
    plane.set_xlabel("compression: nats kept of who asks, where and when")
    plane.set_ylabel("matching: nats gained per example")
    plane.set_title("Information plane", loc="left", fontweight="bold")
    over_time.set_xlabel("share of the stream")
    over_time.set_ylabel("matching: nats gained per example")
    over_time.set_title("Over the stream", loc="left", fontweight="bold")
    for axes in (plane, over_time):
        plain(axes)


def draw_domains(figure: Figure, stream: StreamReport) -> None:
    """Matching over the stream, by the domains that gained most."""
    axes = figure.add_subplot()
    curves = sorted(_domain_curves(stream).items(), key=lambda named: -mean_known(named[1]))
    for name, curve in curves[:_MOST_CURVES]:
        axes.plot(_shares(), curve, lw=1.8, label=name.replace("$", r"\$"))
    axes.set_title(f"{stream.name}: matching by domain", loc="left", fontweight="bold", parse_math=False)
    axes.set_xlabel("share of the stream")
    axes.set_ylabel("nats per example of any domain")
    axes.legend(frameon=False, fontsize=9)
    plain(axes)


def _domain_curves(stream: StreamReport) -> dict[str, tuple[float, ...]]:
    """Nats by domain and window, means over the seeds."""
    by_name: dict[str, list[tuple[float, ...]]] = {}
    for information in stream.information:
        for name, curve in information.domains.items():
            by_name.setdefault(name, []).append(curve)
    return {name: _mean_curve(curves) for name, curves in by_name.items()}


def _mean_curve(curves: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(mean_known(window) for window in zip(*curves, strict=True))


def _shares() -> list[float]:
    return [(window + 0.5) / WINDOWS for window in range(WINDOWS)]


def plain(axes: Axes) -> None:
    """No frame above and right, a faint grid: how every picture of an evaluation looks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.25)
