"""The best reachable figures: the click model's true probabilities measured as scores (ours)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def oracle_auc(probability: NDArray[np.floating]) -> float:
    """Expected AUC of a scorer that knows every click probability; any shape in, nan without both labels possible.

    Sum over pairs of p_i (1 - p_j) where i is ranked above j (ties count half), over the sum over all pairs.
    """
    p = np.sort(probability.ravel().astype(np.float64))
    miss = 1.0 - p
    values, first = np.unique(p, return_index=True)
    positive = np.add.reduceat(p, first) if p.size else np.zeros(0)
    negative = np.add.reduceat(miss, first) if p.size else np.zeros(0)
    pairs = p.sum() * miss.sum()
    if values.size == 0 or pairs <= 0:
        return float("nan")
    below = np.cumsum(negative) - negative
    # Pairs of an example with itself are in both sums: they count half and vanish as the stream grows.
    return float(np.sum(positive * (below + negative / 2)) / pairs)


def oracle_log_loss(probability: NDArray[np.floating]) -> float:
    """Expected log loss of that scorer: the entropy of the labels, nats."""
    p = np.clip(probability.ravel().astype(np.float64), 1e-12, 1 - 1e-12)
    return float(np.mean(-p * np.log(p) - (1 - p) * np.log1p(-p)))
