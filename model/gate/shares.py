"""Nobody teaches more than a share: examples of a key beyond its budget weigh nothing (ours).

The weight that a key has had halves every `HALF_LIFE` examples of the stream. Its budget is its share of what all keys
have had in that memory, and an example weighs as much as is left of it. Only the heaviest keys are kept, so memory is
bounded: a key that is dropped had less than a `KEYS`-th of the whole.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

HALF_LIFE = 5_000.0
KEYS = 512
_LEAST = 2_500.0
"""Examples that a memory counts for at least: the first users of a stream are all there is."""


class ShareCap:
    """Weights of the examples of one kind of key."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._whole: tuple[float, int] = (0.0, 0)
        self._mass: dict[int, tuple[float, int]] = {}
        self._examples = 0

    def weigh(self, keys: Iterable[tuple[str, int]]) -> list[float]:
        """Weight, 0 to 1, of each key's examples, in order; of each key also how many examples it brings now."""
        return [self._weigh(key, examples) for key, examples in keys]

    def _weigh(self, key: str, examples: int) -> float:
        name = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")
        self._examples += examples
        had = self._decayed(self._mass.get(name, (0.0, self._examples)))
        whole = self._decayed(self._whole)
        weight = min(1.0, max(0.0, self._share * max(_LEAST, whole) - had) / examples)
        self._whole = (whole + weight * examples, self._examples)
        self._mass[name] = (had + weight * examples, self._examples)
        if len(self._mass) > 2 * KEYS:
            kept = heapq.nlargest(KEYS, self._mass.items(), key=lambda pair: (self._decayed(pair[1]), pair[0]))
            self._mass = dict(sorted(kept))
        return weight

    def _decayed(self, mass: tuple[float, int]) -> float:
        return mass[0] * 2.0 ** ((mass[1] - self._examples) / HALF_LIFE)

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"examples": self._examples, "whole": list(self._whole), "mass": [[name, *mass] for name, mass in self._mass.items()]}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._examples = int(state["examples"])
        self._whole = (float(state["whole"][0]), int(state["whole"][1]))
        self._mass = {int(name): (float(mass), int(at)) for name, mass, at in state["mass"]}
