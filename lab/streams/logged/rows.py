"""The rows of a log before they become requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.streams.conversions import Conversions
from lab.streams.stream import Chunk


@dataclass(frozen=True)
class LogRows:
    """A log's rows in any order, before they become requests; all arrays `(rows,)`."""

    user: NDArray[np.object_]
    item: NDArray[np.object_]
    time: NDArray[np.float64]
    click: NDArray[np.bool_]
    scene: NDArray[np.object_]
    region: NDArray[np.object_]
    period: NDArray[np.object_]
    request: NDArray[np.object_] | None = None
    """Rows of equal value and user are one request; none: see `LogMapping.gap_s`."""
    converted: NDArray[np.float32] | None = None
    """Seconds from the click to the conversion, NaN for a row without one; None for a log without conversions."""
    query: NDArray[np.object_] | None = None
    """The user's query, empty for a recommendation; None for a log without queries."""
    relevance: NDArray[np.float32] | None = None
    """Relevance of the item to the query, NaN where nobody judged it; None for a log without judgements."""


def log_chunk(  # noqa: PLR0917 -- the columns of a chunk
    time: NDArray[np.float64],
    user: NDArray[np.int64],
    domain: NDArray[np.int64],
    items: NDArray[np.int64],
    click: NDArray[np.bool_],
    converted: NDArray[np.float32] | None = None,
    query: NDArray[np.int64] | None = None,
    relevance: NDArray[np.float32] | None = None,
) -> Chunk:
    """Requests in time order; nobody knows the probabilities of a log, and its delays are taken as none.

    `converted` `(r, k)` as in `LogRows`, `query` `(r,)` and `relevance` `(r, k)` as in `Chunk`.
    """
    unknown, none = np.full(items.shape, np.nan, dtype=np.float32), np.zeros(items.shape, dtype=np.float32)
    conversions = None
    if converted is not None:
        happened = ~np.isnan(converted)
        conversions = Conversions(happened, np.where(happened, converted, none), unknown)
    chunk = Chunk(time, user, domain, items, click, click, unknown, none, conversions, query, relevance)
    return chunk.rows(np.argsort(time, kind="stable"))
