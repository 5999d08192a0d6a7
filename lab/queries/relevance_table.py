"""Ways to order items by relevance, over the seeds: the relevance tower, and what needs no training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.evaluate.cells import difference_cell, interval_cell
from lab.evaluate.compare import paired
from lab.evaluate.named_tables import NamedTable
from lab.intervals import Interval, interval
from lab.queries.relevance import METHODS, TOWER, RelevanceMeasures

_FIGURES = {"request_auc": "AUC within searches", "auc": "AUC"}


@dataclass(frozen=True)
class RelevanceRow:
    """One method on one stream, over the seeds."""

    stream: str
    method: str
    judged: int
    """Judged items, all seeds together; `lists` likewise the searches that count within searches."""
    lists: int
    figures: dict[str, Interval]
    tower_above: dict[str, Interval]
    """How far the relevance tower is above this method, paired by seed."""


def relevance_rows(stream: str, seeds: Mapping[int, Mapping[str, RelevanceMeasures]]) -> Iterator[RelevanceRow]:
    """The rows of one stream from its measures by seed and method."""
    runs = {method: {seed: measures[method] for seed, measures in seeds.items()} for method in METHODS}
    for method, by_seed in runs.items():
        own = list(by_seed.values())
        yield RelevanceRow(
            stream=stream,
            method=method,
            judged=sum(one.judged for one in own),
            lists=sum(one.lists for one in own),
            figures={name: interval([getattr(one, name) for one in own]) for name in _FIGURES},
            tower_above={name: paired(runs, TOWER, method, name) for name in _FIGURES},
        )


def relevance_table(stream: str, rows: Sequence[RelevanceRow]) -> Iterator[NamedTable]:
    """Title, head and cells of one stream's table; nothing for a stream without judgements."""
    if not rows:
        return
    head = ["ordered by", *(cell for words in _FIGURES.values() for cell in (words, "tower above"))]
    title = f"{stream}: relevance, {rows[0].judged:,} judged items, {rows[0].lists:,} searches with both kinds"
    yield title, head, [[row.method, *_cells(row)] for row in rows]


def _cells(row: RelevanceRow) -> Iterator[str]:
    for name in _FIGURES:
        yield interval_cell(row.figures[name])
        yield "" if row.method == TOWER else difference_cell(row.tower_above[name])


def relevance_sentences(rows: Sequence[RelevanceRow]) -> Iterator[str]:
    """The relevance tower beside every other method."""
    for row in rows:
        if row.method != TOWER:
            yield (
                f"{row.stream}: the relevance tower is {row.tower_above['request_auc']} above the {row.method} within "
                f"searches, {row.tower_above['auc']} over all judged items"
            )
