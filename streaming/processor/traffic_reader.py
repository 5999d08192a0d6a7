"""Reads a group's traffic: what cannot be learned from is refused by reason and never stops the group."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from features.live.layout import LiveLayout
from model.backbone.interface import FrozenBackbone
from streaming.events import LearningOrder, Progress, ServedImpression, Traffic, decode_traffic

log = logging.getLogger(__name__)
_POSITIONS_TOLD = 20
_PARTITIONS = 10_000
"""More than a topic has: a mark of more would only take memory."""


@dataclass(frozen=True)
class Widths:
    """Widths of what an impression carries: representation, live features, content, slots of item values."""

    x: int
    live: int
    content: int
    slots: int
    values: int
    """Number V of item values: in a slot stands one of 0 to V - 1, or -1."""

    @staticmethod
    def of(backbone: FrozenBackbone, layout: LiveLayout) -> Widths:
        """Of the impressions of a backbone and its live features."""
        crossing = layout.crossing
        return Widths(backbone.width, layout.width, layout.content_width, crossing.slots, crossing.values)


class TrafficReader:
    """Decodes and checks records of one backbone. `refused` counts the others by reason."""

    def __init__(self, group: str, fingerprint: str, widths: Widths) -> None:
        self.refused: Counter[str] = Counter()
        self._group, self._fingerprint, self._widths = group, fingerprint, widths
        self._positions: deque[int] = deque(maxlen=_POSITIONS_TOLD)

    def read(self, offset: int, value: bytes | None, *, known: bool = False) -> Traffic | None:
        """The record at `offset`, or None if it is refused; a `known` one has stood the checks before."""
        try:
            record = decode_traffic(value or b"")
            problem = None if known else self._problem(record)
        # Anybody who can write to the topic can write anything: whatever it raises must not end the process.
        except Exception as error:  # noqa: BLE001
            self.refuse(offset, "undecodable", repr(error))
            return None
        if problem is None:
            return record
        self.refuse(offset, problem, f"a {type(record).__name__}")
        return None

    def refuse(self, offset: int, reason: str, detail: str) -> None:
        """Counts a record that cannot be used. Logs the first of a reason, then the tenth, the hundredth and so on."""
        self.refused[reason] += 1
        self._positions.append(offset)
        count = self.refused[reason]
        if 10 ** round(math.log10(count)) == count:
            log.error(
                "group %s: record %d of traffic is refused as %s and left out (%s); %d so far, the last ones at %s; "
                "find out who else writes to this topic",
                self._group,
                offset,
                reason,
                detail[:200],
                count,
                [*self._positions],
            )

    def _problem(self, record: Traffic) -> str | None:
        if isinstance(record, LearningOrder):
            return None
        if isinstance(record, Progress):
            return None if self._sound_progress(record) else "bad_payload"
        if not math.isfinite(record.time):
            return "bad_payload"
        if not isinstance(record, ServedImpression):
            return None
        if record.fingerprint != self._fingerprint:
            return "other_backbone"
        return None if self._sound(record) else "bad_payload"

    @staticmethod
    def _sound_progress(record: Progress) -> bool:
        known = 0 < record.partitions <= _PARTITIONS and len(record.read) <= record.partitions
        return known and all(math.isfinite(time) for time in record.read.values())

    def _sound(self, record: ServedImpression) -> bool:
        n = len(record.items)
        sizes = (
            (record.x, 2 * n * self._widths.x),
            (record.live, 4 * n * self._widths.live),
            (record.content, 2 * n * self._widths.content),
            (record.values, 2 * n * self._widths.slots),
            (record.frozen_logit, 4 * n),
            (record.live_logit, 4 * n),
        )
        if n == 0 or any(len(data) != size for data, size in sizes):
            return False
        values = record.array("values")
        if values.size and not -1 <= values.min() <= values.max() < self._widths.values:
            return False
        # By number format, all arrays of one together: six small ones cost more (0144).
        halves, singles = record.x + record.content, record.live + record.frozen_logit + record.live_logit
        return _finite(halves, "<f2") and _finite(singles, "<f4")


def _finite(data: bytes, number: str) -> bool:
    return bool(np.isfinite(np.frombuffer(data, dtype=number)).all())
