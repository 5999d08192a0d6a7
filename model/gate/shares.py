"""Limits the share of learning of each user and item: examples beyond a key's budget weigh nothing (ours).

The mass that a key has brought halves every so many examples of the stream. Its budget is its share of the mass of all
keys, and the examples that it brings in a micro-batch weigh as much as is left of the budget. Only the heaviest keys
are stored, so memory is bounded: a dropped key had less than one `KEYS`-th of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.config import GateConfig
from model.gate.scored_examples import Doubles, ScoredExamples, numbered

HALF_LIFE = 5_000.0
KEYS = 512
_LEAST = 1_000.0
"""Least mass of all keys that a budget is computed from, because a stream's first users are few."""
_LARGEST_UNIT = 2.0**64
"""The unit of the stored masses is set back to 1 beyond this value, long before a mass overflows."""


class DecayedMass:
    """Mass in examples that each key has brought; it halves every `half_life` examples of the stream.

    What is stored does not decay: a new example is added as `unit`, which doubles every `half_life` examples, and a
    mass is what is stored divided by the unit. So nothing is computed for keys that bring nothing.
    """

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._stored: dict[int, float] = {}
        self._whole = 0.0
        self._unit = 1.0

    def pass_by(self, examples: int) -> None:
        """Advances the decay by `examples` examples of the stream."""
        self._unit *= 2.0 ** (examples / self._half_life)
        if self._unit > _LARGEST_UNIT:
            self._stored = {key: stored / self._unit for key, stored in self._stored.items()}
            self._whole, self._unit = self._whole / self._unit, 1.0

    @property
    def whole(self) -> float:
        """Mass of all keys together."""
        return self._whole / self._unit

    def of(self, keys: Sequence[int]) -> Doubles:
        """Mass of each key, `(k,)`; 0 for a key that is not stored."""
        stored = self._stored
        return np.array([stored.get(key, 0.0) for key in keys], dtype=np.float64) / self._unit

    def add(self, keys: Sequence[int], mass: Doubles) -> None:
        """Adds `mass` `(k,)` to the keys, which may repeat."""
        stored = self._stored
        added = (mass * self._unit).tolist()
        for key, part in zip(keys, added, strict=True):
            stored[key] = stored.get(key, 0.0) + part
        self._whole = sum(added, self._whole)
        if len(stored) > 2 * KEYS:
            self._stored = _heaviest(stored)

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"unit": self._unit, "whole": self._whole, "stored": [list(pair) for pair in self._stored.items()]}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._unit, self._whole = float(state["unit"]), float(state["whole"])
        self._stored = {int(key): float(stored) for key, stored in state["stored"]}


def _heaviest(stored: Mapping[int, float]) -> dict[int, float]:
    """The `KEYS` heaviest keys in ascending order; of equally heavy ones the larger keys."""
    keys, mass = np.array(list(stored), dtype=np.uint64), np.array(list(stored.values()))
    kept = np.lexsort((keys, mass))[-KEYS:]
    kept = kept[np.argsort(keys[kept])]
    return dict(zip(keys[kept].tolist(), mass[kept].tolist(), strict=True))


@lru_cache(maxsize=8_192)
def key_of(name: str) -> int:
    """A 64-bit hash of a name of any length."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


class ShareCap:
    """Weights that keep each key of one kind (user or item) within its share."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._mass = DecayedMass(HALF_LIFE)

    def weigh(self, names: Sequence[str], at: NDArray[np.int64], examples: NDArray[np.int64]) -> Doubles:
        """Weights, 0 to 1, `(k,)`, of a micro-batch's parts: `at` `(k,)` is the number of each part's name.

        `names` are distinct; `examples` `(k,)` is how many examples each part brings. All examples of a name weigh the
        same, whatever their order in the micro-batch.
        """
        mass = self._mass
        mass.pass_by(int(examples.sum()))
        keys, brought = list(map(key_of, names)), np.bincount(at, examples)
        left = self._share * max(_LEAST, mass.whole) - mass.of(keys)
        weight = np.minimum(1.0, np.maximum(left, 0.0) / brought)
        mass.add(keys, weight * brought)
        return np.asarray(weight[at])

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
        user = self._users.weigh(*seen.users, np.bincount(seen.request))
        item = self._items.weigh(*numbered(seen.item), np.ones(len(seen.item), dtype=np.int64))
        return np.asarray(np.minimum(user[seen.request], item))

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"users": self._users.state(), "items": self._items.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._users.load(state["users"])
        self._items.load(state["items"])
