"""Excess of one arm's log loss over another's, as the tables of wrong labels show it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

WINDOW = 5_000
"""Examples."""


def worst_excess(live: NDArray[np.float64], frozen: NDArray[np.float64], window: int = WINDOW) -> float:
    """Largest excess of losses `(n,)` over `window` in a row; over all where there are fewer."""
    size = min(window, len(live))
    above, below = (np.concatenate([[0.0], np.cumsum(losses)]) for losses in (live, frozen))
    return float(((above[size:] - above[:-size]) / (below[size:] - below[:-size])).max() - 1.0)


def percent(values: Iterable[float]) -> str:
    """Values as percentages with one digit, with commas."""
    return ", ".join(f"{100 * value:+.1f}" for value in values)
