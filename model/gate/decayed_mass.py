"""What each user or item has lately brought, in bounded memory (ours).

Only the heaviest names are stored: a dropped one had less than one `KEPT`-th of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.scored_examples import Doubles

Slots = NDArray[np.int64]

KEPT = 512
"""Number of names that are kept when there are more than twice as many."""
_LARGEST_UNIT = 2.0**64
"""The unit of the stored masses is set back to 1 beyond this value, long before a mass overflows."""


@lru_cache(maxsize=8_192)
def key_of(name: str) -> int:
    """A 64-bit hash of a name of any length."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


class DecayedMass:
    """Mass in examples that each name has brought; it halves every `half_life` examples of the stream.

    What is stored does not decay: a new example is added as `unit`, which doubles every `half_life` examples, and a
    mass is what is stored divided by the unit. So nothing is computed for names that bring nothing. A name is looked up
    once for all that is asked of it, because its mass has a slot in an array.

    State has the names' hashes, which are of equal length. A name is hashed only for a snapshot, and after a restore
    until all that was restored is known by name or dropped.
    """

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._slots: dict[str, int] = {}
        self._unnamed: dict[int, int] = {}
        """Slots of restored masses by hash, until their names are seen."""
        self._stored: Doubles = np.zeros(2 * KEPT)
        self._count = 0
        """Slots in use: all below it."""
        self._whole = 0.0
        self._unit = 1.0

    def pass_by(self, examples: int) -> None:
        """Advances the decay by `examples` examples of the stream."""
        self._unit *= 2.0 ** (examples / self._half_life)
        if self._unit > _LARGEST_UNIT:
            self._stored /= self._unit
            self._whole, self._unit = self._whole / self._unit, 1.0

    @property
    def whole(self) -> float:
        """Mass of all names together."""
        return self._whole / self._unit

    def slots(self, names: Sequence[str]) -> Slots:
        """The slot of each name, `(k,)`, valid until the next `add`. A name that has none gets one, with no mass."""
        slots = np.fromiter(map(self._slots.get, names, repeat(-1)), dtype=np.int64, count=len(names))
        for place in np.flatnonzero(slots < 0).tolist():
            slots[place] = self._slot_of_new(names[place])
        if self._count > len(self._stored):
            self._stored = np.concatenate([self._stored, np.zeros(self._count)])
        return slots

    def _slot_of_new(self, name: str) -> int:
        slot = self._slots.get(name)  # it may repeat among the names of one call
        if slot is None and self._unnamed:
            slot = self._unnamed.pop(key_of(name), None)
        if slot is None:
            slot = self._count
            self._count += 1
        self._slots[name] = slot
        return slot

    def at(self, slots: Slots) -> Doubles:
        """Mass in each slot, `(k,)`."""
        return self._stored[slots] / self._unit

    def add(self, slots: Slots, mass: Doubles) -> None:
        """Adds `mass` `(k,)` to the slots, which may repeat. Drops the lightest names if there are too many."""
        self._stored += np.bincount(slots, mass * self._unit, minlength=len(self._stored))
        self._whole += float(mass.sum()) * self._unit
        if self._count > 2 * KEPT:
            self._drop_lightest()

    def _drop_lightest(self) -> None:
        """Keeps the `KEPT` heaviest in their order; of equally heavy ones those that were stored last."""
        kept = np.sort(np.argsort(self._stored[: self._count], kind="stable")[-KEPT:])
        moved = np.full(self._count, -1)
        moved[kept] = np.arange(KEPT)
        to = moved.tolist()
        self._slots = {name: to[slot] for name, slot in self._slots.items() if to[slot] >= 0}
        self._unnamed = {key: to[slot] for key, slot in self._unnamed.items() if to[slot] >= 0}
        self._store(self._stored[kept])

    def _store(self, stored: Doubles) -> None:
        self._count = len(stored)
        self._stored = np.concatenate([stored, np.zeros(max(0, 2 * KEPT - len(stored)))])

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        keys = [0] * self._count
        for name, slot in self._slots.items():
            keys[slot] = key_of(name)
        for key, slot in self._unnamed.items():
            keys[slot] = key
        pairs = zip(keys, self._stored[: self._count].tolist(), strict=True)
        return {"unit": self._unit, "whole": self._whole, "stored": [list(pair) for pair in pairs]}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._unit, self._whole = float(state["unit"]), float(state["whole"])
        pairs = state["stored"]
        self._slots, self._unnamed = {}, {int(key): slot for slot, (key, _) in enumerate(pairs)}
        self._store(np.array([float(stored) for _, stored in pairs]))
