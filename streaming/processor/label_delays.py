"""How long labels take to come: what the window should be set by."""

from __future__ import annotations

import math

from streaming.events import FeedbackKind

_KEPT = 10_000
_AGED = 0.995
"""Of what is known of the delays, kept from one click to the next: some two hundred clicks count."""


class LabelDelays:
    """Delays from impression to feedback since they were last taken, at most the first ten thousand of them."""

    def __init__(self) -> None:
        self._delays: list[tuple[FeedbackKind, float]] = []
        self._sum = self._weight = 0.0

    def add(self, kind: FeedbackKind, delay: float) -> None:
        """One label that came `delay` seconds after its impression; a clock that says before it means at once."""
        delay = max(0.0, delay)
        if kind == "click":
            self._sum, self._weight = _AGED * self._sum + delay, _AGED * self._weight + 1.0
        if len(self._delays) < _KEPT:
            self._delays.append((kind, delay))

    def take(self) -> list[tuple[FeedbackKind, float]]:
        """All of them, in the order they came."""
        delays, self._delays = self._delays, []
        return delays

    @property
    def click_s(self) -> float:
        """Mean delay of the recent clicks, seconds; nan before the first."""
        return self._sum / self._weight if self._weight else math.nan

    @property
    def state(self) -> tuple[float, float]:
        """What `restore` takes: how long clicks take; what waits to be taken is no part of it."""
        return self._sum, self._weight

    def restore(self, state: tuple[float, float]) -> None:
        """Goes back to `state`."""
        self._sum, self._weight = state
