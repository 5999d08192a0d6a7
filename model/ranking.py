"""How each list of a stream is ordered: one figure per list, which `model.evaluation` averages; NumPy throughout.

A list is what one request showed. Only one that holds both labels can be judged. Lists need not lie together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NDCG_AT = (5, 10)
"""Ranks down to which a list is judged."""


@dataclass(frozen=True)
class ListOrder:
    """What is said of each list, `(lists,)` each; not-a-number for a list of one label."""

    size: NDArray[np.int64]
    """Items of the list."""
    auc: NDArray[np.float64]
    """Share of its pairs of a positive and a negative that are in order, ties counted half."""
    mixed: NDArray[np.bool_]
    """Whether the list holds both labels."""


class _Sorted:
    """Items by list, then by falling score; runs of equal score within a list are ties."""

    def __init__(self, labels: ArrayLike, scores: ArrayLike, lists: ArrayLike) -> None:
        y, s = np.asarray(labels) > 0.5, np.asarray(scores, dtype=np.float64)
        _, own = np.unique(np.asarray(lists), return_inverse=True)
        order = np.lexsort((-s, own))
        self.label, score, self.list = y[order], s[order], own[order]
        first = np.diff(self.list, prepend=-1) != 0
        self.rank = np.arange(len(order)) - np.flatnonzero(first)[self.list]
        self._tied = np.cumsum(first | np.append(True, score[1:] != score[:-1])[: len(score)]) - 1
        self.positives = np.bincount(self.list, self.label)
        self.size = np.bincount(self.list)
        self.mixed = (self.positives > 0) & (self.positives < self.size)

    def shared(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Items of one score share the mean of their ranks' values, so that the order in which they came is nothing."""
        return np.asarray((np.bincount(self._tied, values) / np.bincount(self._tied))[self._tied])


def list_auc(labels: ArrayLike, scores: ArrayLike, lists: ArrayLike) -> ListOrder:
    """AUC of each list, in the order of the lists' names (Mann-Whitney).

    `labels`, `scores` and `lists` are `(n,)`; items of one list have an equal value in `lists`.

    >>> list_auc([0, 1, 0, 1], [0.1, 0.4, 0.3, 0.2], [7, 7, 8, 8]).auc
    array([1., 0.])
    """
    items = _Sorted(labels, scores, lists)
    below = items.size[items.list] - 1 - items.shared(items.rank.astype(np.float64))
    won = np.bincount(items.list, below * items.label) - items.positives * (items.positives - 1) / 2
    pairs = items.positives * (items.size - items.positives)
    area = np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=items.mixed)
    return ListOrder(items.size, area, items.mixed)


def list_ndcg(labels: ArrayLike, scores: ArrayLike, lists: ArrayLike, at: int) -> NDArray[np.float64]:
    """NDCG at `at` of each list, gains 0 and 1 (Jarvelin and Kekalainen, TOIS 2002), by name."""
    items = _Sorted(labels, scores, lists)
    discount = np.where(items.rank < at, 1.0 / np.log2(items.rank + 2.0), 0.0)
    best = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(at) + 2.0))])
    gain = np.bincount(items.list, items.shared(discount) * items.label)
    most = best[np.minimum(items.positives.astype(np.int64), at)]
    return np.asarray(np.divide(gain, most, out=np.full(len(gain), np.nan), where=items.mixed))


class ListWindow:
    """How the most recent lists that hold both labels were ordered, by arm. Three numbers a list and arm are kept."""

    def __init__(self, lists: int) -> None:
        if lists < 1:
            raise ValueError("a window holds at least one list")
        self._sizes: deque[int] = deque(maxlen=lists)
        self._orders: dict[str, deque[tuple[float, ...]]] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, labels: ArrayLike, scores: Mapping[str, ArrayLike], lists: ArrayLike) -> None:
        """Adds whole lists, `(n,)` items, oldest first: `lists` rises from list to list. Scores may be logits.

        Raises ValueError if arms come or go: their figures would be of different lists.
        """
        if self._orders and set(scores) != set(self._orders):
            raise ValueError(f"arms changed from {sorted(self._orders)} to {sorted(scores)}")
        orders = {arm: list_auc(labels, values, lists) for arm, values in scores.items()}
        for arm, order in orders.items():
            kept = [order.auc, *(list_ndcg(labels, scores[arm], lists, at) for at in NDCG_AT)]
            recent = self._orders.setdefault(arm, deque(maxlen=self._sizes.maxlen))
            recent.extend(tuple(row) for row in np.stack(kept, axis=1)[order.mixed].tolist())
        judged = next(iter(orders.values()))  # sizes and labels are the same for every arm
        self._sizes.extend(judged.size[judged.mixed].tolist())

    def summary(self) -> dict[str, dict[str, float]]:
        """By arm `request_auc`, weighted by items, and the means `ndcg_5` and `ndcg_10`; empty without a list."""
        if not self._sizes:
            return {}
        sizes = np.array(self._sizes)
        out = {}
        for arm, recent in self._orders.items():
            area, *gains = np.array(recent).T
            means = {f"ndcg_{at}": float(gain.mean()) for at, gain in zip(NDCG_AT, gains, strict=True)}
            out[arm] = {"request_auc": float(np.average(area, weights=sizes)), **means}
        return out
