"""Trials put together: what queries known by text, by words or by both gain above none, paired by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lab.evaluate.cells import difference_cell, interval_cell
from lab.evaluate.named_tables import NamedTable, markdown_page, plain
from lab.evaluate.plan import KERNEL
from lab.evaluate.slices import FIGURES, slice_figures, slice_sizes
from lab.intervals import Interval
from lab.queries.relevance_table import RelevanceRow, relevance_rows, relevance_sentences, relevance_table
from lab.queries.trial import ALL, BOTH, FROZEN, JUDGED, NONE, ORACLE, SLICES, QueryTrial


@dataclass(frozen=True)
class QueryRow:
    """One arm of one variant on one stream, over the seeds."""

    stream: str
    by: str
    arm: str
    examples: dict[str, float]
    """Number of examples in each slice, mean over the seeds."""
    figures: dict[str, dict[str, Interval]]
    """Figures by name and slice."""
    above_none: dict[str, dict[str, Interval]]
    """Differences from the same arm of a backbone that reads no query, paired by seed."""
    above_both: dict[str, dict[str, Interval]] = field(default_factory=dict)
    """Of `JUDGED`: differences from the same arm of the same backbone without relevance, `BOTH`, paired by seed."""


@dataclass(frozen=True)
class QueryReport:
    """Results of all streams."""

    seeds: tuple[int, ...]
    gating: str
    rows: tuple[QueryRow, ...]
    relevance: tuple[RelevanceRow, ...] = ()
    """Ways to order by relevance on the streams with judgements."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; not-a-number becomes null."""
        data: dict[str, Any] = plain(asdict(self))
        return data


def report_of(trials: Sequence[QueryTrial], gating: str) -> QueryReport:
    """The report on the trials of all streams, seeds and variants, in any order."""
    variants = dict.fromkeys((trial.stream, trial.by) for trial in trials)
    runs = {key: {t.seed: t for t in trials if (t.stream, t.by) == key} for key in variants}
    rows = [
        _row(of_variant, runs[stream, NONE], arm, runs[stream, BOTH] if by == JUDGED else None)
        for (stream, by), of_variant in runs.items()
        for arm in next(iter(of_variant.values())).arms
        if arm != ORACLE or by == NONE  # it is the same whatever the backbone reads
    ]
    of_judged = {stream: of_variant for (stream, by), of_variant in runs.items() if by == JUDGED}
    judged = {stream: {seed: trial.relevance for seed, trial in of.items()} for stream, of in of_judged.items()}
    relevance = [row for stream, measures in judged.items() for row in relevance_rows(stream, measures)]
    return QueryReport(tuple(sorted({trial.seed for trial in trials})), gating, tuple(rows), tuple(relevance))


def _row(
    runs: Mapping[int, QueryTrial],
    without: Mapping[int, QueryTrial],
    arm: str,
    both: Mapping[int, QueryTrial] | None,
) -> QueryRow:
    first = next(iter(runs.values()))
    of_variant, without_query = ({seed: trial.arms[arm] for seed, trial in of.items()} for of in (runs, without))
    above_both = (
        {} if both is None else slice_figures(of_variant, above={seed: trial.arms[arm] for seed, trial in both.items()})
    )
    sizes, figures, above = (
        slice_sizes(of_variant),
        slice_figures(of_variant),
        slice_figures(of_variant, above=without_query),
    )
    return QueryRow(first.stream, first.by, arm, sizes, figures, above, above_both)


def tables(report: QueryReport) -> Iterator[NamedTable]:
    """Title, head and rows of each stream and figure."""
    for stream in dict.fromkeys(row.stream for row in report.rows):
        rows = [row for row in report.rows if row.stream == stream]
        for figure, words in FIGURES.items():
            counts = rows[0].examples
            head = ["query by", "arm"]
            for name in SLICES:
                head += [f"{name} ({counts[name]:,.0f})", "above none"]
            yield f"{stream}: {words}", head, [_cells(row, figure) for row in rows]
        yield from relevance_table(stream, [row for row in report.relevance if row.stream == stream])
        if joint := [row for row in rows if row.above_both]:
            yield _joint(stream, joint)


def _joint(stream: str, rows: Sequence[QueryRow]) -> NamedTable:
    """What learning relevance changes for clicks."""
    head = ["arm", *(f"{words}, {name}" for words in FIGURES.values() for name in SLICES)]
    body = [
        [row.arm, *(difference_cell(row.above_both[figure][name]) for figure in FIGURES for name in SLICES)]
        for row in rows
    ]
    return f"{stream}: clicks with relevance learned too, above the same backbone without", head, body


def _cells(row: QueryRow, figure: str) -> list[str]:
    cells = ["", ORACLE] if row.arm == ORACLE else [row.by, row.arm]
    for name in SLICES:
        above = row.above_none[figure][name] if row.by != NONE else Interval(float("nan"), float("nan"))
        cells += [interval_cell(row.figures[figure][name]), difference_cell(above)]
    return cells


def sentences(report: QueryReport) -> Iterator[str]:
    """Gains of the frozen model and the kernel by the query, and losses of recommendations."""
    for row in report.rows:
        if row.by == NONE:
            continue
        above = row.above_none["request_auc"]
        _, search, recommendation = (_with_significance(above[name]) for name in SLICES)
        yield (
            f"{row.stream}, {row.by}, {row.arm}: {search} within search requests, {recommendation} "
            "within recommendations"
        )
        if row.above_both:
            _, search, recommendation = (_with_significance(row.above_both["request_auc"][name]) for name in SLICES)
            yield (
                f"{row.stream}, {row.arm}: learning relevance too changes clicks by {search} within search requests, "
                f"{recommendation} within recommendations"
            )
    yield from relevance_sentences(report.relevance)


def _with_significance(value: Interval) -> str:
    if np.isnan(value.half_width):
        return f"{difference_cell(value) or 'unknown'} (one seed tells no interval)"
    return f"{value} ({'better' if value.low > 0 else 'worse' if value.high < 0 else 'no significant difference'})"


def markdown(report: QueryReport) -> str:
    """The tables as a page."""
    about = (
        f"Seeds {', '.join(map(str, report.seeds))}; aspects fused by `{report.gating}`; ± is a 95 % interval over "
        "the seeds (Student's t). Every variant is one backbone for search and recommendation, trained on both "
        "together. In brackets the examples of the live half; of log loss, less is better. Arms: "
        f"`{FROZEN}`, and `{KERNEL}` on top; `{ALL}` are both kinds of request."
    )
    return markdown_page("What reading the query gains", about, tables(report), sentences(report))
