"""The requests that were closed lately: what tells duplicates from news, and what late clicks correct."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from streaming.kernel_log.closed import ClosedChanges, ClosedRequest, ClosedSegment, encode_segment
from streaming.kernel_log.join_state import ClosedState, RequestRef
from streaming.processor.ripe import RipeRequests

_REQUEST_BYTES = 330
"""What a closed request takes beside its id and its bits, measured (docs/decisions/0091)."""


@dataclass(slots=True)
class _Written:
    number: int
    end: int
    """Number behind the last request of the segment."""


class ClosedIndex:
    """Closed requests for `remembered_s` of event time within `max_bytes`, oldest first out.

    They are written as segments that are only appended: each cut adds what was taught and corrected since the last.
    """

    def __init__(self, remembered_s: float, max_bytes: int, ripe: RipeRequests | None = None) -> None:
        """`ripe` takes what is forgotten in time, where conversions are learned."""
        self.ripe = ripe
        self._remembered_s, self._max_bytes = remembered_s, max_bytes
        self._requests: dict[str, ClosedRequest] = {}
        self._order: deque[ClosedRequest] = deque()
        self._first = self._bytes = self._segments = 0
        self.forgotten = float("-inf")
        """Newest event time of a request that was dropped, seconds."""
        self._pending: list[ClosedRequest] = []
        self._fresh: list[ClosedRequest] = []
        self._corrected: dict[str, bytes] = {}
        self._converted: dict[str, bytes] = {}
        self._written: deque[_Written] = deque()
        self._expired: list[int] = []

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def memory_bytes(self) -> int:
        """Memory the requests take, estimated."""
        return self._bytes

    def get(self, request_id: str) -> ClosedRequest | None:
        """The request, if it was closed lately."""
        return self._requests.get(request_id)

    def find(self, request_id: str) -> ClosedRequest | None:
        """The request, if it was closed lately or is ripe."""
        ripe = None if self.ripe is None else self.ripe.get(request_id)
        return self._requests.get(request_id) or ripe

    def add(self, request_id: str, reference: RequestRef, time: float) -> None:
        """A request has closed and waits for its micro-batch."""
        conversions = reference.conversions if any(reference.conversions) else b""
        closed = ClosedRequest(request_id, reference.offset, time, reference.clicks, conversions=conversions)
        self._pending.append(closed)
        self._append(closed)

    def _append(self, closed: ClosedRequest) -> None:
        self._requests[closed.request_id] = closed
        self._order.append(closed)
        self._bytes += _bytes(closed)
        while self._bytes > self._max_bytes and self._order[0].learned_at >= 0:
            evicted = self._pop_oldest()
            self.forget(evicted.time)
            if self.ripe is not None:
                self.ripe.evict(evicted)

    def forget(self, time: float) -> None:
        """A request of this event time was dropped: whether an older one is news can no longer be told."""
        self.forgotten = max(self.forgotten, time)

    def learned(self, requests: int, examples: int, weight: bytes = b"") -> None:
        """The first `requests` that waited were taught; `examples` is how many the learner has been taught in all.

        `weight` is that of each of them (`ClosedRequest.weight`).
        """
        taught, self._pending = self._pending[:requests], self._pending[requests:]
        for closed in taught:
            closed.learned_at, closed.weight = examples, weight
            self._bytes += len(weight)
        self._fresh += taught

    def corrected(self, closed: ClosedRequest) -> None:
        """The clicks of a request have changed after it was taught."""
        self._corrected[closed.request_id] = closed.clicks

    def converted(self, closed: ClosedRequest) -> None:
        """The conversions of a request have changed after its labels were decided."""
        self._converted[closed.request_id] = closed.conversions

    def expire(self, frontier: float) -> None:
        """Forgets what can no longer be corrected at this event time."""
        while self._order and self._order[0].time + self._remembered_s <= frontier:
            if self._order[0].learned_at < 0:
                break  # a snapshot refers to what waits for its micro-batch: it stays until that is learned
            forgotten = self._pop_oldest()
            if self.ripe is not None:
                self.ripe.add(forgotten, frontier)

    def _pop_oldest(self) -> ClosedRequest:
        closed = self._order.popleft()
        if self._requests.get(closed.request_id) is closed:
            del self._requests[closed.request_id]
        self._bytes -= _bytes(closed)
        self._first += 1
        return closed

    # --- what is written ---

    def cut(self) -> ClosedChanges:
        """What changed since the last cut."""
        number, end = self._segments, self._first + len(self._order) - len(self._pending)
        segment = None
        if self._fresh or self._corrected or self._converted:
            # encoded at once: what is learned while the cut is written must not show in it
            first = end - len(self._fresh)
            segment = encode_segment(ClosedSegment(first, self._fresh, self._corrected, self._converted))
            self._written.append(_Written(number, end))
            self._segments += 1
            self._fresh, self._corrected, self._converted = [], {}, {}
        # one cut later than it could be: the snapshot before the last one must still find what it refers to
        expired, self._expired = self._expired, []
        while self._written and self._written[0].end <= self._first:
            self._expired.append(self._written.popleft().number)
        return ClosedChanges(number, segment, expired)

    @property
    def state(self) -> ClosedState:
        """What a snapshot behind the last cut says of it."""
        return ClosedState(self._first, self._segments, self.forgotten)

    def restore(self, state: ClosedState, segments: Mapping[int, ClosedSegment]) -> None:
        """Takes what was cut before `state`; requests that wait for their micro-batch are added behind it."""
        self._first, self._segments, self.forgotten = state.first, state.segments, state.forgotten
        for number, segment in segments.items():
            if number < state.segments:
                self._take(number, segment)
        if self._written:  # the same, unless a segment is missing
            self._first = self._written[-1].end - len(self._order)

    def _take(self, number: int, segment: ClosedSegment) -> None:
        skipped = max(0, self._first - segment.first)
        for closed in segment.requests[skipped:]:
            self._requests[closed.request_id] = closed
            self._order.append(closed)
            self._bytes += _bytes(closed)
        for request_id, clicks in segment.corrected.items():
            if (corrected := self._requests.get(request_id)) is not None:
                corrected.clicks = clicks
        for request_id, conversions in segment.converted.items():
            if (converted := self._requests.get(request_id)) is not None:
                converted.conversions = conversions
        self._written.append(_Written(number, segment.first + len(segment.requests)))


def _bytes(closed: ClosedRequest) -> int:
    return _REQUEST_BYTES + len(closed.request_id) + len(closed.clicks) + len(closed.weight)
