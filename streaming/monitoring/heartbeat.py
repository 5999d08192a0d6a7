"""Whether an event loop still turns, told from outside of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_EVERY_S = 0.5
STUCK_S = 10.0
"""Longer than any honest work holds a loop; shorter than a balancer waits before it gives up on a process."""


class Heartbeat:
    """A task that beats on the loop, and a check that misses it from any other thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None

    async def run(self) -> None:
        """Beats until it is cancelled."""
        while True:
            self._last = self._clock()
            await asyncio.sleep(_EVERY_S)

    def check(self) -> str | None:
        """The check for `/healthz`: None before the first beat, and while the beats come."""
        since = 0.0 if self._last is None else self._clock() - self._last
        return f"the event loop has not turned for {since:.0f} s: requests wait" if since > STUCK_S else None
