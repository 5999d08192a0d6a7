"""Estimates this machine's clock offset from the broker's clock, from acknowledgements of its own writes.

All processes share the broker's clock, because topics stamp records as they are appended (`LogAppendTime`). A record
handed over at `sent` and acknowledged at `acked`, both by this machine's clock, was appended in between, so
handed over at `sent` and acknowledged at `acked`, both by the own clock, was appended in between, so

    appended - acked <= offset <= appended - sent,

and every acknowledgement narrows the earlier bounds (Marzullo's interval intersection for one source; widening the
bounds with age, because clocks drift apart, is ours).
"""

from __future__ import annotations

import math
import threading
import time

LOG_APPEND_TIME = 1
"""Timestamp type of a record that carries the broker's time; 0 means the sender's."""

_RESOLUTION_S = 0.001
"""Kafka truncates time stamps to milliseconds."""
_DRIFT = 500e-6
"""Largest drift between two clocks, seconds per second: the limit at which NTP distrusts a clock."""

_began = time.time() - time.monotonic()


def steady_wall() -> float:
    """Wall-clock time, seconds since the epoch, which no change of the system's clock affects during this process.

    If the clock were changed, records waiting for their first acknowledgement would get the new time. This time keeps
    the error that it had at the start, which `BrokerClock` measures.
    """
    return _began + time.monotonic()


class BrokerClock:
    """Offset of the broker's clock from this machine's. Safe to use from several threads.

    The estimate is conservative: the offset is 0 until acknowledgements prove it wrong, and then the allowed value
    nearest to the previous one. A topic with the senders' times (`CreateTime`) proves nothing and changes nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._low, self._high = -math.inf, math.inf
        self._at = -math.inf
        self.offset_s = 0.0
        """Broker time minus own time, seconds."""

    def acknowledged(self, sent_wall: float, acked_wall: float, appended: float) -> None:
        """Takes an acknowledgement: own times of sending and acknowledging, broker time of appending; all in
        seconds."""
        low, high = appended - acked_wall, appended + _RESOLUTION_S - sent_wall
        if low > high:
            return  # the own clock was set back meanwhile, so this acknowledgement proves nothing
        with self._lock:
            kept_low, kept_high = self._bounds(acked_wall)
            self._low, self._high = max(low, kept_low), min(high, kept_high)
            if self._low > self._high:  # one of the clocks was changed, so only the newest bounds count
                self._low, self._high = low, high
            self._at = acked_wall
            self.offset_s = min(max(self.offset_s, self._low), self._high)

    def now(self, wall: float) -> float:
        """Estimated broker time at own time `wall`, seconds."""
        return wall + self.offset_s

    def earliest(self, wall: float) -> float:
        """Lower bound of broker time at own time `wall`, seconds; minus infinity if nothing is known."""
        with self._lock:
            return wall + self._bounds(wall)[0]

    def _bounds(self, wall: float) -> tuple[float, float]:
        wider = _DRIFT * abs(wall - self._at) if math.isfinite(self._at) else 0.0
        return self._low - wider, self._high + wider
