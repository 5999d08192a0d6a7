"""A mean over seeds with its confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special  # type: ignore[import-untyped,unused-ignore]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its two-sided 95 % confidence interval (Student's t over the seeds)."""

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f}" + ("" if np.isnan(self.half_width) else f" ±{self.half_width:.4f}")

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


def interval(values: Sequence[float] | NDArray[np.float64]) -> Interval:
    """Mean and interval of one value per seed; values that are not numbers are left out.

    >>> interval([1.0, 1.0, 1.0])
    Interval(mean=1.0, half_width=0.0)
    """
    known = np.asarray([v for v in values if not np.isnan(v)], dtype=np.float64)
    if known.size == 0:
        return Interval(float("nan"), float("nan"))
    if known.size == 1:
        return Interval(float(known[0]), float("nan"))
    error = float(known.std(ddof=1) / np.sqrt(known.size))
    # Student's t without `scipy.stats`, which takes three times as long to import as all else of SciPy here.
    return Interval(float(known.mean()), float(special.stdtrit(known.size - 1, (1 + CONFIDENCE) / 2)) * error)
