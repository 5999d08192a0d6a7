"""The join of served impressions with their late feedback: event time, one partition, deterministic.

A click inside the window makes a positive, the end of the window a negative. The watermark alone closes windows, so the
same records in the same order always give the same examples.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streaming.config import JoinConfig
from streaming.events import FeedbackKind, LearningOrder, Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.kernel_log.snapshot import RequestRef


@dataclass(frozen=True, slots=True)
class LabelledRequest:
    """An impression whose labels are decided."""

    offset: int
    """Offset of the impression's record."""
    impression: ServedImpression
    clicks: NDArray[np.bool_]
    """Per item, `(n,)`."""
    conversions: NDArray[np.bool_]
    """Per item, `(n,)`."""

    @property
    def reference(self) -> RequestRef:
        """How a snapshot names this request."""
        return RequestRef.of(self.offset, self.clicks, self.conversions)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a re-read must begin to rebuild what is open, and the watermark just before that record."""

    offset: int
    watermark: float


@dataclass(slots=True)
class _Open:
    first_offset: int
    watermark_before: float
    close_at: float
    offset: int = -1
    impression: ServedImpression | None = None
    feedback: dict[tuple[str, FeedbackKind], float] = field(default_factory=dict)


class Join:
    """Impressions and feedback of one group, matched by request id and item id.

    A request id belongs to one impression, and whoever sends it again sends it with the same time: so a duplicate of a
    closed impression needs no memory of what was closed, it is too late by its own time. Feedback may come before its
    impression: it waits for one window. Records the join cannot use are counted in `dropped` by reason.
    """

    def __init__(self, config: JoinConfig) -> None:
        self._config = config
        self._open: dict[str, _Open] = {}
        self._closing: list[tuple[float, int, str]] = []
        self.watermark = float("-inf")
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def resume_point(self) -> ResumePoint | None:
        """Where the oldest open request began; None when nothing is open."""
        oldest = next(iter(self._open.values()), None)
        return None if oldest is None else ResumePoint(oldest.first_offset, oldest.watermark_before)

    def feed(self, offset: int, record: Traffic, appended: float) -> list[LabelledRequest]:
        """Takes the record at `offset`; returns the requests that its time closes, in the order they closed.

        `appended` is when the broker appended it, seconds.
        """
        if isinstance(record, (Progress, LearningOrder)):
            return []
        before = self.watermark  # of the record before: a re-read that begins at this one starts with it (0070)
        closed = self._advance(self._watermark_of(record))
        if isinstance(record, ServedImpression):
            self._impression(offset, record, before)
        elif isinstance(record, ServedFeedback):
            self._feedback(offset, record, before)
        else:
            assert isinstance(record, Tick)
        return closed

    def _watermark_of(self, record: ServedImpression | ServedFeedback | Tick) -> float:
        """Feedback trails its impression by up to a window: it proves less about what is still to come (0071)."""
        trail = self._config.window_s if isinstance(record, ServedFeedback) else 0.0
        return record.time - self._config.lateness_s - trail

    def _advance(self, watermark: float) -> list[LabelledRequest]:
        self.watermark = max(self.watermark, watermark)
        closed = []
        while self._closing and self._closing[0][0] <= self.watermark:
            close_at, _, request_id = heapq.heappop(self._closing)
            entry = self._open.get(request_id)
            if entry is None or entry.close_at != close_at:
                continue  # evicted, or its impression came and moved the time
            del self._open[request_id]
            if entry.impression is None:
                self.dropped["orphan_feedback"] += len(entry.feedback)
            else:
                closed.append(self._label(entry, entry.impression))
        return closed

    def _impression(self, offset: int, record: ServedImpression, watermark_before: float) -> None:
        close_at = record.time + self._config.window_s
        if close_at <= self.watermark:
            self.dropped["late_impression"] += 1
            return
        entry = self._open.get(record.request_id)
        if entry is None:
            entry = self._add(record.request_id, _Open(offset, watermark_before, close_at))
        elif entry.impression is not None:
            self.dropped["duplicate"] += 1
            return
        entry.impression, entry.offset, entry.close_at = record, offset, close_at
        heapq.heappush(self._closing, (close_at, entry.first_offset, record.request_id))

    def _feedback(self, offset: int, record: ServedFeedback, watermark_before: float) -> None:
        close_at = record.time + self._config.window_s
        entry = self._open.get(record.request_id)
        if entry is None:
            if close_at <= self.watermark:
                self.dropped["late_feedback"] += 1
                return
            entry = self._add(record.request_id, _Open(offset, watermark_before, close_at))
            heapq.heappush(self._closing, (close_at, offset, record.request_id))
        elif entry.impression is None and close_at > entry.close_at:
            # All of a request's feedback waits together: a re-read that begins between two of them finds the same.
            entry.close_at = close_at
            heapq.heappush(self._closing, (close_at, entry.first_offset, record.request_id))
        key = (record.item_id, record.kind)
        if key in entry.feedback:
            self.dropped["duplicate"] += 1
            entry.feedback[key] = min(entry.feedback[key], record.time)
        else:
            entry.feedback[key] = record.time

    def _add(self, request_id: str, entry: _Open) -> _Open:
        if len(self._open) >= self._config.max_open:
            # The oldest goes first: what is left begins at one offset, which is all that a snapshot says of it (0070).
            del self._open[next(iter(self._open))]
            self.dropped["evicted"] += 1
        self._open[request_id] = entry
        return entry

    def _label(self, entry: _Open, impression: ServedImpression) -> LabelledRequest:
        position = {item: index for index, item in enumerate(impression.items)}
        clicks = np.zeros(len(impression.items), dtype=np.bool_)
        conversions = np.zeros_like(clicks)
        for (item, kind), time in entry.feedback.items():
            index = position.get(item)
            if index is None:
                self.dropped["unshown_item"] += 1
            elif time > impression.time + self._config.window_s:
                self.dropped["late_feedback"] += 1
            else:
                (clicks if kind == "click" else conversions)[index] = True
        return LabelledRequest(entry.offset, impression, clicks, conversions)
