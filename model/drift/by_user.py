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

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.gate.decayed_mass import DecayedMass, key_of
from model.gate.scored_examples import Doubles, ScoredExamples

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
_BITS = 52
"""Bits of a user's key, the most that a double holds exactly."""


class UserEvidence:
    """How much each user has lately brought to one group, and the estimated spread of the users' effects."""

    def __init__(self) -> None:
        self._brought = DecayedMass(_HALF_LIFE)
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
        users, user_of_request = seen.users
        at = user_of_request[seen.request]
        size = np.bincount(at).astype(np.float64)
        self._brought.pass_by(len(at))
        slots = self._brought.slots(users)
        key = np.array([key_of(user) >> (64 - _BITS) for user in users], dtype=np.float64)
        each, had = self.spread * _VARIANCE, self._brought.at(slots)
        self._brought.add(slots, size)
        weight = 1.0 / ((1.0 + each * had) * (1.0 + each * (had + size)))
        return key[at], weight[at]

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
        return {"brought": self._brought.state(), "spread": spread, "lots": [[*lot] for lot in self._lots]}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._brought.load(state["brought"])
        self._excess, self._squares, self._believed = (float(value) for value in state["spread"])
        self._lots = [(float(examples), float(excess), float(squares)) for examples, excess, squares in state["lots"]]
