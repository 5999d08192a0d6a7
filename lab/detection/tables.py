"""Tables of detector results, in the terminal and as Markdown."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence

from lab.detection.detections import VERDICT
from lab.detection.rows import DetectorReport, DetectorRow
from lab.evaluate.cells import amount
from lab.evaluate.named_tables import NamedTable, markdown_page
from lab.evaluate.page import STYLE, folded, inlined
from lab.intervals import Interval

_MET = {True: "yes", False: "no", None: "not shown"}


def tables(report: DetectorReport) -> Iterator[NamedTable]:
    """Title, head and rows of each table."""
    yield (
        "Goals of the verdict",
        ["what", "wanted", "found", "met"],
        [[goal.name, goal.wanted, goal.found, _MET[goal.met]] for goal in report.goals],
    )
    yield (
        f"Detectors over all streams, {amount(len(report.seeds), 'seed')}",
        ["detector", "recalled", "with the right cause", "delay, examples", "false alarms per million", "of them seen"],
        [
            [
                total.detector, _percent(total.recalled), _percent(total.right), _number(total.delay_examples),
                _rate(total.per_million), f"{total.false_alarms:,}",
            ]
            for total in report.totals
        ],
    )  # fmt: skip
    yield (
        "The verdict by stream",
        ["stream", "episodes", "recalled", "right cause", "delay, examples", "false alarms per million"],
        [_cells(row) for row in report.rows if row.detector == VERDICT],
    )


def markdown(report: DetectorReport) -> str:
    """The tables, then what the verdict missed."""
    return markdown_page("What detectors are worth", _played(report), tables(report), missed(report))


def page(report: DetectorReport, pictures: Mapping[str, bytes]) -> str:
    """One HTML file with tables and pictures; it loads nothing from elsewhere."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Driftline: detectors</title>",
        f"<style>{STYLE}</style><h1>What detectors are worth</h1><p>{html.escape(_played(report))}</p>",
    ]
    for table in tables(report):
        parts += folded(*table, shown=True)
    parts += [f"<p>{html.escape(line)}</p>" for line in missed(report)]
    return "".join([*parts, *inlined(pictures)]) + "\n"


def missed(report: DetectorReport) -> list[str]:
    """A sentence for each episode that the verdict missed."""
    return [f"Missed by the verdict: {line}." for line in report.missed]


def grid_table(reports: Sequence[tuple[float, DetectorReport]]) -> NamedTable:
    """Results of the verdict at each value of `drift.false_alarm_examples`."""
    head = ["false_alarm_examples", "recalled", "with the right cause", "delay, examples", "false alarms per million"]
    body = []
    for value, report in reports:
        of_verdict = next(total for total in report.totals if total.detector == VERDICT)
        cells = [
            _percent(of_verdict.recalled),
            _percent(of_verdict.right),
            _number(of_verdict.delay_examples),
            _rate(of_verdict.per_million),
        ]
        body.append([f"{value:,.0f}", *cells])
    return f"The verdict on tuning seeds {', '.join(map(str, reports[0][1].seeds))}", head, body


def _played(report: DetectorReport) -> str:
    seeds = ", ".join(map(str, report.seeds))
    return f"Seeds {seeds}; {report.examples:,} examples replayed, {report.stable_examples:,} of them without drift."


def _cells(row: DetectorRow) -> list[str]:
    right = "" if row.right_cause is None else f"{100 * row.right_cause:.0f} %"
    delay = "" if row.delay_examples is None else f"{row.delay_examples:,.0f}"
    false = "" if row.false_alarms_per_million is None else f"{row.false_alarms_per_million:,.1f}"
    return [row.stream, str(row.episodes), str(row.recalled), right, delay, false]


def _percent(value: Interval) -> str:
    if math.isnan(value.mean):
        return ""
    return f"{100 * value.mean:.0f} %" + ("" if math.isnan(value.half_width) else f" ±{100 * value.half_width:.0f}")


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:,.0f}"


def _rate(value: tuple[float, float, float]) -> str:
    run_tasks, low, high = value
    return "" if math.isnan(run_tasks) else f"{run_tasks:,.2f} ({low:,.2f} to {high:,.2f})"
