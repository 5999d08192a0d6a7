"""Results of text encoders: figures over the seeds, by slices, and their costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lab.evaluate.cells import amount, difference_cell, interval_cell
from lab.evaluate.named_tables import NamedTable, markdown_page, plain
from lab.evaluate.slices import FIGURES, SLICES, slice_figures, slice_sizes
from lab.intervals import Interval
from lab.text_models.encoders import TextEncoderCost
from lab.text_models.trial import ALL, TextTrial


@dataclass(frozen=True)
class TextModelRow:
    """One encoder and way of knowing items, on one stream over the seeds."""

    stream: str
    model: str
    """Empty where items are known by id alone."""
    by: str
    cpu_s: float
    """Processor seconds of a pretraining, mean."""
    examples: dict[str, float]
    """Number of examples in each slice, mean over the seeds."""
    figures: dict[str, dict[str, Interval]]
    """Figures by name and slice."""
    above_id: dict[str, dict[str, Interval]]
    """Differences from items known by id alone, paired by seed."""
    above_frozen: dict[str, dict[str, Interval]] | None = None
    """Differences of a tuned encoder from the same one frozen, paired by seed; None where that was not tried."""
    folders: tuple[str, ...] = ()
    """Folders of the tuned encoders, by seed; none where the encoder is frozen."""


@dataclass(frozen=True)
class TextModelReport:
    """Results of all streams."""

    seeds: tuple[int, ...]
    rows: tuple[TextModelRow, ...]
    costs: tuple[TextEncoderCost, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; not-a-number becomes null."""
        data: dict[str, Any] = plain(asdict(self))
        return data


def report_of(trials: Sequence[TextTrial], costs: Sequence[TextEncoderCost]) -> TextModelReport:
    """The report on the trials of all streams, seeds and variants, in any order."""
    seeds = tuple(sorted({trial.seed for trial in trials}))
    variants = dict.fromkeys((trial.stream, trial.model, trial.by) for trial in trials)
    by_variant = {key: {t.seed: t for t in trials if (t.stream, t.model, t.by) == key} for key in variants}
    rows = []
    for (stream, model, by), runs in by_variant.items():
        base, tuned, _ = model.partition(":tuned-")
        frozen = by_variant.get((stream, base, by)) if tuned else None
        rows.append(_row(runs, by_variant[stream, "", "id"], frozen))
    return TextModelReport(seeds, tuple(rows), tuple(costs))


def _row(
    runs: Mapping[int, TextTrial], by_id: Mapping[int, TextTrial], frozen: Mapping[int, TextTrial] | None
) -> TextModelRow:
    first = next(iter(runs.values()))
    measured = ({seed: trial.slices for seed, trial in of.items()} for of in (runs, by_id, frozen or {}))
    of_model, by_id_slices, of_frozen = measured
    return TextModelRow(
        stream=first.stream,
        model=first.model,
        by=first.by,
        cpu_s=float(np.mean([trial.cpu_s for trial in runs.values()])),
        examples=slice_sizes(of_model),
        figures=slice_figures(of_model),
        above_id=slice_figures(of_model, above=by_id_slices),
        above_frozen=slice_figures(of_model, above=of_frozen) if frozen else None,
        folders=tuple(runs[seed].folder for seed in sorted(runs) if runs[seed].folder),
    )


def tables(report: TextModelReport) -> Iterator[NamedTable]:
    """Title, head and rows: per stream what items known by id, text or both give, figure by figure, and what a
    pretraining costs; then the costs of the encoders."""
    for stream in dict.fromkeys(row.stream for row in report.rows):
        rows = [row for row in report.rows if row.stream == stream]
        held = [name for name in (ALL, *SLICES) if rows[0].examples[name] > 0]
        for figure, words in FIGURES.items():
            head = ["items by", "text encoder", *(f"{name} ({rows[0].examples[name]:,.0f})" for name in held)]
            yield f"{stream}: {words} of the frozen backbone", head, [_cells(row, figure, held) for row in rows]
        tuned = [row for row in rows if row.above_frozen is not None]
        if tuned:
            head = ["items by", "text encoder", "figure", *held]
            body = [line for row in tuned for line in _above_frozen(row, held)]
            yield f"{stream}: tuned encoders above the same ones frozen", head, body
        costs = [[row.by, row.model, f"{row.cpu_s:.0f}"] for row in rows]
        yield f"{stream}: cost of a pretraining", ["items by", "text encoder", "CPU s"], costs
    head = ["text encoder", "width", "parameters", "CPU ms per text"]
    yield (
        "What a text encoder costs",
        head,
        [[cost.name, f"{cost.width:,}", f"{cost.parameters:,}", f"{cost.ms_per_text:.2f}"] for cost in report.costs],
    )


def _above_frozen(row: TextModelRow, held: Sequence[str]) -> Iterator[list[str]]:
    for figure, words in FIGURES.items():
        values = (row.above_frozen or {})[figure]
        yield [row.by, row.model, words, *(difference_cell(values[name]) for name in held)]


def _cells(row: TextModelRow, figure: str, held: Sequence[str]) -> list[str]:
    """The figure itself for items known by id, the difference from it for others."""
    cell = interval_cell if row.by == "id" else difference_cell
    values = (row.figures if row.by == "id" else row.above_id)[figure]
    return [row.by, row.model, *(cell(values[name]) for name in held)]


def markdown(report: TextModelReport) -> str:
    """The tables as a page."""
    about = (
        f"{amount(len(report.seeds), 'seed')}; ± is a 95 % interval over them (Student's t). The first row is the "
        "frozen backbone with items known by id alone, the others stand above or below it, paired by seed. Slices: how "
        "often pretraining saw the item, and whether it saw the user; in brackets the examples of the live half. With "
        "`:tuned-N` the N top layers of the encoder were trained with the backbone; after that a new backbone was "
        "pretrained on its vectors, as `features.text_model` does with its folder."
    )
    folders = [
        f"{row.stream}, {row.model}, items by {row.by}: {', '.join(row.folders)}" for row in report.rows if row.folders
    ]
    return markdown_page("Items by id, by text, or both", about, tables(report), folders)
