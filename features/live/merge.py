"""Merges live rows for a kernel group that takes over domains of other groups.

Sums are decayed to the newest time and added, and histories are joined. The new group gets everything that a parent
knows about a user or an item, even if it takes only part of the parent's domains. Rows of domains and of facet values
are taken with their domain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.live.history import HISTORY, joined_history
from features.live.layout import OVERALL, Doubles, Kind, LiveLayout, LiveRow
from features.live.tasks import as_conversions, split_by_task
from model.encoding.domain import FACETS, Domain


@dataclass(frozen=True)
class ParentRows:
    """The live rows of a parent group, and which of its domains the new group takes."""

    rows: Sequence[LiveRow]
    taken: Collection[str]
    """Keys of the domains that the new group takes."""
    whole: bool
    """Whether these are all domains of the parent."""


def merge_rows(layout: LiveLayout, parents: Sequence[ParentRows]) -> list[LiveRow]:
    """The first rows of a group that takes over from its parents, for clicks and for conversions."""
    tasks = [[replace(parent, rows=split_by_task(parent.rows)[task]) for parent in parents] for task in (0, 1)]
    clicks, conversions = (_merged(layout, of_task) for of_task in tasks)
    return [*clicks, *as_conversions(conversions)]


def _merged(layout: LiveLayout, parents: Sequence[ParentRows]) -> list[LiveRow]:
    merged: dict[tuple[Kind, str], LiveRow] = {}
    for parent in parents:
        for row in _taken(parent):
            key = (row.kind, row.key)
            merged[key] = _sum(layout, merged[key], row) if key in merged else row
    return list(merged.values())


def _taken(parent: ParentRows) -> Iterable[LiveRow]:
    """The rows that belong to the domains that the new group takes; users and items belong to every domain."""
    facets = {
        f"{name}={value}" for key in parent.taken for name, value in zip(FACETS, Domain.parts_of(key), strict=True)
    }
    for row in parent.rows:
        if row.tombstone:
            continue
        if row.kind == "domain":
            if row.key in parent.taken:
                yield row
                if not parent.whole:  # the overall row sums over domains that the new group does not take
                    yield replace(row, key=OVERALL)
            elif row.key == OVERALL and parent.whole:
                yield row
        elif row.kind != "facet" or row.key in facets:
            yield row


def _sum(layout: LiveLayout, first: LiveRow, second: LiveRow) -> LiveRow:
    if first.kind == HISTORY:
        return joined_history(layout.history, first, second)
    newest = max(first.updated_at, second.updated_at)
    values = _decayed(layout, first, newest) + _decayed(layout, second, newest)
    return LiveRow(first.kind, first.key, newest, values.astype(np.float32))


def _decayed(layout: LiveLayout, row: LiveRow, newest: float) -> Doubles:
    half_lives = np.array([*layout.half_lives, np.inf])[layout.decay_columns(row.kind)]
    decayed: Doubles = row.values.astype(np.float64) * np.exp2(-(newest - row.updated_at) / half_lives)
    return decayed
