"""Ranking quality of each list of a stream: one figure per list, averaged by `model.evaluation`; NumPy throughout.

A list holds the items that one request showed. Only a list with both labels can be judged. A list's items need not be
adjacent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NDCG_AT = (5, 10)
"""Ranks at which NDCG is cut off."""
_JUDGED_ITEMS = 4_096
"""Items that `ListWindow` collects before it judges them."""


@dataclass(frozen=True)
class ListMetrics:
    """Figures of each list, `(lists,)` each; NaN for a list with one label only."""

    size: NDArray[np.int64]
    """Items of the list."""
    auc: NDArray[np.float64]
    """Share of the list's pairs of a positive and a negative that are ordered correctly; ties count half."""
    mixed: NDArray[np.bool_]
    """Whether the list holds both labels."""


class _Sorted:
    """Items sorted by list, then by descending score; equal scores within a list are ties."""

    def __init__(self, labels: ArrayLike, scores: ArrayLike, lists: ArrayLike) -> None:
        y, s = np.asarray(labels) > 0.5, np.asarray(scores, dtype=np.float64)
        _, index = np.unique(np.asarray(lists), return_inverse=True)
        order = np.lexsort((-s, index))
        self.label, score, self.list = y[order], s[order], index[order]
        first = np.diff(self.list, prepend=-1) != 0
        self.rank = np.arange(len(order)) - np.flatnonzero(first)[self.list]
        self._tied = np.cumsum(first | np.append(True, score[1:] != score[:-1])[: len(score)]) - 1
        self.positives = np.bincount(self.list, self.label)
        self.size = np.bincount(self.list)
        self.mixed = (self.positives > 0) & (self.positives < self.size)

    def _shared(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gives tied items the mean of their ranks' values, so that their input order does not matter."""
        return np.asarray((np.bincount(self._tied, values) / np.bincount(self._tied))[self._tied])

    def auc(self) -> NDArray[np.float64]:
        """AUC of each list; NaN for a list with one label only."""
        below = self.size[self.list] - 1 - self._shared(self.rank.astype(np.float64))
        won = np.bincount(self.list, below * self.label) - self.positives * (self.positives - 1) / 2
        pairs = self.positives * (self.size - self.positives)
        return np.asarray(np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=self.mixed))

    def ndcg(self, at: int) -> NDArray[np.float64]:
        """NDCG at `at` of each list; NaN for a list with one label only."""
        discount = np.where(self.rank < at, 1.0 / np.log2(self.rank + 2.0), 0.0)
        best = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(at) + 2.0))])
        gain = np.bincount(self.list, self._shared(discount) * self.label)
        most = best[np.minimum(self.positives.astype(np.int64), at)]
        return np.asarray(np.divide(gain, most, out=np.full(len(gain), np.nan), where=self.mixed))


def list_auc(labels: ArrayLike, scores: ArrayLike, lists: ArrayLike) -> ListMetrics:
    """AUC of each list, in the sorted order of the lists' values (Mann-Whitney).

    `labels`, `scores` and `lists` are `(n,)`; items of one list have an equal value in `lists`.

    >>> list_auc([0, 1, 0, 1], [0.1, 0.4, 0.3, 0.2], [7, 7, 8, 8]).auc
    array([1., 0.])
    """
    items = _Sorted(labels, scores, lists)
    return ListMetrics(items.size, items.auc(), items.mixed)


def list_ndcg(labels: ArrayLike, scores: ArrayLike, lists: ArrayLike, at: int) -> NDArray[np.float64]:
    """NDCG at `at` of each list, gains 0 and 1 (Jarvelin and Kekalainen, TOIS 2002), in sorted order of the lists."""
    return _Sorted(labels, scores, lists).ndcg(at)


@dataclass(frozen=True)
class _Added:
    """Lists that were added and not judged yet."""

    labels: NDArray[np.generic]
    scores: Mapping[str, NDArray[np.generic]]
    lists: NDArray[np.int64]
    """List number of each item, from 0."""

    @staticmethod
    def joined(parts: Sequence[_Added]) -> _Added:
        starts = np.cumsum([0, *(part.lists.max() + 1 for part in parts[:-1])])
        return _Added(
            np.concatenate([part.labels for part in parts]),
            {arm: np.concatenate([part.scores[arm] for part in parts]) for arm in parts[0].scores},
            np.concatenate([part.lists + start for part, start in zip(parts, starts, strict=True)]),
        )


class ListWindow:
    """Ranking quality of the most recent lists with both labels, by arm. It keeps three numbers per list and arm.

    Added lists are judged many at a time, which costs hardly more than judging few (docs/decisions/0144).
    """

    def __init__(self, lists: int) -> None:
        if lists < 1:
            raise ValueError("a window holds at least one list")
        self._sizes: deque[int] = deque(maxlen=lists)
        self._orders: dict[str, deque[tuple[float, ...]]] = {}
        self._arms: set[str] = set()
        self._added: list[_Added] = []
        self._items = 0

    def __len__(self) -> int:
        self._judge()
        return len(self._sizes)

    def add(self, labels: ArrayLike, scores: Mapping[str, ArrayLike], lists: ArrayLike) -> None:
        """Adds whole lists, `(n,)` items, oldest first: `lists` must rise from list to list. Scores may be logits.

        Raises ValueError if the set of arms changes, because their figures would then be of different lists.
        """
        if self._arms and set(scores) != self._arms:
            raise ValueError(f"arms changed from {sorted(self._arms)} to {sorted(scores)}")
        self._arms = set(scores)
        _, index = np.unique(np.asarray(lists), return_inverse=True)
        arrays = {arm: np.asarray(values) for arm, values in scores.items()}
        self._added.append(_Added(np.asarray(labels), arrays, index))
        self._items += len(index)
        if self._items >= _JUDGED_ITEMS:
            self._judge()

    def _judge(self) -> None:
        if not self._items:
            return
        added, self._added, self._items = _Added.joined([part for part in self._added if len(part.lists)]), [], 0
        for arm, scores in added.scores.items():
            items = _Sorted(added.labels, scores, added.lists)
            kept = [items.auc(), *(items.ndcg(at) for at in NDCG_AT)]
            recent = self._orders.setdefault(arm, deque(maxlen=self._sizes.maxlen))
            recent.extend(tuple(row) for row in np.stack(kept, axis=1)[items.mixed].tolist())
        self._sizes.extend(items.size[items.mixed].tolist())  # equal for every arm

    def summary(self) -> dict[str, dict[str, float]]:
        """By arm `request_auc`, weighted by list size, and means `ndcg_5` and `ndcg_10`; empty if there are no
        lists."""
        self._judge()
        if not self._sizes:
            return {}
        sizes = np.array(self._sizes)
        out = {}
        for arm, recent in self._orders.items():
            area, *gains = np.array(recent).T
            means = {f"ndcg_{at}": float(gain.mean()) for at, gain in zip(NDCG_AT, gains, strict=True)}
            out[arm] = {"request_auc": float(np.average(area, weights=sizes)), **means}
        return out
