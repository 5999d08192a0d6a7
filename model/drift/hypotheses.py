"""Hypotheses of how labels may have changed, each with the click probability that it predicts (ours).

`p` is the expected probability, `m` its mean. The hypotheses by cause:

    taste    (1 - s) p + s q m   for a share s, the old taste predicts nothing, and the click rate is q times the mean
    flipped  (1 - s) p + s (1 - p)
    lost     (1 - s) p
    fake     p + s (1 - p)

A change of taste hardly raises the clicks on items that nobody liked; flipped and fake labels do. Lost clicks keep the
order of the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_FLOOR = 1e-4


class Cause(StrEnum):
    """Cause of a change of the labels."""

    TASTE = "taste"
    LABELS = "labels"


@dataclass(frozen=True)
class Hypothesis:
    """One way in which a click's probability `p` may change: `keep p + add_mean m + add`."""

    name: str
    cause: Cause
    keep: float
    add_mean: float = 0.0
    add: float = 0.0


def _taste(share: float, liked: float) -> Hypothesis:
    return Hypothesis("taste", Cause.TASTE, 1 - share, share * liked)


HYPOTHESES = (
    _taste(0.35, 0.4),
    _taste(0.7, 0.4),
    _taste(0.35, 1.0),
    _taste(0.7, 1.0),
    _taste(0.2, 2.0),
    Hypothesis("flipped", Cause.LABELS, 0.7, add=0.15),
    Hypothesis("flipped", Cause.LABELS, 0.4, add=0.3),
    Hypothesis("flipped", Cause.LABELS, -0.8, add=0.9),
    Hypothesis("lost", Cause.LABELS, 0.65),
    Hypothesis("lost", Cause.LABELS, 0.2),
    Hypothesis("fake", Cause.LABELS, 0.8, add=0.2),
    Hypothesis("fake", Cause.LABELS, 0.5, add=0.5),
)
CAUSES = tuple(hypothesis.cause for hypothesis in HYPOTHESES)
_KEEP, _MEAN, _ADD = (
    np.array([getattr(hypothesis, part) for hypothesis in HYPOTHESES])[:, None] for part in ("keep", "add_mean", "add")
)


def log_ratios(label: Doubles, p: Doubles, mean: float) -> Doubles:
    """Log likelihood ratio of labels under each hypothesis against the expectation `p`, nats, `(hypotheses, n)`.

    Labels are 0 or 1 `(n,)`, `p` `(n,)`.
    """
    other = _KEEP * p
    other += _MEAN * mean + _ADD
    np.maximum(np.minimum(other, 1 - _FLOOR, out=other), _FLOOR, out=other)
    clicked = label > 0
    np.subtract(1.0, other, out=other, where=~clicked)
    other /= np.where(clicked, p, 1 - p)
    return np.log(other, out=other)
