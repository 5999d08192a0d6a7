"""Event time of one group, with the broker's clock as its upper bound (docs/decisions/0090).

No sender's clock is believed beyond the moment at which the broker appended its record: whoever is ahead counts as of
that moment and moves nobody else's windows.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from streaming.events import Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.kernel_log.join_state import TimeState

_NEVER = float("-inf")
_Stamped = TypeVar("_Stamped", ServedImpression, ServedFeedback)


def as_of_append(record: _Stamped, appended: float) -> _Stamped:
    """The record, if it is stamped ahead of the broker as of its append time."""
    return record if record.time <= appended else msgspec.structs.replace(record, time=appended)


class EventTime:
    """The watermark, and how far the feedback's own path has been read."""

    def __init__(self, lateness_s: float) -> None:
        self._lateness_s = lateness_s
        self.restore(TimeState())

    def restore(self, state: TimeState) -> None:
        """Goes back to `state`."""
        self.newest, self.broker = state.newest, state.broker
        self._read, self._partitions = dict(state.read), state.partitions
        self._look_at_feedback()

    @property
    def state(self) -> TimeState:
        """What `restore` takes."""
        return TimeState(self.newest, self.broker, dict(self._read), self._partitions)

    def move(self, record: Traffic, appended: float) -> None:
        """Takes the time of a record. Feedback proves nothing about impressions still to come: it moves nothing."""
        self.broker = max(self.broker, appended)
        if isinstance(record, Progress):
            self._progress(record, appended)
        elif isinstance(record, ServedImpression | Tick):
            self.newest = max(self.newest, min(record.time, appended))

    def _progress(self, record: Progress, appended: float) -> None:
        self._partitions = record.partitions
        known = {k: read for k, read in record.read.items() if 0 <= k < record.partitions}
        for k, read in known.items():
            # Feedback cannot have been read before it was appended, and the record came after both.
            self._read[k] = max(self._read.get(k, _NEVER), min(read, appended))
        self._read = {k: self._read[k] for k in sorted(self._read) if k < record.partitions}
        self._look_at_feedback()

    def _look_at_feedback(self) -> None:
        told = self._partitions > 0 and len(self._read) == self._partitions
        self.feedback = min(self._read.values()) - self._lateness_s if told else _NEVER
        """No feedback before it is expected any more, seconds: what ingest has read of its slowest partition."""

    @property
    def watermark(self) -> float:
        """No impression before it is expected any more, seconds."""
        return self.newest - self._lateness_s

    @property
    def unread_s(self) -> float:
        """How far behind the newest record feedback has been read, seconds; infinite before ingest has told."""
        return self.broker - self.feedback

    @property
    def frontier(self) -> float:
        """Windows that end before it may close, seconds: impressions and their feedback are both known up to here."""
        return min(self.watermark, self.feedback)
