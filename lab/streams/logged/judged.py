"""How relevant the items of a log are to the queries they were shown for."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from lab.streams.logged.mapping import RelevanceRule
from lab.streams.logged.tables import Table
from lab.streams.stream import StreamError

log = logging.getLogger(__name__)


def judgements(rule: RelevanceRule, table: Table, query: NDArray[np.object_]) -> NDArray[np.float32]:
    """Relevance of each row's item to the row's query, from 0 to 1, nan where nobody judged it, `(rows,)`.

    `query` is empty for a recommendation, whose judgement does not count (a warning says how many). Raises StreamError
    for a number outside 0 to 1, and where all judgements are the same.
    """
    known = np.array([text is not None for text in table.texts(rule.column, "relevance")], dtype=bool)
    if rule.at_least is None and rule.among is None:
        grade = table.numbers(rule.column, "relevance")
        wrong = known & ~((grade >= 0) & (grade <= 1))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise StreamError(
                f"{table.source}: column {rule.column!r} (relevance), row {row + 1}: {grade[row]:g} is not between 0 "
                "and 1; scale the column, or add at_least or among to relevance in the mapping"
            )
    else:
        grade = table.labels(rule, "relevance").astype(np.float64)
    searched = np.array([bool(text) for text in query], dtype=bool)
    if stray := int((known & ~searched).sum()):
        log.warning("%s: %d judgements of relevance on rows without a query do not count", table.source, stray)
    grade = np.where(known & searched, grade, np.nan)
    if len(np.unique(grade[known & searched])) < 2:
        raise StreamError(
            f"{table.source}: column {rule.column!r} (relevance) judges no row of a search, or all of them alike; "
            "correct the relevance rule in the mapping, or leave it out"
        )
    return grade.astype(np.float32)
