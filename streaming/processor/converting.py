"""A group's conversions: those known when the labels are decided, and those that come later, within a longer window.

A conversion takes longer than a click, often longer than labels can wait. The kernel of clicks does not learn it. A
later conversion is looked up in the log, counted once, and added to the experiment (decision 0129).
"""

from __future__ import annotations

from collections import Counter

from streaming.processor.corrections import Correction, Corrections, turn
from streaming.processor.experiment import Experiment
from streaming.processor.join import LabelledRequest, LateConversion


class Converting:
    """Counts conversions by time of arrival: `in_window`, with the labels, or `later`."""

    def __init__(self, gathered: Corrections, experiment: Experiment) -> None:
        self.gathered, self._experiment = gathered, experiment
        self.counts: Counter[str] = Counter()

    def closed(self, request: LabelledRequest) -> None:
        """Counts the conversions of a request whose labels are decided; the experiment takes them with the request."""
        if request.conversions.any():
            self.counts["in_window"] += int(request.conversions.sum())

    def take(self, late: LateConversion, waiting: LabelledRequest | None, watermark: float) -> None:
        """Takes a conversion of a closed request; `waiting` is that request while it waits for its micro-batch."""
        if waiting is None:
            self.gathered.add(late, watermark)
            return
        impression, labels = waiting.impression, waiting.conversions
        if turn("conversion", late.request, impression, late.item_id, labels, self.gathered.dropped):
            self._count(waiting, 1)

    def look_up(self) -> list[Correction]:
        """Counts all gathered conversions; returns them for the conversion task."""
        found = self.gathered.take()
        for correction in found:
            self._count(correction.request, int(correction.request.conversions.sum()))
        return found

    def _count(self, request: LabelledRequest, conversions: int) -> None:
        self.counts["later"] += conversions
        self._experiment.convert(request.impression, conversions)
