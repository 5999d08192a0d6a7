"""When refused records mean that the whole stream is wrong, so that ingest has to stop (docs/decisions/0013)."""

from __future__ import annotations

from collections import Counter, deque


class TooManyRefusedError(Exception):
    """More of the recent records were refused than the limit allows: ingest stops before it drains the topic."""


class RefusalWindow:
    """Counts the refused among the last `size` records; `note` raises when their share is over `ratio` (0 to 1)."""

    def __init__(self, size: int, ratio: float) -> None:
        self._ratio = ratio
        self._recent: deque[str | None] = deque(maxlen=size)
        self._reasons: Counter[str] = Counter()

    def note(self, reason: str | None) -> None:
        """One more record; `reason` None was accepted. Raises TooManyRefusedError once the window is full."""
        if len(self._recent) == self._recent.maxlen:
            oldest = self._recent[0]
            if oldest is not None:
                self._reasons[oldest] -= 1
        self._recent.append(reason)
        if reason is not None:
            self._reasons[reason] += 1
        refused = self._reasons.total()
        if len(self._recent) == self._recent.maxlen and refused > self._ratio * len(self._recent):
            worst, count = self._reasons.most_common(1)[0]
            raise TooManyRefusedError(
                f"{refused} of the last {len(self._recent)} records were refused, most of them ({count}) as {worst!r}."
                " Ingest stops here rather than turn the topic into dead letters: look at them, mend the sender, and"
                " start again (it goes on with the next record), or raise ingest.dead_letter_ratio"
            )
