"""Decides when ticks advance event time while there is no traffic (docs/decisions/0012). It has no broker.

The rule, for one partition of `traffic`: once its end offset has not changed for the interval (progress marks and ticks
do not count), and this process has *seen* it unchanged, a tick carries the newest event time plus the time for which it
was seen unchanged. It never exceeds the wall clock, nor the newest event time plus a bound, after which all windows are
closed and ticks stop. So a tick claims no more event time than has passed since the newest event, for live and recorded
events alike. The rule needs no knowledge of who wrote the events, and a restarted ingest continues from the ticks in
the partition.

Time without the broker does not count, because writers then hold back records, which a tick that skipped that time
would make late. Their reconnecting gets `grace_s` more.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tail:
    """The newest event times at the end of a partition."""

    newest: float
    """Newest event time of an impression or feedback."""
    reached: float
    """Newest event time of any record, ticks included."""


@dataclass(frozen=True)
class IdleRule:
    """The times of the rule, seconds."""

    interval_s: float
    bound_s: float
    """How far ticks go beyond the newest event, enough for every window to end."""
    grace_s: float = 2.0
    """Additional idle time that is required after the broker was away."""
    gap_s: float = 2.0
    """Longest time between two looks during which the partition counts as watched."""


class IdleClock:
    """The rule for one partition."""

    def __init__(self, rule: IdleRule) -> None:
        self._rule = rule
        self._end = -1
        self._looked = float("-inf")
        self._since = 0.0
        self._quiet_from = 0.0
        self._tail: Tail | None = None
        self._shown = False
        self._newest = float("-inf")
        self._written = float("-inf")

    @property
    def since(self) -> float:
        """When traffic last grew the partition, or watching started again, monotonic seconds."""
        return self._since

    @property
    def seen(self) -> int:
        """The newest end offset seen; -1 before the first look."""
        return self._end

    def passed(self, end: int) -> None:
        """Records that up to `end` only marks and ticks were added, which do not count as traffic."""
        self._end = end

    def routed(self, time: float) -> None:
        """Records that this process wrote an event of this time to the partition."""
        self._newest = max(self._newest, time)

    def look(self, end: int, monotonic: float) -> bool:
        """Takes the end offset at `monotonic` seconds; returns whether the partition is idle and `show` must be
        called."""
        # After a long gap between looks the partition was not watched, and writers may hold back records: start anew.
        unseen = monotonic - self._looked > self._rule.gap_s
        if unseen or end != self._end:
            self._since = monotonic
            self._quiet_from = monotonic + self._rule.interval_s + (self._rule.grace_s if unseen else 0.0)
            self._tail, self._shown = None, False
        self._end, self._looked = end, monotonic
        return not self._shown and end > 0 and monotonic >= self._quiet_from

    def show(self, tail: Tail | None) -> None:
        """Takes the partition's newest event times; None if it holds no impression or feedback any more."""
        self._shown = True
        if tail is not None:
            self._newest = max(self._newest, tail.newest)
            self._tail = Tail(self._newest, max(self._newest, tail.reached))
            self._written = self._tail.reached

    def due(self, monotonic: float, wall: float) -> float | None:
        """Event time of a tick to write now, or None; `wall` is wall-clock time, seconds since the epoch."""
        if self._tail is None or monotonic < self._quiet_from:
            return None
        # Not more than the time seen to pass, because the stream may be a recording whose next event is in the past.
        seen = monotonic - self._since
        time = min(self._tail.reached + seen, self._tail.newest + self._rule.bound_s, wall)
        return time if time > self._written else None

    def wrote(self, time: float, offset: int, monotonic: float) -> None:
        """Records a tick written at `offset`. At the known end it is no traffic; if further on, records came before."""
        self._written = time
        if offset == self._end:
            self.passed(offset + 1)
            self._quiet_from = monotonic + self._rule.interval_s
