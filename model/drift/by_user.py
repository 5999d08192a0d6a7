"""How much evidence an example is when one user's examples depend on each other (ours).

A user who rates a hundred films in a row has preferences that the frozen model does not know. Let `V` be the sum of
`p (1 - p)`, the variance of his labels without them, and `spread` the variance of a normal effect per user on the
logit. His residuals then add up to a variance of `V (1 + spread V)`, so he counts as evidence for `V / (1 + spread V)`.
What he adds to the `had` that he has lately brought is therefore weighted by

    1 / ((1 + spread had) (1 + spread (had + V)))

as in the gate (`model.gate.labels`). The spread is no setting. It is estimated from the squares of users' summed
residuals, which exceed their variance only if users have such preferences. Where they have none, the spread is 0 and
every example counts in full (docs/decisions/0139).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from model.gate.scored_examples import Doubles, ScoredExamples
from model.gate.shares import KEYS, key_of

_HALF_LIFE = 5_000.0
"""Half-life of what a user has brought, in examples of the group."""
_VARIANCE = 0.16
"""Assumed variance of one example's label."""
_SPREAD_HALF_LIFE = 10_000.0
"""In examples; long beside the span in which drift is announced, because a change that begins is no user preference."""
_ERRORS = 2.0
"""Standard errors subtracted from the estimate of the spread, so that noise alone gives a spread of 0."""
_LEAST = 1.0
_DOUBTED = 2_000.0
"""Examples whose excess waits before it enters the estimate, because within that span it may turn out to be a
change."""
_LARGEST = 1e9
_BITS = 52
"""Bits of a user's key, the most that a double holds exactly."""


class UserEvidence:
    """How much each user has lately brought to one group, and the estimated spread of the users' effects."""

    def __init__(self) -> None:
        self._brought: dict[int, float] = {}
        """What each user has lately brought, in a unit that grows: so users who bring nothing need no update."""
        self._unit = 1.0
        self._key = lru_cache(2 * KEYS)(_key)
        self._excess, self._squares, self._believed = 0.0, _LEAST, 0.0
        self._lots: list[tuple[float, float, float]] = []
        """Examples, excess and squared variances of recent micro-batches that may still turn out to be a change."""

    @property
    def spread(self) -> float:
        """Estimated variance of a user's own effect on the logit, lowered by `_ERRORS` standard errors.

        With no such effect, a user's excess has a variance of about `2 V^2`, as the square of a normal number has.
        """
        return max(0.0, self._excess - _ERRORS * math.sqrt(2.0 * self._squares)) / self._squares

    def weigh(self, seen: ScoredExamples) -> tuple[Doubles, Doubles]:
        """Key of each example's user and what the example weighs as evidence, 0 to 1, `(n,)` each."""
        keys, sizes = [self._key(user) for user in seen.user], np.bincount(seen.request).tolist()
        brings: dict[int, int] = {}
        for key, size in zip(keys, sizes, strict=True):
            brings[key] = brings.get(key, 0) + size
        self._pass_by(len(seen.label))
        each, weight, brought = self.spread * _VARIANCE, {}, self._brought
        for key, size in brings.items():
            had = brought.get(key, 0.0) / self._unit
            weight[key] = 1.0 / ((1.0 + each * had) * (1.0 + each * (had + size)))
            brought[key] = (had + size) * self._unit
        return (
            np.array(keys, dtype=np.float64)[seen.request],
            np.array([weight[key] for key in keys])[seen.request],
        )

    def _pass_by(self, examples: int) -> None:
        self._unit *= 2.0 ** (examples / _HALF_LIFE)
        if len(self._brought) > 2 * KEYS or self._unit > _LARGEST:
            kept = heapq.nlargest(KEYS, self._brought.items(), key=lambda pair: (pair[1], pair[0]))
            self._brought, self._unit = {key: mass / self._unit for key, mass in sorted(kept)}, 1.0

    def see(self, key: Doubles, p: Doubles, label: Doubles) -> None:
        """Takes examples with their users' keys, expected click probabilities `p` and labels, `(n,)` each."""
        _, of = np.unique(key, return_inverse=True)
        variance = np.bincount(of, p * (1 - p))
        excess = np.bincount(of, label - p) ** 2 - variance
        self._lots.append((float(len(key)), float(excess.sum()), float((variance**2).sum())))
        if self._believed < _DOUBTED or sum(examples for examples, *_ in self._lots) > _DOUBTED:
            self._believe(*self._lots.pop(0))

    def _believe(self, examples: float, excess: float, squares: float) -> None:
        kept = 2.0 ** (-examples / _SPREAD_HALF_LIFE)
        self._excess, self._squares = kept * self._excess + excess, kept * self._squares + squares
        self._believed += examples

    def doubt(self) -> None:
        """Discards the recent examples from the estimate, because they were a change of all and no user effects."""
        self._lots.clear()

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        spread = [self._excess, self._squares, self._believed]
        brought = [[key, mass] for key, mass in self._brought.items()]
        return {"brought": brought, "unit": self._unit, "spread": spread, "lots": [[*lot] for lot in self._lots]}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._brought = {int(key): float(mass) for key, mass in state["brought"]}
        self._unit = float(state["unit"])
        self._excess, self._squares, self._believed = (float(value) for value in state["spread"])
        self._lots = [(float(examples), float(excess), float(squares)) for examples, excess, squares in state["lots"]]


def _key(user: str) -> int:
    return key_of(user) >> (64 - _BITS)
