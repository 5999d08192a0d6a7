"""Which rows of a log converted, and how long after the click."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from lab.streams.logged.mapping import ConversionRule, LabelRule
from lab.streams.logged.rows import LogRows
from lab.streams.logged.tables import Table
from lab.streams.stream import StreamError

log = logging.getLogger(__name__)


def conversion_delays(rule: ConversionRule, table: Table, rows: LogRows) -> NDArray[np.float32]:
    """Seconds from each row's click to its conversion, nan where there is none, `(rows,)`.

    A conversion without a click does not count (a warning says how many). Raises StreamError for a rule that fits no
    clicked row or each of them, and for a conversion before its click.
    """
    marked = _marked(rule, table)
    happened = marked & rows.click
    stray = int((marked & ~rows.click).sum())
    if not happened.any() or not (rows.click & ~happened).any():
        which = "every" if happened.any() else "no"
        raise StreamError(f"{table.source}: {which} click is a conversion; correct the conversion rule in the mapping")
    if stray:
        log.warning("%s: %d conversions on rows that are no click do not count", table.source, stray)
    if rule.time is None:
        return np.where(happened, 0.0, np.nan).astype(np.float32)
    delay = table.known_times(rule.time, happened) - rows.time
    early = happened & (delay < 0)
    if early.any():
        row = int(np.flatnonzero(early)[0])
        raise StreamError(
            f"{table.source}: column {rule.time.column!r} (conversion), row {row + 1}: {-delay[row]:g} s before the "
            "interaction itself; correct or drop such rows, or leave conversion.time out of the mapping"
        )
    return delay.astype(np.float32)


def _marked(rule: ConversionRule, table: Table) -> NDArray[np.bool_]:
    """The rows that the rule calls conversions."""
    if rule.column is not None:
        return table.labels(LabelRule(column=rule.column, at_least=rule.at_least, among=rule.among), "conversion")
    assert rule.time is not None
    return np.array([text is not None for text in table.texts(rule.time.column, "conversion")], dtype=bool)
