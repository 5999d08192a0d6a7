"""KSWIN (Raab, Heusinger and Schleif, Reactive soft prototype computing for drift streams, Neurocomputing, 2020).

It fires exactly where river's implementation does, without a statistical test at each value: both samples have the same
size, so the exact test gives one critical distance for all of them (`critical_distance`).
"""

from __future__ import annotations

import math
import random
from collections import deque

import numpy as np

_LEAST = 0.1
"""Distances below this never count, as in river."""


class KswinWindow:
    """Compares the newest `sample` values of a window with as many drawn from the rest of it."""

    def __init__(self, alpha: float, window: int, sample: int, seed: int) -> None:
        self.drift_detected = False
        self._values: deque[float] = deque(maxlen=window)
        self._window, self._sample, self._seed = window, sample, seed
        self._critical = max(critical_distance(sample, alpha), math.floor(_LEAST * sample) + 1)
        self._random = random.Random(seed)

    def update(self, x: float) -> None:
        """Takes a value; `drift_detected` says whether the newest values differ. After a drift the window is
        cleared."""
        if self.drift_detected:
            self._values.clear()
            self._random = random.Random(self._seed)
        self._values.append(x)
        self.drift_detected = len(self._values) == self._window and self._distance() >= self._critical

    def _distance(self) -> int:
        """Largest difference of the distribution functions of both samples, in values."""
        values, old = np.array(self._values), self._window - self._sample
        drawn = np.sort(values[self._random.sample(range(old), self._sample)])
        newest = np.sort(values[old:])
        every = np.concatenate([drawn, newest])
        below = drawn.searchsorted(every, side="right") - newest.searchsorted(every, side="right")
        return int(np.abs(below).max())


def critical_distance(n: int, alpha: float) -> int:
    """Least k such that two samples of `n` values of one distribution are k/n apart with probability <= alpha.

    P(D >= k/n) = 2 sum over i >= 1 of (-1)^(i+1) C(2n, n - i k) / C(2n, n)   (Gnedenko and Korolyuk, 1951)
    """
    for k in range(1, n + 1):
        paths = sum((-1) ** (i + 1) * math.comb(2 * n, n - i * k) for i in range(1, n // k + 1))
        if 2 * paths / math.comb(2 * n, n) <= alpha:
            return k
    return n + 1
