"""Pictures that a person understands without the text."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.compare import FROZEN
from lab.evaluate.information_plane import draw_domains, draw_plane, plain
from lab.evaluate.measures import WINDOWS
from lab.evaluate.report import EvaluationReport, StreamReport
from lab.verdict_bands import draw_bands

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

SHOWN = ("frozen", "full", "counters-lr", "live-head", "iak")
"""Adapters of the curves, as far as they ran; others would only hide these."""
COLOURS = {"frozen": "#888888", "full": "#d95f02", "counters-lr": "#66a3c2", "live-head": "#7570b3", "iak": "#1b7837"}
LABELS = {
    "frozen": "frozen",
    "full": "full fine-tuning",
    "counters-lr": "regression on counters",
    "live-head": "T with a linear head",
    "iak": "kernel (IAK)",
}


def pictures(report: EvaluationReport) -> dict[str, bytes]:
    """PNG files by name. One that cannot be drawn is left out and logged: it must not take the report along."""
    drawings: dict[str, tuple[Callable[[Figure], None], float, float]] = {
        "gains.png": (partial(_gains, report=report), 10, 0.32 * len(report.costs) + 1.6),
        "gain-and-cost.png": (partial(_cost, report=report), 9, 5.5),
        **{
            f"{stream.name}.png": (partial(_curves, stream=stream), 9, 10.5 if stream.verdicts else 8.5)
            for stream in report.streams
        },
    }
    known = [stream for stream in report.streams if stream.information]
    if known:
        drawings["information-plane.png"] = (partial(draw_plane, streams=known), 11, 4.8)
    for stream in known:
        if stream.information[0].domains:
            drawings[f"information-{stream.name}.png"] = (partial(draw_domains, stream=stream), 9, 4.2)
    drawn = {}
    for name, drawing in drawings.items():
        try:
            drawn[name] = png(*drawing)
        except Exception:
            log.warning("%s cannot be drawn; the tables hold its figures", name, exc_info=True)
    return drawn


def _curves(figure: Figure, stream: StreamReport) -> None:
    rows = (1, 1.3, 1.3, *((1,) if stream.verdicts else ()))
    within, lead_within, lead, *verdict_axes = figure.subplots(len(rows), 1, sharex=True, height_ratios=rows)
    where = (np.arange(WINDOWS) + 0.5) / WINDOWS * stream.examples / 1e3
    for axes in (within, lead_within, lead, *verdict_axes):
        for _, begin, end in stream.spans:
            axes.axvspan(begin * stream.examples / 1e3, end * stream.examples / 1e3, color="#ffe9b3", alpha=0.5, lw=0)
        plain(axes)
    for name, begin, _ in stream.spans:
        at = (begin * stream.examples / 1e3, 1.02)
        within.annotate(name, at, xycoords=("data", "axes fraction"), fontsize=8, color="#8a6d00", parse_math=False)
    still = next(row for row in stream.rows if row.adapter == FROZEN)
    for row in [row for row in stream.rows if row.adapter in SHOWN] or stream.rows[:4]:
        style = {"lw": 2, "color": COLOURS.get(row.adapter), "label": LABELS.get(row.adapter, row.adapter)}
        within.plot(where, row.request_curve, **style)
        lead_within.plot(where, _smooth(np.array(row.request_curve) - still.request_curve), **style)
        lead.plot(where, _smooth(np.array(row.curve) - still.curve), **style)
    within.set_ylabel("AUC within requests")
    within.set_title(stream.name, loc="left", fontweight="bold", pad=18, parse_math=False)
    lead_within.set_ylabel("above frozen, within requests")
    lead_within.legend(frameon=False, fontsize=9, loc="upper left")
    lead.set_ylabel("above frozen, AUC")
    for axes in verdict_axes:
        draw_bands(axes, [replace(band, begin=band.begin / 1e3, end=band.end / 1e3) for band in stream.verdicts])
    (*verdict_axes, lead)[0].set_xlabel(
        "examples seen (thousands), scored before learning from them; shaded: the world differs"
    )
    for axes in (lead_within, lead):
        axes.axhline(0, color="black", lw=0.8)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each window and its neighbours."""
    padded = np.pad(values, 1, mode="edge")
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3)


def _gains(figure: Figure, report: EvaluationReport) -> None:
    axes = figure.add_subplot()
    known = [name for name, lead in report.request_leads.items() if math.isfinite(lead.mean)]
    names = sorted(known, key=lambda name: report.request_leads[name].mean)
    for position, name in enumerate(names):
        lead = report.request_leads[name]
        error = None if math.isnan(lead.half_width) else lead.half_width
        axes.barh(position, lead.mean, xerr=error, color=COLOURS.get(name, "#c9c9c9"), ecolor="#444444")
        axes.plot(report.leads[name].mean, position, "D", color="#222222", markersize=4)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel("AUC within requests above frozen, mean over the streams (95 % interval over seeds); diamonds: AUC")
    axes.set_title("What each way to adapt gains", loc="left", fontweight="bold")
    plain(axes)


def _cost(figure: Figure, report: EvaluationReport) -> None:
    axes = figure.add_subplot()
    known = [
        (cost, report.request_leads[cost.adapter].mean)
        for cost in report.costs
        if cost.adapter != FROZEN and math.isfinite(report.request_leads[cost.adapter].mean) and cost.cpu_s_per_100k > 0
    ]
    for cost, lead in known:
        colour = COLOURS.get(cost.adapter, "#a0a0a0")
        axes.scatter(cost.cpu_s_per_100k, lead, s=30 + 90 * math.log10(max(cost.parameters, 10)) ** 0.5, color=colour)
        axes.annotate(cost.adapter, (cost.cpu_s_per_100k, lead), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.axhline(0, color="black", lw=0.8)
    if known:  # a logarithmic axis cannot be without a point
        axes.set_xscale("log")
    axes.set_xlabel("processor seconds per 100 000 examples")
    axes.set_ylabel("AUC within requests above frozen, mean over all streams")
    axes.set_title("Gain against cost: top left is best", loc="left", fontweight="bold")
    plain(axes)


def png(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    """The PNG bytes of a figure of `width` by `height` inches that `draw` fills."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    draw(figure)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()
