"""Clicked requests of which no label can change any more: what the conversion task is learned from.

A conversion comes up to an hour behind its click, and what waits for it stands in the closed requests anyway, where
late clicks and conversions find it. What leaves them was in time for all of its feedback.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streaming.kernel_log.closed import ClosedRequest


class RipeRequests:
    """In the order they ripened, until they are taken."""

    def __init__(self, wait_s: float) -> None:
        """`wait_s` is how long the oldest waits for more of them, seconds of event time."""
        self._wait_s = wait_s
        self._requests: dict[str, ClosedRequest] = {}
        self.since = 0.0
        """Event time up to which feedback was known when the oldest ripened, seconds."""
        self.evicted = 0
        """Clicked requests that had to leave for want of memory before they were ripe."""

    def __len__(self) -> int:
        return len(self._requests)

    def due(self, watermark: float, most: int) -> bool:
        """Whether they should be learned now: there are `most` of them, or the oldest has waited."""
        return len(self) >= most or bool(self._requests and watermark - self.since >= self._wait_s)

    def get(self, request_id: str) -> ClosedRequest | None:
        """A request that waits here."""
        return self._requests.get(request_id)

    def add(self, closed: ClosedRequest, frontier: float) -> None:
        """Takes what left the closed requests, if it was taught and clicked."""
        if _teaches(closed):
            if not self._requests:
                self.since = frontier
            self._requests[closed.request_id] = closed

    def evict(self, closed: ClosedRequest) -> None:
        """A request had to leave the closed ones too soon: what became of its clicks will never be known."""
        self.evicted += _teaches(closed)

    def take(self) -> list[ClosedRequest]:
        """All of them, in the order of the log."""
        taken, self._requests = self._requests, {}
        return sorted(taken.values(), key=lambda closed: closed.offset)

    def state(self) -> list[ClosedRequest]:
        """What waits, for a snapshot."""
        return [msgspec.structs.replace(closed) for closed in self._requests.values()]

    def restore(self, state: Iterable[ClosedRequest], since: float) -> None:
        """Takes what `state` gave."""
        self.since = since
        self._requests = {closed.request_id: closed for closed in state}


def _teaches(closed: ClosedRequest) -> bool:
    return closed.learned_at > 0 and any(closed.clicks)
