"""Recent mean of one arm's scores, and their shift against the first scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 10
_FLOOR = 1e-4  # share of an empty bin, which keeps the logarithm finite; usual with this index


def stability_index(reference: NDArray[np.float64], recent: NDArray[np.float64]) -> float:
    """Population stability index `sum((q - p) ln(q / p))` over the reference's decile bins.

    `p` and `q` are the shares of `reference` and `recent` (1-D, any length) per bin. The index is the symmetrised
    Kullback-Leibler divergence of the binned scores (Kullback and Leibler 1951; the name is credit scoring's). By
    custom, below 0.1 is calm and above 0.25 a shift. NaN if either is empty.
    """
    if not len(reference) or not len(recent):
        return float("nan")
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    p, q = (
        np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1) / len(scores)
        for scores in (reference, recent)
    )
    p, q = np.maximum(p, _FLOOR), np.maximum(q, _FLOOR)
    return float(np.sum((q - p) * np.log(q / p)))


class ScoreWindow:
    """Scores of one arm of one group: the first `size`, which are kept, and the last `size`."""

    def __init__(self, size: int = 5_000, mean_size: int = 1_000) -> None:
        self._first = np.empty(size)
        self._recent = np.empty(size)
        self._mean_size = min(mean_size, size)
        self._seen = 0

    def add(self, scores: NDArray[np.float32]) -> None:
        """Adds the scores of one request, `(n,)`."""
        size = len(self._first)
        if self._seen < size:
            head = scores[: size - self._seen]
            self._first[self._seen : self._seen + len(head)] = head
        tail = scores[-size:]
        start = (self._seen + len(scores) - len(tail)) % size
        end = min(start + len(tail), size)
        self._recent[start:end] = tail[: end - start]
        self._recent[: len(tail) - (end - start)] = tail[end - start :]
        self._seen += len(scores)

    def mean(self) -> float:
        """Mean of the last thousand scores; NaN before the first."""
        count = min(self._seen, self._mean_size)
        if not count:
            return float("nan")
        last = np.arange(self._seen - count, self._seen) % len(self._recent)
        return float(self._recent[last].mean())

    def shift(self) -> float:
        """Stability index of the last scores against the first; NaN until both windows are full and disjoint."""
        if self._seen < 2 * len(self._first):
            return float("nan")
        return stability_index(self._first, self._recent)
