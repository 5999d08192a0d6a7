"""Reads a group's traffic: unusable records are refused with a reason and never stop the group."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from features.live.layout import LiveLayout
from model.backbone.interface import FrozenBackbone
from streaming.events import (
    EXPLORED,
    ConvertingImpression,
    LearningOrder,
    Progress,
    ServedImpression,
    Traffic,
    decode_traffic,
)

log = logging.getLogger(__name__)
_MOST_POSITIONS = 20
_PARTITIONS = 10_000
"""Upper bound of the partitions that a progress record may name; larger ones would only take memory."""
_ROUNDING = 1e-4
"""What rounding may leave of the sum of probabilities."""
_HALVES, _SINGLES = ("x", "content"), ("live", "frozen_logit", "live_logit")
"""Payloads of float16 and of float32 numbers."""
_SINGLES_OF_CONVERSIONS = (*_SINGLES, "cvr_live", "cvr_frozen_logit", "cvr_live_logit")


@dataclass(frozen=True)
class Widths:
    """Sizes of an impression's arrays: representation, live features, content, slots of item values."""

    x: int
    live: int
    content: int
    slots: int
    values: int
    """Number V of item values; a slot holds 0 to V - 1, or -1."""
    conversions: bool = False
    """Whether impressions carry the fields of the conversion task."""

    @staticmethod
    def of(backbone: FrozenBackbone, layout: LiveLayout) -> Widths:
        """The sizes for a backbone and its live features."""
        crossing = layout.crossing
        return Widths(
            backbone.width, layout.width, layout.content_width, crossing.slots, crossing.values, backbone.has_conversion
        )


class TrafficReader:
    """Decodes and checks the records of one backbone. `refused` counts other records by reason."""

    def __init__(self, group: str, fingerprint: str, widths: Widths) -> None:
        self.refused: Counter[str] = Counter()
        self._group, self._fingerprint, self._widths = group, fingerprint, widths
        self._halves = attrgetter(*_HALVES)
        self._singles = attrgetter(*(_SINGLES_OF_CONVERSIONS if widths.conversions else _SINGLES))
        singles = (widths.live, 1, 1) * (2 if widths.conversions else 1)
        self._item_bytes = (2 * widths.x, 2 * widths.content, *(4 * width for width in singles), 2 * widths.slots)
        """Bytes of one item in each payload: halves, singles and the item's values."""
        self._positions: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_MOST_POSITIONS))

    def read(self, offset: int, value: bytes | None, *, known: bool = False) -> Traffic | None:
        """The record at `offset`, or None if it is refused; a `known` record has passed the checks before."""
        try:
            record = decode_traffic(value or b"")
            problem = None if known else self._problem(record)
        # Anybody with write access can write anything to the topic, and no record may end the process.
        except Exception as error:  # noqa: BLE001
            self.refuse(offset, "undecodable", repr(error))
            return None
        if problem is None:
            return record
        self.refuse(offset, problem, f"a {type(record).__name__}")
        return None

    def refuse(self, offset: int, reason: str, detail: str) -> None:
        """Counts an unusable record. Logs the first of a reason, the tenth, the hundredth and so on."""
        self.refused[reason] += 1
        self._positions[reason].append(offset)
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
                [*self._positions[reason]],
            )

    def _problem(self, record: Traffic) -> str | None:
        """Why a record cannot be used, as a reason of `refused`; None if it can."""
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
        return self._problem_inside(record)

    def _problem_inside(self, record: ServedImpression) -> str | None:
        if isinstance(record, ConvertingImpression) != self._widths.conversions:
            return "other_tasks"
        return None if self._sound(record) and _sound_draw(record) else "bad_payload"

    @staticmethod
    def _sound_progress(record: Progress) -> bool:
        known = 0 < record.partitions <= _PARTITIONS and len(record.read) <= record.partitions
        return known and all(math.isfinite(time) for time in record.read.values())

    def _sound(self, record: ServedImpression) -> bool:
        """Whether the arrays have the sizes of the items, the item values are known, and all numbers are finite."""
        n, halves, singles = len(record.items), self._halves(record), self._singles(record)
        sizes = [len(payload) for payload in (*halves, *singles, record.values)]
        if n == 0 or sizes != [n * size for size in self._item_bytes]:
            return False
        values = np.frombuffer(record.values, dtype="<i2")
        if values.size and not -1 <= values.min() <= values.max() < self._widths.values:
            return False
        # All arrays of one number format are checked together, which is faster than one by one (docs/decisions/0144).
        return _finite(halves, "<f2") and _finite(singles, "<f4")


def _sound_draw(record: ServedImpression) -> bool:
    """Whether a drawn first place is one of the shown items, and all of them had a probability above 0; together 1."""
    if not isinstance(record, EXPLORED):
        return True
    n, chances = len(record.items), np.frombuffer(record.propensity, dtype="<f4").astype(np.float64)
    return 0 <= record.place < n == len(chances) and bool(chances.min() > 0) and abs(chances.sum() - 1) < _ROUNDING


def _finite(payloads: Sequence[bytes], number: str) -> bool:
    numbers = np.frombuffer(b"".join(payloads), dtype=number)
    return bool(np.count_nonzero(np.isfinite(numbers)) == numbers.size)  # counting is faster than `all`
