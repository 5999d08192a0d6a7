"""Detects from another thread that an event loop is blocked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_EVERY_S = 0.5
STUCK_S = 10.0
"""Longer than any regular work blocks a loop, and shorter than load balancers wait before they give up a process."""


class Heartbeat:
    """A task that beats on the event loop, and a check for other threads that notices missing beats."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None

    async def run(self) -> None:
        """Updates the heartbeat until it is cancelled."""
        while True:
            self._last = self._clock()
            await asyncio.sleep(_EVERY_S)

    def check(self) -> str | None:
        """The check for `/healthz`; None before the first beat and while beats come."""
        since = 0.0 if self._last is None else self._clock() - self._last
        return f"the event loop has not turned for {since:.0f} s: requests wait" if since > STUCK_S else None
