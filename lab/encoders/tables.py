"""Tables of the gains of user encoders, in the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lab.encoders.rows import FIGURES, ArmRow, EncoderReport, StreamOfEncoders, better
from lab.encoders.trial import FROZEN_LIVE, OVER_LIVE
from lab.evaluate.cells import difference_cell
from lab.evaluate.named_tables import NamedTable, markdown_page
from lab.evaluate.slices import FIGURES as SLICE_FIGURES

_TITLES = {"request_auc": "AUC in requests", "auc": "AUC", "log_loss": "log loss"}


def tables(report: EncoderReport) -> Iterator[NamedTable]:
    """Title, head and rows of each table."""
    for stream in report.streams:
        yield _figures(stream)
        yield _shares(stream)
        yield _costs(stream)
        yield from _slices(stream)


def _figures(stream: StreamOfEncoders) -> NamedTable:
    head = ["user encoder", "arm"] + [name for figure in FIGURES for name in (_TITLES[figure], "above none")]
    return stream.stream, head, [[row.encoder, row.arm, *_figure_cells(row)] for row in stream.arms]


def _shares(stream: StreamOfEncoders) -> NamedTable:
    head = ["user encoder", "figure", "live history", "kernel", "both", "kernel on top of the live history"]
    rows = [
        [row.encoder, _TITLES[row.figure], *map(difference_cell, (row.history, row.kernel, row.both, row.on_top))]
        for row in stream.shares
    ]
    return f"{stream.stream}: gains above the frozen model without an encoder", head, rows


def _costs(stream: StreamOfEncoders) -> NamedTable:
    head = [
        "user encoder", "ms for a request", "above none", "pretraining, CPU s", "requests with a history",
        "of the pretraining half",
    ]  # fmt: skip
    rows = [
        [
            row.encoder, f"{row.request_ms.mean:.2f}", f"{row.request_ms_above.mean:+.2f}",
            "" if math.isnan(row.pretrain_s.mean) else f"{row.pretrain_s.mean:.0f}",
            f"{100 * row.with_history:.0f} %", f"{100 * row.left:.0f} %",
        ]
        for row in stream.costs
    ]  # fmt: skip
    return f"{stream.stream}: costs", head, rows


def _slices(stream: StreamOfEncoders) -> Iterator[NamedTable]:
    """A table per figure: the differences in slices by users."""
    sizes = {name: size for name, size in stream.slices[0].examples.items() if size > 0} if stream.slices else {}
    head = ["user encoder", "above", "arm", *(f"{name} ({size:,.0f})" for name, size in sizes.items())]
    for figure, words in SLICE_FIGURES.items() if sizes else ():
        rows = [
            [row.encoder, row.against, row.arm, *(difference_cell(row.above[figure][name]) for name in sizes)]
            for row in stream.slices
        ]
        yield f"{stream.stream}: {words} by users, differences", head, rows


def sentences(report: EncoderReport) -> Iterator[str]:
    """Which encoders are better than none, stream by stream."""
    for stream in report.streams:
        for arm in (FROZEN_LIVE, OVER_LIVE):
            names = ", ".join(better(stream, arm)) or "no encoder"
            yield f"{stream.stream}, {arm}: {names} above none in requests and in log loss, beyond the interval"


def markdown(report: EncoderReport) -> str:
    """The tables, then which encoders are better than none."""
    seeds = ", ".join(map(str, report.seeds))
    about = (
        f"Seeds {seeds}; `history_delay_s` {report.delay_s:g} in pretraining. Differences are paired by seed, with "
        "95 % intervals; of log loss, less is better."
    )
    return markdown_page("What user encoders gain", about, tables(report), sentences(report))


def delay_tables(reports: Sequence[EncoderReport]) -> Iterator[NamedTable]:
    """Figures of the arms with a live history at each `backbone.history_delay_s`."""
    head = ["stream", "history_delay_s", "user encoder"]
    head += [name for figure in FIGURES for name in (_TITLES[figure], "above none")]
    for arm in (FROZEN_LIVE, OVER_LIVE):
        rows = [
            [stream.stream, f"{report.delay_s:g}", row.encoder, *_figure_cells(row)]
            for number in range(len(reports[0].streams))
            for report in reports
            for stream in [report.streams[number]]
            for row in stream.arms
            if row.arm == arm
        ]
        yield f"{arm}, tuning seeds {', '.join(map(str, reports[0].seeds))}", head, rows


def _figure_cells(row: ArmRow) -> list[str]:
    return [
        cell for figure in FIGURES for cell in (f"{row.figures[figure].mean:.4f}", difference_cell(row.above[figure]))
    ]
