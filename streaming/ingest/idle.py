"""When event time is moved on although no traffic comes (docs/decisions/0012). No broker: offsets in, ticks out.

The rule, for one partition of `traffic`: once its end offset has stood still for the interval, marks of progress and
ticks apart, and has been *seen* to stand still, a tick carries (newest event time in it) + (time seen standing still).
Never more than the wall clock, and never more than (newest event time) + bound, after which all windows are closed and
the ticks end. So a tick claims no more event time than has passed since the newest event, whether events are live or
recorded long ago; it needs no knowledge of who wrote them; and a restarted ingest goes on from the ticks that stand in
the partition.

Time in which the broker was away is not counted: writers hold their records back meanwhile, and a tick that jumped over
it would make them late. Their reconnecting gets `grace_s` more.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tail:
    """What the end of a partition holds."""

    newest: float
    """Newest event time of an impression or feedback."""
    reached: float
    """Newest event time of any record, ticks included."""


@dataclass(frozen=True)
class IdleRule:
    """The times of the rule, seconds."""

    interval_s: float
    bound_s: float
    """How far beyond the newest event ticks go: enough for every window to end."""
    grace_s: float = 2.0
    """Extra standing still that is asked for after the broker was away."""
    gap_s: float = 2.0
    """Longest time between two looks that still counts as watching."""


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
        """When the partition was last seen to grow by traffic, monotonic seconds; or when watching began anew."""
        return self._since

    @property
    def seen(self) -> int:
        """The end offset that was seen last; -1 before the first look."""
        return self._end

    def passed(self, end: int) -> None:
        """Up to `end` nothing but marks and ticks was added: that is no traffic."""
        self._end = end

    def routed(self, time: float) -> None:
        """An event of this time was written to the partition by this process."""
        self._newest = max(self._newest, time)

    def look(self, end: int, monotonic: float) -> bool:
        """Takes note of the end offset at `monotonic` seconds; True if the partition is idle and `show` has to come."""
        # After a long gap nobody saw the partition stand still, and writers may hold records back: count from now.
        unseen = monotonic - self._looked > self._rule.gap_s
        if unseen or end != self._end:
            self._since = monotonic
            self._quiet_from = monotonic + self._rule.interval_s + (self._rule.grace_s if unseen else 0.0)
            self._tail, self._shown = None, False
        self._end, self._looked = end, monotonic
        return not self._shown and end > 0 and monotonic >= self._quiet_from

    def show(self, tail: Tail | None) -> None:
        """Takes what the partition ends with; None if it holds no impression or feedback any more."""
        self._shown = True
        if tail is not None:
            self._newest = max(self._newest, tail.newest)
            self._tail = Tail(self._newest, max(self._newest, tail.reached))
            self._written = self._tail.reached

    def due(self, monotonic: float, wall: float) -> float | None:
        """Event time of the tick to write now, or None; `wall` is wall-clock time, seconds since the epoch."""
        if self._tail is None or monotonic < self._quiet_from:
            return None
        # Never more event time than was seen to pass: the stream may be recorded, and its next event older than now.
        seen = monotonic - self._since
        time = min(self._tail.reached + seen, self._tail.newest + self._rule.bound_s, wall)
        return time if time > self._written else None

    def wrote(self, time: float, offset: int, monotonic: float) -> None:
        """Our tick stands at `offset`: at the end that was seen it is no traffic, further on records came before it."""
        self._written = time
        if offset == self._end:
            self.passed(offset + 1)
            self._quiet_from = monotonic + self._rule.interval_s
