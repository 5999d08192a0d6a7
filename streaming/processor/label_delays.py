"""How long labels take to come: what the window should be set by."""

from __future__ import annotations

from streaming.events import FeedbackKind

_KEPT = 10_000


class LabelDelays:
    """Delays from impression to feedback since they were last taken, at most the first ten thousand of them."""

    def __init__(self) -> None:
        self._delays: list[tuple[FeedbackKind, float]] = []

    def add(self, kind: FeedbackKind, delay: float) -> None:
        """One label that came `delay` seconds after its impression; a clock that says before it means at once."""
        if len(self._delays) < _KEPT:
            self._delays.append((kind, max(0.0, delay)))

    def take(self) -> list[tuple[FeedbackKind, float]]:
        """All of them, in the order they came."""
        delays, self._delays = self._delays, []
        return delays
