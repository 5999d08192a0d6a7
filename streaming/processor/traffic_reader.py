"""Reads a group's traffic: what cannot be learned from is refused by reason and never stops the group."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import msgspec
import numpy as np

from features.live.layout import LiveLayout
from model.backbone.interface import FrozenBackbone
from streaming.events import PAYLOADS, LearningOrder, Progress, ServedImpression, Traffic, decode_traffic


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

    def __init__(self, fingerprint: str, widths: Widths) -> None:
        self.refused: Counter[str] = Counter()
        self._fingerprint, self._widths = fingerprint, widths

    def read(self, value: bytes | None) -> Traffic | None:
        """The record, or None if it is refused."""
        try:
            record = decode_traffic(value or b"")
        # RecursionError: MessagePack may nest deeper than the decoder goes, and anybody can write such a record
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.refused["undecodable"] += 1
            return None
        problem = self._problem(record)
        if problem is None:
            return record
        self.refused[problem] += 1
        return None

    def _problem(self, record: Traffic) -> str | None:
        if isinstance(record, LearningOrder):
            return None
        times = record.read.values() if isinstance(record, Progress) else (record.time,)
        if not all(math.isfinite(time) for time in times):
            return "bad_payload"
        if not isinstance(record, ServedImpression):
            return None
        if record.fingerprint != self._fingerprint:
            return "other_backbone"
        return None if self._sound(record) else "bad_payload"

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
        return all(bool(np.isfinite(record.array(name)).all()) for name in PAYLOADS)
