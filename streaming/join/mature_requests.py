"""Mature requests: clicked requests whose labels can no longer change, from which the conversion task learns.

A conversion comes up to an hour after its click. Until then the request is in the closed index anyway, where late
clicks and conversions find it. A request that leaves the index by age has all its feedback.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streaming.kernel_log.closed import ClosedRequest


class MatureRequests:
    """Mature requests in the order in which they matured, until they are taken."""

    def __init__(self, wait_s: float) -> None:
        """`wait_s` is how long the oldest waits for more, seconds of event time."""
        self._wait_s = wait_s
        self._requests: dict[str, ClosedRequest] = {}
        self.since = 0.0
        """Event time up to which feedback was known when the oldest one matured, seconds."""
        self.evicted = 0
        """Number of clicked requests that left for lack of memory before they were mature."""

    def __len__(self) -> int:
        return len(self._requests)

    def due(self, watermark: float, most: int) -> bool:
        """Whether they should be learned now: there are `most` of them, or the oldest has waited long enough."""
        return len(self) >= most or bool(self._requests and watermark - self.since >= self._wait_s)

    def get(self, request_id: str) -> ClosedRequest | None:
        """The request, if it is waiting to be learned."""
        return self._requests.get(request_id)

    def add(self, closed: ClosedRequest, frontier: float) -> None:
        """Adds a request that left the closed index, if it was learned and clicked."""
        if _is_learned_click(closed):
            if not self._requests:
                self.since = frontier
            self._requests[closed.request_id] = closed

    def evict(self, closed: ClosedRequest) -> None:
        """Counts a request that left the closed index too soon, so that its conversions will never be known."""
        self.evicted += _is_learned_click(closed)

    def take(self) -> list[ClosedRequest]:
        """Removes all requests and returns them in the order of the log."""
        taken, self._requests = self._requests, {}
        return sorted(taken.values(), key=lambda closed: closed.offset)

    def state(self) -> list[ClosedRequest]:
        """The waiting requests, for a snapshot."""
        return [msgspec.structs.replace(closed) for closed in self._requests.values()]

    def restore(self, state: Iterable[ClosedRequest], since: float) -> None:
        """Restores waiting requests."""
        self.since = since
        self._requests = {closed.request_id: closed for closed in state}


def _is_learned_click(closed: ClosedRequest) -> bool:
    return closed.learned_at > 0 and any(closed.clicks)
