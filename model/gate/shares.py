"""Limits the share of learning of each user and item: examples beyond a name's budget weigh nothing (ours).

The mass that a name has brought halves every so many examples of the stream. Its budget is its share of the mass of all
names, and the examples that it brings in a micro-batch weigh as much as is left of the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.config import GateConfig
from model.gate.decayed_mass import DecayedMass
from model.gate.scored_examples import Doubles, ScoredExamples

HALF_LIFE = 5_000.0
_LEAST = 1_000.0
"""Least mass of all names that a budget is computed from, because a stream's first users are few."""


class ShareCap:
    """Weights that keep each name of one kind (user or item) within its share."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._mass = DecayedMass(HALF_LIFE)

    def weigh(self, names: Sequence[str], examples: NDArray[np.int64]) -> Doubles:
        """Weights, 0 to 1, `(k,)`, of a micro-batch's parts, each of which brings so many `examples` `(k,)` of a name.

        Names may repeat. All examples of a name weigh the same, whatever their order in the micro-batch.
        """
        mass = self._mass
        mass.pass_by(int(examples.sum()))
        slots = mass.slots(names)
        brought = np.bincount(slots, examples)[slots]
        left = self._share * max(_LEAST, mass.whole) - mass.at(slots)
        weight = np.minimum(1.0, np.maximum(left, 0.0) / brought)
        mass.add(slots, weight * examples)
        return np.asarray(weight)

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return self._mass.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._mass.load(state)


class ShareCaps:
    """Weights of examples by what both their user and their item may teach."""

    def __init__(self, config: GateConfig) -> None:
        self._users, self._items = ShareCap(config.user_share), ShareCap(config.item_share)

    def weigh(self, seen: ScoredExamples) -> Doubles:
        """Weight, 0 to 1, of each example, `(n,)`: the smaller of the two."""
        _, sizes = seen.requests_at
        user = self._users.weigh(seen.user, sizes)
        item = self._items.weigh(seen.item, np.ones(len(seen.item), dtype=np.int64))
        return np.asarray(np.minimum(user[seen.request], item))

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"users": self._users.state(), "items": self._items.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._users.load(state["users"])
        self._items.load(state["items"])
