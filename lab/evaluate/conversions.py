"""How well the arms predict conversions: CTCVR-AUC over all shown items, and within requests.

An adapter gives click logits; its `p_CTCVR` is its click probability times the frozen model's CVR. The figures of the
click logits alone are reported beside it, because a CVR without information adds nothing to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.cells import difference_cell, interval_cell
from lab.evaluate.compare import FROZEN, paired
from lab.evaluate.named_tables import NamedTable
from lab.evaluate.prepare import PreparedStream
from lab.intervals import Interval, interval
from model.evaluation import auc, grouped_auc, mixed_groups, sigmoid


@dataclass(frozen=True)
class ConversionMeasures:
    """Measures of one adapter, stream and seed: items with click and conversion against all other shown items."""

    request_auc: float
    """CTCVR-AUC within each request that holds a conversion and something else, weighted by its items."""
    auc: float
    """CTCVR-AUC over everything."""
    request_auc_by_clicks: float
    """`request_auc` of the order by click logits alone."""
    auc_by_clicks: float
    lists: int
    """Requests that hold a conversion and something else."""
    rate: float
    """Conversions by clicks."""


@dataclass(frozen=True)
class ConversionRow:
    """One adapter on one stream, over the seeds."""

    adapter: str
    request_auc: Interval
    auc: Interval
    request_auc_lead: Interval
    """Above frozen, paired by seed; `lead` likewise."""
    lead: Interval
    request_auc_by_clicks: Interval
    auc_by_clicks: Interval


@dataclass(frozen=True)
class ConversionReport:
    """Conversion results of one stream."""

    lists: int
    rate: float
    rows: tuple[ConversionRow, ...]


def measure_conversions(data: PreparedStream, logit: NDArray[np.float32]) -> ConversionMeasures | None:
    """The measures of one run; None for a stream without conversions."""
    if data.conversion is None or data.cvr_logit is None:
        return None
    label, score = data.conversion, sigmoid(logit) * sigmoid(data.cvr_logit)
    clicks = float(data.truth.sum())
    return ConversionMeasures(
        request_auc=grouped_auc(label, score, data.request),
        auc=auc(label, score),
        request_auc_by_clicks=grouped_auc(label, logit, data.request),
        auc_by_clicks=auc(label, logit),
        lists=mixed_groups(label, data.request),
        rate=float(label.sum()) / clicks if clicks else float("nan"),
    )


def report_conversions(
    seeds: Sequence[tuple[int, Mapping[str, ConversionMeasures]]], adapters: Sequence[str]
) -> ConversionReport | None:
    """The report on the measures by seed and adapter; None if there are none."""
    if not all(measures for _, measures in seeds):
        return None
    first = next(iter(seeds[0][1].values()))
    runs = {name: {seed: measures[name] for seed, measures in seeds} for name in adapters}
    return ConversionReport(first.lists, first.rate, tuple(_row(name, runs) for name in adapters))


def _row(name: str, runs: Mapping[str, Mapping[int, ConversionMeasures]]) -> ConversionRow:
    by_seed = list(runs[name].values())
    return ConversionRow(
        adapter=name,
        request_auc=interval([measures.request_auc for measures in by_seed]),
        auc=interval([measures.auc for measures in by_seed]),
        request_auc_lead=paired(runs, name, FROZEN, "request_auc"),
        lead=paired(runs, name, FROZEN),
        request_auc_by_clicks=interval([measures.request_auc_by_clicks for measures in by_seed]),
        auc_by_clicks=interval([measures.auc_by_clicks for measures in by_seed]),
    )


def conversion_table(name: str, report: ConversionReport) -> NamedTable:
    """Title, head and cells of the conversion table of one stream."""
    title = f"{name}: conversions, {report.rate:.1%} of the clicks ({report.lists:,} requests with a conversion)"
    head = [
        "adapter", "CTCVR-AUC in requests", "above frozen in requests", "CTCVR-AUC", "above frozen",
        "by clicks alone in requests", "by clicks alone",
    ]  # fmt: skip
    body = [
        [
            row.adapter,
            interval_cell(row.request_auc),
            difference_cell(row.request_auc_lead),
            interval_cell(row.auc),
            difference_cell(row.lead),
            interval_cell(row.request_auc_by_clicks),
            interval_cell(row.auc_by_clicks),
        ]
        for row in report.rows
    ]
    return title, head, body
