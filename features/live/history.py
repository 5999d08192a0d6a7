"""Live histories: each user's newest clicked, or shown, items with times and outcomes (docs/decisions/0121).

A history is the newest events by time, then by item id. It therefore depends neither on the order in which labels are
decided nor on when a late click comes: the same set of events always leaves the same history.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from features.live.layout import Floats, LiveRow
from features.live.outcome import RequestOutcome
from model.config import HistorySpec
from model.encoding.profile import HistoryEvent

HISTORY: Literal["history"] = "history"
_TICKS = 1_024
"""Ticks per second. A row stores a tick as two whole numbers, each of which float32 holds exactly."""
_LOW_BITS = 24
_LEAST_NAMES = 10_000
"""Item ids that are always interned. Above twice the number still used in histories, unused ones are removed."""
_EMPTY: Floats = np.zeros(0, dtype=np.float32)


@dataclass(slots=True)
class _Past:
    """One user's events, oldest first, in few bytes per event because there are many users."""

    items: list[str] = field(default_factory=list)
    ticks: array[int] = field(default_factory=lambda: array("q"))
    clicked: bytearray = field(default_factory=bytearray)

    def add(self, tick: int, item_id: str, clicked: bool, length: int) -> bool:
        """Inserts one event in order; returns whether anything changed."""
        place = bisect_left(self.ticks, tick)
        while place < len(self.ticks) and self.ticks[place] == tick and self.items[place] < item_id:
            place += 1
        if place < len(self.ticks) and self.ticks[place] == tick and self.items[place] == item_id:
            turned = clicked and not self.clicked[place]
            self.clicked[place] |= clicked
            return turned
        if place == 0 and len(self.ticks) >= length:
            return False
        self.items.insert(place, item_id)
        self.ticks.insert(place, tick)
        self.clicked.insert(place, clicked)
        if len(self.ticks) > length:
            del self.items[0], self.ticks[0], self.clicked[0]
        return True


class HistoryTable:
    """The histories of one kernel group, of at most `limit` users; those idle longest are dropped first (0021)."""

    def __init__(self, spec: HistorySpec, limit: int) -> None:
        self.spec, self.limit = spec, limit
        self.evicted = 0
        self._users: dict[str, _Past] = {}
        self._names: dict[str, str] = {}
        self._names_limit = _LEAST_NAMES
        self._changed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._users)

    def add(self, outcomes: Sequence[RequestOutcome]) -> None:
        """Adds decided requests, in any order."""
        for outcome in outcomes:
            self._take(outcome)
        if len(self._users) > self.limit:
            self._evict()
        if len(self._names) > self._names_limit:
            self._forget_names()

    def correct(self, outcomes: Sequence[RequestOutcome]) -> None:
        """Adds late clicks of users who still have a history."""
        for outcome in outcomes:
            if outcome.user_id in self._users:
                self._take(outcome, clicks_alone=True)

    def _take(self, outcome: RequestOutcome, *, clicks_alone: bool = False) -> None:
        """Adds clicks, and with `spec.skips` also items that were shown without one, to the user's past."""
        tick = round(outcome.time * _TICKS)
        for item_id, click in zip(outcome.items, outcome.click.tolist(), strict=True):
            clicked = click > 0
            if clicked or (self.spec.skips and not clicks_alone):
                past = self._users.setdefault(outcome.user_id, _Past())
                # Interned, because each record brings new string objects with equal contents.
                if past.add(tick, self._names.setdefault(item_id, item_id), clicked, self.spec.length):
                    self._changed[outcome.user_id] = None

    def events(self, user_id: str) -> list[HistoryEvent]:
        """A user's history, oldest first."""
        past = self._users.get(user_id)
        return [] if past is None else _events(past)

    def take_changed(self) -> Iterator[LiveRow]:
        """Rows changed since the last call, in the order of their first change; tombstones for those evicted."""
        changed, self._changed = self._changed, {}
        return (self._row(user_id) for user_id in changed)

    def rows(self) -> Iterator[LiveRow]:
        """All rows."""
        return (self._row(user_id) for user_id in self._users)

    def put(self, row: LiveRow) -> None:
        """Stores a row as it is; a tombstone deletes its key. Raises ValueError for a row that holds no history."""
        if row.tombstone:
            self._users.pop(row.key, None)
            return
        past = _unpacked(row)
        if len(past.items) > self.spec.length:
            raise ValueError(f"history of {row.key!r} has {len(past.items)} events, not at most {self.spec.length}")
        self._users[row.key] = past

    def _row(self, user_id: str) -> LiveRow:
        past = self._users.get(user_id)
        return LiveRow(HISTORY, user_id, 0.0, _EMPTY) if past is None else _packed(user_id, past)

    def _evict(self) -> None:
        """Evicts like `LiveTable`: a sixteenth of the limit more than needed, so that evictions are rare."""
        excess = len(self._users) - (self.limit - self.limit // 16)
        idle = sorted((past.ticks[-1], user_id) for user_id, past in self._users.items())[:excess]
        for _, user_id in idle:
            del self._users[user_id]
            self._changed[user_id] = None
        self.evicted += excess
        self._forget_names()

    def _forget_names(self) -> None:
        """Removes interned ids that no history holds any longer, because items also change while users stay."""
        kept = {item_id for past in self._users.values() for item_id in past.items}
        self._names = {item_id: item_id for item_id in self._names if item_id in kept}
        self._names_limit = max(_LEAST_NAMES, 2 * len(self._names))


def read_history(row: LiveRow | None) -> list[HistoryEvent]:
    """The events in a history's row, oldest first; none without a row. Raises ValueError for another kind of row."""
    return [] if row is None or row.tombstone else _events(_unpacked(row))


def joined_history(spec: HistorySpec, first: LiveRow, second: LiveRow) -> LiveRow:
    """The joined history of a user who has one in two groups."""
    past = _unpacked(first)
    more = _unpacked(second)
    for tick, item_id, clicked in zip(more.ticks, more.items, more.clicked, strict=True):
        past.add(tick, item_id, bool(clicked), spec.length)
    return _packed(first.key, past)


def _events(past: _Past) -> list[HistoryEvent]:
    return [
        HistoryEvent(item_id, tick / _TICKS, bool(clicked))
        for item_id, tick, clicked in zip(past.items, past.ticks, past.clicked, strict=True)
    ]


def _packed(user_id: str, past: _Past) -> LiveRow:
    ticks = np.array(past.ticks, dtype=np.int64)
    parts = [ticks >> _LOW_BITS, ticks & ((1 << _LOW_BITS) - 1), np.frombuffer(past.clicked, dtype=np.uint8)]
    values = np.concatenate(parts).astype(np.float32)
    return LiveRow(HISTORY, user_id, past.ticks[-1] / _TICKS, values, tuple(past.items))


def _unpacked(row: LiveRow) -> _Past:
    if row.kind != HISTORY or row.values.shape != (3 * len(row.items),):
        raise ValueError(
            f"live row {row.kind} {row.key!r} with {len(row.items)} items and {row.values.size} values is no history"
        )
    high, low, clicked = row.values.reshape(3, -1).astype(np.int64)
    ticks = (high << _LOW_BITS) + low
    return _Past(list(row.items), array("q", ticks.tolist()), bytearray((clicked > 0).tolist()))
