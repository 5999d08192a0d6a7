"""How far this machine's clock is from the broker's, learned from acknowledgements of own writes. No broker in it.

All parts share one clock, the broker's: topics stamp records as they are appended (`LogAppendTime`). A record that was
handed over at `sent` and acknowledged at `acked`, both by the own clock, was appended in between, so

    appended - acked <= offset <= appended - sent,

and every acknowledgement narrows what the ones before it left (Marzullo's interval intersection of one source; ours in
that the bounds widen with age, since two clocks drift apart).
"""

from __future__ import annotations

import math
import threading
import time

LOG_APPEND_TIME = 1
"""Timestamp type of a record whose time is the broker's; 0 is the sender's."""

_RESOLUTION_S = 0.001
"""Kafka's stamps are whole milliseconds, cut off."""
_DRIFT = 500e-6
"""How fast two clocks drift apart at most, seconds per second: what NTP allows a clock before it gives it up."""

_began = time.time() - time.monotonic()


def steady_wall() -> float:
    """Wall-clock time, seconds since the epoch, that no step of the system's clock moves while this process lives.

    A clock that is set moves records that wait for their first acknowledgement under the new time; this one is wrong
    by what it was wrong at the start, which `BrokerClock` finds out.
    """
    return _began + time.monotonic()


class BrokerClock:
    """The offset of the broker's clock from the own one. Safe to use from several threads.

    Conservative: the offset is 0 until acknowledgements prove the own clock wrong, and then the nearest to the one
    before that they allow. So a topic that keeps the senders' times (`CreateTime`) proves nothing and changes nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._low, self._high = -math.inf, math.inf
        self._at = -math.inf
        self.offset_s = 0.0
        """Broker's time less own time, seconds."""

    def acknowledged(self, sent_wall: float, acked_wall: float, appended: float) -> None:
        """An own record, sent and acknowledged at these own times, was appended at this broker time; all seconds."""
        low, high = appended - acked_wall, appended + _RESOLUTION_S - sent_wall
        if low > high:
            return  # the own clock was set back in between: this one proves nothing
        with self._lock:
            kept_low, kept_high = self._bounds(acked_wall)
            self._low, self._high = max(low, kept_low), min(high, kept_high)
            if self._low > self._high:  # one of the clocks was set: only the newest counts
                self._low, self._high = low, high
            self._at = acked_wall
            self.offset_s = min(max(self.offset_s, self._low), self._high)

    def now(self, wall: float) -> float:
        """Broker time at own time `wall`, seconds, as well as it is known."""
        return wall + self.offset_s

    def earliest(self, wall: float) -> float:
        """The least that broker time can be at own time `wall`, seconds; minus infinity if nothing is known."""
        with self._lock:
            return wall + self._bounds(wall)[0]

    def _bounds(self, wall: float) -> tuple[float, float]:
        wider = _DRIFT * abs(wall - self._at) if math.isfinite(self._at) else 0.0
        return self._low - wider, self._high + wider
