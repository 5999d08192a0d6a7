"""Limits the share of learning of each user and item: examples beyond a key's budget weigh nothing (ours).

The mass that a key has brought halves every so many examples of the stream. Its budget is its share of the mass of all
keys, and an example weighs as much as is left of the budget. Only the heaviest keys are stored, so memory is bounded: a
dropped key had less than one `KEYS`-th of the whole.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

from model.gate.config import GateConfig
from model.gate.scored_examples import Doubles, ScoredExamples

HALF_LIFE = 5_000.0
KEYS = 512
_LEAST = 1_000.0
"""Least mass of all keys that a budget is computed from, because a stream's first users are few."""


class DecayedMass:
    """Mass in examples that each key has brought; it halves every `half_life` examples of the stream."""

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._mass: dict[int, tuple[float, int]] = {}
        self._examples = 0
        self._whole: tuple[float, int] = (0.0, 0)

    def pass_by(self, examples: int) -> None:
        """Advances the decay by `examples` examples of the stream."""
        self._examples += examples

    def __getitem__(self, key: int) -> float:
        return self._decayed(self._mass.get(key, (0.0, self._examples)))

    @property
    def whole(self) -> float:
        """Mass of all keys together."""
        return self._decayed(self._whole)

    def add(self, key: int, mass: float) -> None:
        """Adds `mass` to a key."""
        self.put(key, self[key] + mass, self.whole + mass)

    def put(self, key: int, mass: float, whole: float) -> None:
        """Sets the mass of a key and of all keys together, for a caller that has already computed both."""
        self._mass[key], self._whole = (mass, self._examples), (whole, self._examples)
        if len(self._mass) > 2 * KEYS:
            kept = heapq.nlargest(KEYS, self._mass.items(), key=lambda pair: (self._decayed(pair[1]), pair[0]))
            self._mass = dict(sorted(kept))

    def _decayed(self, mass: tuple[float, int]) -> float:
        return float(mass[0] * 2.0 ** ((mass[1] - self._examples) / self._half_life))

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        mass = [[key, *mass] for key, mass in self._mass.items()]
        return {"examples": self._examples, "whole": list(self._whole), "mass": mass}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._examples = int(state["examples"])
        self._whole = (float(state["whole"][0]), int(state["whole"][1]))
        self._mass = {int(key): (float(mass), int(at)) for key, mass, at in state["mass"]}


@lru_cache(maxsize=8_192)
def key_of(name: str) -> int:
    """A 64-bit hash of a name of any length."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


class ShareCap:
    """Weights that keep each key of one kind (user or item) within its share."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._mass = DecayedMass(HALF_LIFE)

    def weigh(self, keys: Iterable[tuple[str, int]]) -> list[float]:
        """Weights, 0 to 1, for a sequence of keys, each with the number of examples that it brings now."""
        return [self._weigh(key_of(name), examples) for name, examples in keys]

    def _weigh(self, key: int, examples: int) -> float:
        mass = self._mass
        mass.pass_by(examples)
        whole, had = mass.whole, mass[key]
        left = self._share * max(_LEAST, whole) - had
        weight = min(1.0, max(0.0, left) / examples)
        mass.put(key, had + weight * examples, whole + weight * examples)
        return weight

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
        sizes = np.bincount(seen.request).tolist()
        user = np.array(self._users.weigh(zip(seen.user, sizes, strict=True)))
        item = np.array(self._items.weigh((item, 1) for item in seen.item))
        return np.asarray(np.minimum(user[seen.request], item))

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"users": self._users.state(), "items": self._items.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._users.load(state["users"])
        self._items.load(state["items"])
