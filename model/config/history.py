"""Which of a user's events are kept for the user encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HistorySpec:
    """Which of a user's events the live history keeps."""

    length: int
    """Number of newest events that are kept; 0 keeps none."""
    skips: bool = False
    """Whether items that were shown and not clicked are kept beside clicked ones."""
    delay_s: float = 0.0
    """Seconds; pretraining shows a request only events older than this."""


NO_HISTORY = HistorySpec(0)
