"""Event time of one group, bounded by the broker's clock (docs/decisions/0090).

A sender's time stamp is never trusted beyond the moment at which the broker appended its record. A record stamped
later counts as of that moment, so a fast clock cannot close other senders' windows.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from streaming.events import Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.kernel_log.join_state import TimeState

_NEVER = float("-inf")
_OF_IMPRESSIONS = (ServedImpression, Tick)
"""Records that say up to when impressions are known."""
_Stamped = TypeVar("_Stamped", ServedImpression, ServedFeedback)


def as_of_append(record: _Stamped, appended: float) -> _Stamped:
    """The record itself, or with its append time as event time if its stamp is later."""
    return record if record.time <= appended else msgspec.structs.replace(record, time=appended)


class EventTime:
    """A group's watermark, and the progress of ingest in reading feedback."""

    def __init__(self, lateness_s: float) -> None:
        self._lateness_s = lateness_s
        self.restore(TimeState())

    def restore(self, state: TimeState) -> None:
        """Restores the state that `state` returned."""
        self.newest, self.broker = state.newest, state.broker
        self._read, self._partitions = dict(state.read), state.partitions
        self._feedback_read()

    @property
    def state(self) -> TimeState:
        """The state for `restore`."""
        return TimeState(self.newest, self.broker, dict(self._read), self._partitions)

    def appended(self, at: float) -> None:
        """Advances the broker's clock by a record that it appended at this time. Feedback advances nothing else,
        because it says nothing of later impressions."""
        self.broker = max(self.broker, at)

    def move(self, record: Traffic, appended: float) -> None:
        """Advances event time by a record other than feedback."""
        self.appended(appended)
        if isinstance(record, _OF_IMPRESSIONS):
            self.newest = max(self.newest, min(record.time, appended))
            self._advance()
        elif isinstance(record, Progress):
            self._progress(record, appended)

    def _progress(self, record: Progress, appended: float) -> None:
        self._partitions = record.partitions
        known = {k: read for k, read in record.read.items() if 0 <= k < record.partitions}
        for k, read in known.items():
            # Feedback cannot have been read before it was appended, and this record was appended later still.
            self._read[k] = max(self._read.get(k, _NEVER), min(read, appended))
        self._read = {k: self._read[k] for k in sorted(self._read) if k < record.partitions}
        self._feedback_read()

    def _feedback_read(self) -> None:
        all_read = self._partitions > 0 and len(self._read) == self._partitions
        self.feedback = min(self._read.values()) - self._lateness_s if all_read else _NEVER
        """Seconds up to which ingest has read all feedback, by its slowest partition."""
        self._advance()

    def _advance(self) -> None:
        """Computes the times below once per change, because every record reads them several times."""
        self.watermark = self.newest - self._lateness_s
        """Event time before which no more impressions are expected, seconds."""
        self.frontier = min(self.watermark, self.feedback)
        """Event time up to which impressions and feedback are both known, seconds: windows that end before may
        close."""

    @property
    def unread_s(self) -> float:
        """How far reading of feedback lags behind the newest record, seconds; infinite before ingest reports."""
        return self.broker - self.feedback
