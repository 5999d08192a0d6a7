"""Conversions of a group: those that come with the labels, and those that come later, within a window of their own.

A conversion takes longer than a click, often longer than labels can wait. The kernel learns clicks, so nothing is
taught again: a later conversion is found in the log, counted once, and told to the experiment (decision 0129).
"""

from __future__ import annotations

from collections import Counter

from streaming.processor.corrections import Correction, Corrections, turn
from streaming.processor.experiment import Experiment
from streaming.processor.join import LabelledRequest, LateConversion


class Converting:
    """Counts conversions by when they came: `in_window` (that of the labels), or `later`."""

    def __init__(self, gathered: Corrections, experiment: Experiment) -> None:
        self.gathered, self._experiment = gathered, experiment
        self.counts: Counter[str] = Counter()

    def closed(self, request: LabelledRequest) -> None:
        """Labels are decided, and what converted by then; the experiment takes these with the request."""
        if request.conversions.any():
            self.counts["in_window"] += int(request.conversions.sum())

    def take(self, late: LateConversion, waiting: LabelledRequest | None, watermark: float) -> None:
        """A conversion of a closed request, which is `waiting` for its micro-batch or stands in the log alone."""
        if waiting is None:
            self.gathered.add(late, watermark)
            return
        impression, labels = waiting.impression, waiting.conversions
        if turn("conversion", late.request, impression, late.item_id, labels, self.gathered.dropped):
            self._count(waiting, 1)

    def look_up(self) -> list[Correction]:
        """Counts all that was gathered; what it was, for the task that learns conversions."""
        found = self.gathered.take()
        for correction in found:
            self._count(correction.request, int(correction.request.conversions.sum()))
        return found

    def _count(self, request: LabelledRequest, conversions: int) -> None:
        self.counts["later"] += conversions
        self._experiment.convert(request.impression, conversions)
