"""The rows of a log before they become requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def log_chunk(
    time: NDArray[np.float64],
    user: NDArray[np.int64],
    domain: NDArray[np.int64],
    items: NDArray[np.int64],
    click: NDArray[np.bool_],
) -> Chunk:
    """Requests in time order; nobody knows the probabilities of a log, and its delays are taken as none."""
    unknown = np.full(items.shape, np.nan, dtype=np.float32)
    chunk = Chunk(time, user, domain, items, click, click, unknown, np.zeros(items.shape, dtype=np.float32))
    return chunk.rows(np.argsort(time, kind="stable"))
