"""Results of each adapter on items and users that pretraining saw often, seldom or never."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.evaluate.cells import interval_cell
from lab.evaluate.named_tables import NamedTable
from lab.evaluate.slices import FIGURES

if TYPE_CHECKING:
    from lab.evaluate.report import StreamReport


def slice_tables(stream: StreamReport) -> Iterator[NamedTable]:
    """Title, head and cells: what the slices of a stream hold, then a table per figure; empty slices are left out."""
    held = {name: row for name, row in stream.rows[0].slices.items() if row.examples > 0}
    if not held:
        return
    sizes = [[name, f"{row.examples:,.0f}", f"{row.lists:,.0f}"] for name, row in held.items()]
    title = f"{stream.name}: slices by what pretraining saw of item and user, and what was asked"
    yield title, ["slice", "examples", "requests with both labels"], sizes
    for figure, words in FIGURES.items():
        body = [
            [row.adapter, *(interval_cell(getattr(row.slices[name], figure)) for name in held)] for row in stream.rows
        ]
        yield f"{stream.name}: {words} by slice", ["adapter", *held], body
