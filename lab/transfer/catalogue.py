"""Rank of the items that a user clicked later in a whole catalogue: HR and NDCG at ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AT = 10


@dataclass(frozen=True)
class CatalogueMetrics:
    """One value per user, `(u,)`; NaN for a user without a relevant item."""

    hit: NDArray[np.float64]
    """HR: how often a relevant item is among the first `at`."""
    ndcg: NDArray[np.float64]
    """`1 / log2(rank + 1)` where it is, else 0."""


def rank_catalogue(
    score: NDArray[np.float32], relevant: NDArray[np.bool_], masked: NDArray[np.bool_], at: int = AT
) -> CatalogueMetrics:
    """Every relevant item of a user is ranked as if it were the only one, and the user's mean is taken.

    That is NineRec's leave-one-out (Zhang et al., 2309.07705, section 4) where a user has several: rivals are all items
    that are neither relevant nor `masked`, his history; a masked item counts neither way. All arrays `(u, m)`. Items of
    one score may stand in any order, so their ranks are shared.

    >>> order = rank_catalogue(np.array([[3.0, 2.0, 1.0]]), np.array([[False, True, False]]), np.zeros((1, 3), bool))
    >>> order.hit, order.ndcg.round(4)
    (array([1.]), array([0.6309]))
    """
    users = [_of_user(*row, at) for row in zip(score, relevant & ~masked, relevant | masked, strict=True)]
    return CatalogueMetrics(*np.array(users, dtype=np.float64).reshape(-1, 2).T)


def _of_user(
    score: NDArray[np.float32], relevant: NDArray[np.bool_], no_rival: NDArray[np.bool_], at: int
) -> tuple[float, float]:
    if not relevant.any():
        return np.nan, np.nan
    rivals, scores = np.sort(score[~no_rival]), score[relevant]
    above = len(rivals) - np.searchsorted(rivals, scores, side="right")
    ends = len(rivals) - np.searchsorted(rivals, scores, side="left") + 1
    gained = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(at) + 2.0))])
    first, last = np.minimum(above, at), np.minimum(ends, at)
    places = ends - above
    return float(((last - first) / places).mean()), float(((gained[last] - gained[first]) / places).mean())
