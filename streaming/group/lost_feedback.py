"""Feedback that the join has lost since the last micro-batch; the gate judges by it whether labels are complete."""

from __future__ import annotations

from collections.abc import Sequence

from model.gate.feedback import FeedbackPath
from streaming.join.join import Join, LabelledRequest


class LostFeedback:
    """Compares the join's counts of lost feedback with those at the last micro-batch."""

    def __init__(self, join: Join) -> None:
        self._join = join
        self._before = 0

    @property
    def _lost(self) -> int:
        return self._join.dropped["late_feedback"] + self._join.dropped["orphan_feedback"]

    @property
    def waiting(self) -> int:
        """Number of records lost since the last micro-batch."""
        return self._lost - self._before

    def path(self, requests: Sequence[LabelledRequest]) -> FeedbackPath:
        """The feedback path behind a micro-batch of these requests; the next one counts from here on."""
        clicks = sum(int(request.clicks.sum()) for request in requests)
        path = FeedbackPath(clicks, self.waiting, self._join.paused)
        self._before = self._lost
        return path

    def restore(self, waiting: int) -> None:
        """Restores `waiting`, for a join whose counts start at zero."""
        self._before = -waiting
