"""Finds the bias that gives logits a required mean probability."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WIDEST = 20.0
_HALVINGS = 50


def bias_for(logit: NDArray[np.float64], rate: float, weight: NDArray[np.float64] | None = None) -> float:
    """The bias at which the logits' (weighted) mean probability is `rate`; any shape, by bisection."""
    low, high = -_WIDEST, _WIDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        mean = float(np.average(1.0 / (1.0 + np.exp(-(logit + middle))), weights=weight))
        low, high = (middle, high) if mean < rate else (low, middle)
    return (low + high) / 2
