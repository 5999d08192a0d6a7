"""How much an example says where a user's examples hang together (ours).

A user who rates a hundred films in a row has leanings that the frozen model knows nothing of. With `V` the variance
that his labels would have without them, `sum of p (1 - p)`, and `spread` the variance of a normal effect per user on
the logit, his residuals add up to a variance of `V (1 + spread V)`: he is evidence as of `V / (1 + spread V)`. So what
he brings on top of what he has lately brought weighs

    1 / ((1 + spread had) (1 + spread (had + V)))

as in the gate (`model.gate.labels`). The spread is no setting: it follows from the squares of users' summed residuals,
which are larger than their variance where users have leanings, and no larger where they have none. So where they have
none, nothing is lost (docs/decisions/0139).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.gate.seen import Doubles, Seen
from model.gate.shares import DecayedMass, key_of

_HALF_LIFE = 5_000.0
"""Of what a user has brought, in examples of the group."""
_VARIANCE = 0.16
"""Of one example, about."""
_SPREAD_HALF_LIFE = 10_000.0
"""Examples; long beside those within which drift is to be announced: what users do when it begins is no leaning."""
_ERRORS = 2.0
"""Standard errors of the spread that are taken off: what is not shown is none."""
_LEAST = 1.0
_DOUBTED = 2_000.0
"""Examples within which a change is to be announced: so long what users do may be one, and is not believed yet."""
_BITS = 52
"""Of a user's key: a double holds so many exactly."""


class UserEvidence:
    """What each user has lately brought to one group, and how far users' leanings go."""

    def __init__(self) -> None:
        self._brought = DecayedMass(_HALF_LIFE)
        self._excess, self._squares, self._believed = 0.0, _LEAST, 0.0
        self._lots: list[tuple[float, float, float]] = []
        """Examples, excess and squared variances of what came lately, which may yet turn out to be a change."""

    @property
    def spread(self) -> float:
        """Variance of a user's own effect on the logit, as far as it is shown.

        Without any the excess of a user has a variance of about `2 V^2`, as the square of a normal number has.
        """
        return max(0.0, self._excess - _ERRORS * math.sqrt(2.0 * self._squares)) / self._squares

    def weigh(self, seen: Seen) -> tuple[Doubles, Doubles]:
        """Key of each example's user and what the example weighs as evidence, 0 to 1, `(n,)` each."""
        keys, sizes = [key_of(user) >> (64 - _BITS) for user in seen.user], np.bincount(seen.request).tolist()
        brings: Counter[int] = Counter()
        for key, size in zip(keys, sizes, strict=True):
            brings[key] += size
        self._brought.pass_by(len(seen.label))
        unit, weight = self.spread * _VARIANCE, {}
        for key, size in brings.items():
            had = self._brought[key]
            weight[key] = 1.0 / ((1.0 + unit * had) * (1.0 + unit * (had + size)))
            self._brought.add(key, size)
        return (
            np.array(keys, dtype=np.float64)[seen.request],
            np.array([weight[key] for key in keys])[seen.request],
        )

    def see(self, key: Doubles, p: Doubles, label: Doubles) -> None:
        """Takes examples that were expected to be clicked with probability `p`, and whose they are, `(n,)`."""
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
        """What came lately was a change of all, not users' leanings."""
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
