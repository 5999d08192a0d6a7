"""What the detectors are worth, in the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from lab.detection.heard import VERDICT
from lab.detection.rows import DetectorReport, DetectorRow
from lab.evaluate.compare import Interval

Named = tuple[str, list[str], list[list[str]]]


def tables(report: DetectorReport) -> Iterator[Named]:
    """Title, head and rows of each table."""
    yield (
        "Goals of the verdict",
        ["what", "wanted", "found", "met"],
        [[goal.name, goal.wanted, goal.found, "yes" if goal.met else "no"] for goal in report.goals],
    )
    yield (
        f"Detectors over all streams, {len(report.seeds)} seeds",
        ["detector", "recalled", "with the right cause", "delay, examples", "false alarms per million", "of them seen"],
        [
            [
                one.detector, _percent(one.recalled), _percent(one.right), _number(one.delay_examples),
                _rate(one.per_million), f"{one.false_alarms:,}",
            ]
            for one in report.totals
        ],
    )  # fmt: skip
    yield (
        "The verdict by stream",
        ["stream", "episodes", "recalled", "right cause", "delay, examples", "false alarms per million"],
        [_cells(row) for row in report.rows if row.detector == VERDICT],
    )


def markdown(report: DetectorReport) -> str:
    """The tables, then what the verdict missed."""
    seeds = ", ".join(map(str, report.seeds))
    lines = [
        "# What detectors are worth", "",
        f"Seeds {seeds}; {report.examples:,} examples played, {report.quiet:,} of them without drift.", "",
    ]  # fmt: skip
    for title, head, body in tables(report):
        lines += [f"## {title}", "", f"| {' | '.join(head)} |", f"|{'--|' + '--:|' * (len(head) - 1)}"]
        lines += [f"| {' | '.join(row)} |" for row in body]
        lines.append("")
    if report.missed:
        lines += ["## What the verdict missed", "", *(f"- {line}" for line in report.missed), ""]
    return "\n".join(lines)


def show(report: DetectorReport, console: Console) -> None:
    """The tables in the terminal."""
    for title, head, body in tables(report):
        table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
        for column, name in enumerate(head):
            table.add_column(name, justify="left" if column == 0 else "right")
        for row in body:
            table.add_row(*row)
        console.print(table)
    for line in report.missed:
        console.print(f"[dim]{line}[/]", highlight=False)


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
    each, low, high = value
    return "" if math.isnan(each) else f"{each:,.2f} ({low:,.2f} to {high:,.2f})"
