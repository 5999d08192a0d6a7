"""Index of recently closed requests: it recognises repeated records, and late clicks find their request in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from streaming.join.mature_requests import MatureRequests
from streaming.kernel_log.closed import ClosedChanges, ClosedRequest, ClosedSegment, encode_segment
from streaming.kernel_log.join_state import ClosedState, RequestRef

_REQUEST_BYTES = 330
"""Memory of a closed request besides its id and its bits, measured (docs/decisions/0091)."""


@dataclass(slots=True)
class _Written:
    number: int
    end: int
    """Number after the segment's last request."""


class ClosedIndex:
    """Closed requests of the last `remembered_s` seconds of event time, within `max_bytes`; the oldest are dropped
    first.

    They are stored as append-only segments: each cut adds what was learned and corrected since the last cut.
    """

    def __init__(self, remembered_s: float, max_bytes: int, mature: MatureRequests | None = None) -> None:
        """`mature` receives the requests that leave because their time is over, if conversions are learned."""
        self.mature = mature
        self._remembered_s, self._max_bytes = remembered_s, max_bytes
        self._requests: dict[str, ClosedRequest] = {}
        self._order: deque[ClosedRequest] = deque()
        self._first = self._bytes = self._segments = 0
        self.forgotten = float("-inf")
        """Newest event time of any dropped request, seconds."""
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
        """Estimated memory of the requests, bytes."""
        return self._bytes

    def get(self, request_id: str) -> ClosedRequest | None:
        """The request, if it is in the index."""
        return self._requests.get(request_id)

    def find(self, request_id: str) -> ClosedRequest | None:
        """The request, if it is in the index or mature."""
        mature = None if self.mature is None else self.mature.get(request_id)
        return self._requests.get(request_id) or mature

    def add(self, request_id: str, reference: RequestRef, time: float) -> None:
        """Adds a request that has closed and waits for its micro-batch."""
        conversions = reference.conversions if any(reference.conversions) else b""
        closed = ClosedRequest(request_id, reference.offset, time, reference.clicks, conversions=conversions)
        self._pending.append(closed)
        self._append(closed)

    def _append(self, closed: ClosedRequest) -> None:
        """Adds a request; the oldest ones are evicted for lack of memory, unless they still wait to be learned."""
        self._requests[closed.request_id] = closed
        self._order.append(closed)
        self._bytes += _bytes(closed)
        while self._bytes > self._max_bytes and self._order[0].learned_at >= 0:
            evicted = self._pop_oldest()
            self.forget(evicted.time)
            if self.mature is not None:
                self.mature.evict(evicted)

    def forget(self, time: float) -> None:
        """Records that a request of this event time was dropped, so that older repeats can no longer be recognised."""
        self.forgotten = max(self.forgotten, time)

    def learned(self, requests: int, examples: int, weight: bytes = b"") -> None:
        """Records that the first `requests` waiting requests were learned; `examples` is the learner's count
        afterwards.

        `weight` holds the weight of each request (`ClosedRequest.weight`).
        """
        learned, self._pending = self._pending[:requests], self._pending[requests:]
        for closed in learned:
            closed.learned_at, closed.weight = examples, weight
            self._bytes += len(weight)
        self._fresh += learned

    def corrected(self, closed: ClosedRequest) -> None:
        """Records that the clicks of a learned request have changed."""
        self._corrected[closed.request_id] = closed.clicks

    def converted(self, closed: ClosedRequest) -> None:
        """Records that the conversions of a request have changed after its labels were decided."""
        self._converted[closed.request_id] = closed.conversions

    def expire(self, frontier: float) -> None:
        """Drops requests that are too old to be corrected at this event time."""
        while self._order and self._order[0].time + self._remembered_s <= frontier:
            if self._order[0].learned_at < 0:
                break  # not learned yet, and a snapshot may refer to it
            forgotten = self._pop_oldest()
            if self.mature is not None:
                self.mature.add(forgotten, frontier)

    def _pop_oldest(self) -> ClosedRequest:
        closed = self._order.popleft()
        if self._requests.get(closed.request_id) is closed:
            del self._requests[closed.request_id]
        self._bytes -= _bytes(closed)
        self._first += 1
        return closed

    # --- segments ---

    def cut(self) -> ClosedChanges:
        """Changes since the last cut, for the next commit."""
        number, end = self._segments, self._first + len(self._order) - len(self._pending)
        segment = None
        if self._fresh or self._corrected or self._converted:
            # Encoded now, so that what is learned while the cut is being written does not enter it.
            first = end - len(self._fresh)
            segment = encode_segment(ClosedSegment(first, self._fresh, self._corrected, self._converted))
            self._written.append(_Written(number, end))
            self._segments += 1
            self._fresh, self._corrected, self._converted = [], {}, {}
        # Deleted one cut later than possible, because the snapshot before the last must still find its segments.
        expired, self._expired = self._expired, []
        while self._written and self._written[0].end <= self._first:
            self._expired.append(self._written.popleft().number)
        return ClosedChanges(number, segment, expired)

    @property
    def state(self) -> ClosedState:
        """The index's part of a snapshot taken right after the last cut."""
        return ClosedState(self._first, self._segments, self.forgotten)

    def restore(self, state: ClosedState, segments: Mapping[int, ClosedSegment]) -> None:
        """Restores the segments cut before `state`; requests that wait for their micro-batch are added afterwards."""
        self._first, self._segments, self.forgotten = state.first, state.segments, state.forgotten
        for number, segment in segments.items():
            if number < state.segments:
                self._take(number, segment)
        if self._written:  # equal to the state's first segment, unless a segment is missing
            self._first = self._written[-1].end - len(self._order)

    def _take(self, number: int, segment: ClosedSegment) -> None:
        """Adds a segment's requests that are still remembered, and its later labels of older ones."""
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
