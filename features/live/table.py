"""Decayed sums by key in one array, with grouped updates, in memory bounded by dropping the keys idle longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from features.live.layout import Doubles, Floats, Kind, LiveLayout, LiveRow, Rows

MAX_COUNT = 2.0**20
"""A counter above this is halved, because above 2^24 a float32 no longer changes when 1 is added."""
_FIRST_CAPACITY = 64
_NEVER = -np.inf
_EMPTY: Floats = np.zeros(0, dtype=np.float32)


class LiveTable:
    """Rows of one kind (docs/decisions/0021).

    Evictions and all numbers depend on the updates alone, not on where a row lies in memory. A restored table therefore
    continues bit for bit like the original.
    """

    def __init__(self, kind: Kind, layout: LiveLayout, limit: int) -> None:
        width = layout.width_of(kind)
        self.kind = kind
        self.limit = limit
        self.evicted = 0
        self._decay_columns = layout.decay_columns(kind)
        self._half_lives = np.array([*layout.half_lives, np.inf])
        self._counters = layout.counters_of(kind)
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._values: Floats = np.zeros((_FIRST_CAPACITY, width), dtype=np.float32)
        self._updated_at: Doubles = np.full(_FIRST_CAPACITY, _NEVER)
        self._changed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, keys: Sequence[str], time: Doubles, contributions: Doubles) -> None:
        """Adds one contribution `(len(keys), width)` per example; a key may occur any number of times."""
        self._accumulate(self._slots_of(keys), time, contributions)
        self._changed.update(dict.fromkeys(keys))
        if len(self._slots) > self.limit:
            self._evict()

    def correct(self, keys: Sequence[str], time: Doubles, contributions: Doubles) -> None:
        """Adds to sums that `add` made at `time`; a key that was evicted since is not made again.

        A key that was evicted and came back has lost part of its shown count, so its clicked count is capped by it.
        """
        there = np.array([key in self._slots for key in keys], dtype=np.bool_)
        known = [key for key in keys if key in self._slots]
        if not known:
            return
        slots = self._slots_of(known)
        self._accumulate(slots, time[there], contributions[there])
        rows, shown = np.unique(slots), slice(-2 * self._counters, -self._counters)
        corrected = self._values[rows]
        np.minimum(corrected[:, -self._counters :], corrected[:, shown], out=corrected[:, -self._counters :])
        self._values[rows] = corrected
        self._changed.update(dict.fromkeys(known))

    def _accumulate(self, slots: NDArray[np.intp], time: Doubles, contributions: Doubles) -> None:
        """Adds contributions `(n, width)` to rows `slots` `(n,)`, each decayed to the newest time of its row."""
        order = np.argsort(slots, kind="stable")
        slots, time = slots[order], time[order]
        first = np.ones(len(slots), dtype=np.bool_)  # of each key's examples
        np.not_equal(slots[1:], slots[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        touched = slots[starts]
        before = self._updated_at[touched]
        newest = np.maximum(before, np.maximum.reduceat(time, starts))
        fresh = self._decay(newest[np.cumsum(first) - 1] - time)
        # Sums are made per key first, because assigning twice to the same row of `touched` keeps only the last.
        sums = np.add.reduceat(contributions[order] * fresh, starts, axis=0)
        age = np.where(np.isfinite(before), newest - before, 0.0)  # a new row is all zeros and needs no decay
        self._values[touched] = self._halved(self._values[touched] * self._decay(age) + sums)
        self._updated_at[touched] = newest

    def read(self, keys: Sequence[str]) -> Rows:
        """Rows of `keys`; an unknown key gives zeros."""
        slots = np.array([self._slots.get(key, -1) for key in keys], dtype=np.intp)
        known = slots >= 0
        values = np.where(known[:, None], self._values[slots], np.float32(0))
        return Rows(values, np.where(known, self._updated_at[slots], 0.0))

    def take_changed(self) -> Iterator[LiveRow]:
        """Rows changed since the last call, in the order of their first change; tombstones for those evicted."""
        changed, self._changed = self._changed, {}
        return (self._row(key) for key in changed)

    def rows(self) -> Iterator[LiveRow]:
        """All rows."""
        return (self._row(key) for key in self._slots)

    def put(self, row: LiveRow) -> None:
        """Stores a row as it is; a tombstone deletes its key. Raises ValueError if its width does not fit."""
        if row.tombstone:
            self._drop(row.key)
            return
        if row.values.shape != self._values.shape[1:]:
            raise ValueError(
                f"live row {row.kind} {row.key!r} holds {row.values.size} values where this configuration has "
                f"{self._values.shape[1]}: it was written with another content width, other fields or other domains"
            )
        slot = int(self._slots_of([row.key])[0])
        self._values[slot] = row.values
        self._updated_at[slot] = row.updated_at

    def _decay(self, age: Doubles) -> Doubles:
        """Decay factor by row and column, `(len(age), width)`."""
        factor: Doubles = np.exp2(-age[:, None] / self._half_lives)[:, self._decay_columns]
        return factor

    def _halved(self, values: Doubles) -> Doubles:
        """Halves counters above `MAX_COUNT`, shown and clicked alike: rates stay, and float32 can count on."""
        shown, clicked = values[:, -2 * self._counters : -self._counters], values[:, -self._counters :]
        full = shown > MAX_COUNT
        if full.any():
            shown[full] /= 2
            clicked[full] /= 2
        return values

    def _row(self, key: str) -> LiveRow:
        slot = self._slots.get(key)
        if slot is None:
            return LiveRow(self.kind, key, 0.0, _EMPTY)
        return LiveRow(self.kind, key, float(self._updated_at[slot]), self._values[slot].copy())

    def _slots_of(self, keys: Sequence[str]) -> NDArray[np.intp]:
        """Row of each key, `(n,)`; new keys get free rows."""
        slots = self._slots
        known = [slots.get(key, -1) for key in keys]
        if -1 in known:
            new = [key for key in dict.fromkeys(keys) if key not in slots]
            self._reserve(len(new))
            for key in new:
                slots[key] = self._free.pop() if self._free else len(slots)
            known = [slots[key] for key in keys]
        return np.array(known, dtype=np.intp)

    def _reserve(self, more: int) -> None:
        """Makes room for `more` keys beyond those in use."""
        needed = len(self._slots) + more
        capacity = len(self._updated_at)
        if needed <= capacity:
            return
        added = max(needed, 2 * capacity) - capacity
        self._values = np.concatenate([self._values, np.zeros((added, self._values.shape[1]), dtype=np.float32)])
        self._updated_at = np.concatenate([self._updated_at, np.full(added, _NEVER)])

    def _evict(self) -> None:
        """Drops the keys idle longest, ties by name; a sixteenth of the limit more than needed, so that it is rare."""
        excess = len(self._slots) - (self.limit - self.limit // 16)
        keys = np.array(list(self._slots), dtype=object)
        age = self._updated_at[np.fromiter(self._slots.values(), dtype=np.intp, count=len(keys))]
        border = np.partition(age, excess - 1)[excess - 1]
        older = keys[age < border].tolist()
        ties = sorted(keys[age == border].tolist())[: excess - len(older)]
        for key in (*older, *ties):
            self._drop(key)
            self._changed[key] = None
        self.evicted += excess

    def _drop(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._values[slot] = 0.0
            self._updated_at[slot] = _NEVER
            self._free.append(slot)
