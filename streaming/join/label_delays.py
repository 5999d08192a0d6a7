"""Delays from impression to feedback, which the join window should be chosen by."""

from __future__ import annotations

import math

from streaming.events import FeedbackKind

_KEPT = 10_000
_AGED = 0.995
"""Factor that earlier delays keep at each new click, so that about two hundred clicks count."""


class LabelDelays:
    """Delays from impression to feedback since they were last taken, the first ten thousand of them."""

    def __init__(self) -> None:
        self._delays: list[tuple[FeedbackKind, float]] = []
        self._sum = self._weight = 0.0

    def add(self, kind: FeedbackKind, delay: float) -> None:
        """Adds a label that came `delay` seconds after its impression; a negative delay counts as 0."""
        delay = delay if delay > 0.0 else 0.0
        if kind == "click":
            self._sum, self._weight = _AGED * self._sum + delay, _AGED * self._weight + 1.0
        if len(self._delays) < _KEPT:
            self._delays.append((kind, delay))

    def take(self) -> list[tuple[FeedbackKind, float]]:
        """All delays since the last call, in order."""
        delays, self._delays = self._delays, []
        return delays

    @property
    def click_s(self) -> float:
        """Mean delay of the recent clicks, seconds; NaN before the first."""
        return self._sum / self._weight if self._weight else math.nan

    @property
    def state(self) -> tuple[float, float]:
        """The mean click delay, for a snapshot; delays waiting to be taken are not part of it."""
        return self._sum, self._weight

    def restore(self, state: tuple[float, float]) -> None:
        """Restores the state that `state` returned."""
        self._sum, self._weight = state
