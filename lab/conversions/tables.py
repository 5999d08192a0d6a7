"""Gains of the methods to predict conversions, over the seeds: rows, in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lab.conversions.trial import FROZEN, METHODS, ConversionTrial, CvrFigures
from lab.evaluate.cells import amount, difference_cell, interval_cell
from lab.evaluate.compare import paired
from lab.evaluate.named_tables import NamedTable, markdown_page
from lab.intervals import Interval, interval

MEASURES = ("request_auc", "auc", "log_loss", "cvr_auc", "request_auc_frozen", "auc_frozen")
_TITLES = {
    "request_auc": "CTCVR-AUC in requests", "auc": "CTCVR-AUC", "log_loss": "log loss of CVR among clicks",
    "cvr_auc": "AUC of CVR among clicks",
}  # fmt: skip


@dataclass(frozen=True)
class CvrRow:
    """One method on one stream, over the seeds."""

    stream: str
    method: str
    figures: dict[str, Interval]
    """Figures by measure, over the seeds."""
    above: dict[str, Interval]
    """Differences from the frozen CVR by measure, paired by seed."""
    cpu_s: Interval


@dataclass(frozen=True)
class CvrReport:
    """Results of all methods on all streams."""

    seeds: tuple[int, ...]
    trials: tuple[ConversionTrial, ...]
    rows: tuple[CvrRow, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain values for `json.dumps`."""
        return asdict(self)


def report_of(trials: Sequence[ConversionTrial], seeds: tuple[int, ...]) -> CvrReport:
    """The report on trials of all streams, methods and seeds, paired by seed."""
    streams = dict.fromkeys(trial.stream for trial in trials)
    return CvrReport(seeds, tuple(trials), tuple(row for stream in streams for row in _rows(stream, trials)))


def _rows(stream: str, trials: Sequence[ConversionTrial]) -> Iterator[CvrRow]:
    runs: dict[str, dict[int, CvrFigures]] = {
        method: {trial.seed: trial.figures[method] for trial in trials if trial.stream == stream} for method in METHODS
    }
    for method, by_seed in runs.items():
        yield CvrRow(
            stream=stream,
            method=method,
            figures={name: interval([getattr(result, name) for result in by_seed.values()]) for name in MEASURES},
            above={name: paired(runs, method, FROZEN, name) for name in MEASURES},
            cpu_s=interval([result.cpu_s for result in by_seed.values()]),
        )


def tables(report: CvrReport) -> Iterator[NamedTable]:
    """Title, head and cells of each stream's table."""
    head = ["CVR by"] + [name for title in _TITLES.values() for name in (title, "above frozen")]
    for stream in dict.fromkeys(row.stream for row in report.rows):
        trials = [trial for trial in report.trials if trial.stream == stream]
        clicks, conversions = (sum(getattr(trial, name) for trial in trials) for name in ("clicks", "conversions"))
        title = (
            f"{stream}: {conversions:,} conversions of {clicks:,} clicks in {amount(len(trials), 'seed')} "
            f"({sum(trial.lists for trial in trials):,} requests with one), clicks by the kernel"
        )
        yield title, head, [_cells(row) for row in report.rows if row.stream == stream]


def _cells(row: CvrRow) -> list[str]:
    above = {name: "" if row.method == FROZEN else difference_cell(row.above[name]) for name in _TITLES}
    return [row.method, *(cell for name in _TITLES for cell in (interval_cell(row.figures[name]), above[name]))]


def markdown(report: CvrReport) -> str:
    """The report as a Markdown page."""
    about = f"Seeds {', '.join(map(str, report.seeds))}; differences are paired by seed, ± is a 95 % interval."
    return markdown_page("What an adapted conversion probability gains", about, tables(report))
