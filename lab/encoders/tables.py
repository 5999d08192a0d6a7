"""What user encoders gain, in the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from lab.encoders.rows import FIGURES, EncoderReport, StreamOfEncoders, better
from lab.encoders.trial import FROZEN_LIVE, OVER_LIVE
from lab.evaluate.compare import Interval

Named = tuple[str, list[str], list[list[str]]]
_TITLES = {"request_auc": "AUC in requests", "auc": "AUC", "log_loss": "log loss"}


def tables(report: EncoderReport) -> Iterator[Named]:
    """Title, head and rows of each table."""
    for stream in report.streams:
        yield _figures(stream)
        yield _shares(stream)
        yield _costs(stream)


def _figures(stream: StreamOfEncoders) -> Named:
    head = ["user encoder", "arm"] + [name for figure in FIGURES for name in (_TITLES[figure], "above none")]
    rows = [
        [row.encoder, row.arm]
        + [cell for figure in FIGURES for cell in (f"{row.figures[figure].mean:.4f}", _signed(row.above[figure]))]
        for row in stream.arms
    ]
    return stream.stream, head, rows


def _shares(stream: StreamOfEncoders) -> Named:
    head = ["user encoder", "figure", "live history", "kernel", "both", "kernel on top of the live history"]
    rows = [
        [one.encoder, _TITLES[one.figure], *map(_signed, (one.history, one.kernel, one.both, one.on_top))]
        for one in stream.shares
    ]
    return f"{stream.stream}: gains above the frozen model without an encoder", head, rows


def _costs(stream: StreamOfEncoders) -> Named:
    head = [
        "user encoder", "ms for a request", "above none", "pretraining, CPU s", "requests with a history",
        "of the pretraining half",
    ]  # fmt: skip
    rows = [
        [
            one.encoder, f"{one.request_ms.mean:.2f}", f"{one.request_ms_above.mean:+.2f}",
            "" if math.isnan(one.pretrain_s.mean) else f"{one.pretrain_s.mean:.0f}",
            f"{100 * one.with_history:.0f} %", f"{100 * one.left:.0f} %",
        ]
        for one in stream.costs
    ]  # fmt: skip
    return f"{stream.stream}: costs", head, rows


def sentences(report: EncoderReport) -> Iterator[str]:
    """Which encoders are better than none, stream by stream."""
    for stream in report.streams:
        for arm in (FROZEN_LIVE, OVER_LIVE):
            names = ", ".join(better(stream, arm)) or "no encoder"
            yield f"{stream.stream}, {arm}: {names} above none in requests and in log loss, beyond the interval"


def markdown(report: EncoderReport) -> str:
    """The tables, then which encoders are better than none."""
    lines = ["# What user encoders gain", "", _played(report), ""]
    for title, head, body in tables(report):
        lines += [f"## {title}", "", f"| {' | '.join(head)} |", f"|--|--|{'--:|' * (len(head) - 2)}"]
        lines += [f"| {' | '.join(row)} |" for row in body]
        lines.append("")
    return "\n".join([*lines, *(f"- {line}" for line in sentences(report)), ""])


def show(report: EncoderReport, console: Console) -> None:
    """The tables in the terminal."""
    for title, head, body in tables(report):
        console.print(_table(title, head, body))
    for line in sentences(report):
        console.print(line, highlight=False)


def show_delays(reports: Sequence[EncoderReport], console: Console) -> None:
    """What the frozen arm with its live history is worth at each `backbone.history_delay_s`."""
    head = ["stream", "history_delay_s", "user encoder"]
    head += [name for figure in FIGURES for name in (_TITLES[figure], "above none")]
    for arm in (FROZEN_LIVE, OVER_LIVE):
        rows = [
            [stream.stream, f"{report.delay_s:g}", row.encoder]
            + [cell for figure in FIGURES for cell in (f"{row.figures[figure].mean:.4f}", _signed(row.above[figure]))]
            for number in range(len(reports[0].streams))
            for report in reports
            for stream in [report.streams[number]]
            for row in stream.arms
            if row.arm == arm
        ]
        console.print(_table(f"{arm}, tuning seeds {', '.join(map(str, reports[0].seeds))}", head, rows))


def _table(title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column, name in enumerate(head):
        table.add_column(name, justify="left" if column < 2 else "right")
    for row in body:
        table.add_row(*row)
    return table


def _signed(value: Interval) -> str:
    return "" if math.isnan(value.mean) else str(value)


def _played(report: EncoderReport) -> str:
    seeds = ", ".join(map(str, report.seeds))
    return (
        f"Seeds {seeds}; `history_delay_s` {report.delay_s:g} in pretraining. Differences are paired by seed, with "
        "95 % intervals; of log loss, less is better."
    )
