"""Impressions whose labels are not decided yet, by request id, by closing time and by age."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from operator import attrgetter

import msgspec

from streaming.config import JoinConfig
from streaming.events import FeedbackKind, ServedImpression
from streaming.kernel_log.join_state import RequestRef
from streaming.kernel_log.label_bits import size_of

_LONGEST_OUTAGE_S = 86_400.0
"""Seconds. An impression held back for longer comes from an old log that is replayed with its clicks, not an outage."""
LONGEST_RETURN_S = 5.0
"""Seconds by which one sender may reconnect to a returned broker later than another: a few connection attempts."""
_REQUEST_BYTES, _ITEM_BYTES = 1_300, 65
"""Memory of an open request and of one item of it, besides ids and payload, measured (docs/decisions/0092)."""


class OpenRequest(msgspec.Struct, gc=False):
    """An impression that waits for feedback. It is part of no cycle, so the garbage collector need not examine it."""

    offset: int
    """Offset of the impression's record."""
    impression: ServedImpression
    close_at: float
    """Event time at which its window ends, seconds."""
    feedback_by: float
    """Append time up to which feedback must have been read before it may close, seconds."""
    patience: float
    """Append time at which it is dropped if its feedback has not been read by then, seconds."""
    size: int
    """Estimated memory, bytes."""
    bits: int
    """Number of bits that its labels take: one per item, filled up to whole bytes. Kept, because every click asks."""
    clicks: int = 0
    """Packed bits, one per item (`streaming.kernel_log.label_bits`), as one number: a bit of it is set fastest."""
    conversions: int = 0
    """The same for conversions."""

    def label(self, kind: FeedbackKind, index: int) -> bool:
        """Sets the label of the item at `index`; False if it is set already."""
        bit = 1 << self.bits - 1 - index
        if kind == "click":
            before, self.clicks = self.clicks, self.clicks | bit
        else:
            before, self.conversions = self.conversions, self.conversions | bit
        return not before & bit

    @property
    def reference(self) -> RequestRef:
        """The request with its present labels as a snapshot refers to it."""
        size = self.bits >> 3
        conversions = self.conversions.to_bytes(size, "big") if self.conversions else b""
        return RequestRef(self.offset, self.clicks.to_bytes(size, "big"), conversions)


class OpenRequests:
    """Open requests within `max_bytes`. Each step costs at most the logarithm of their number."""

    def __init__(self, config: JoinConfig) -> None:
        self._config = config
        self._requests: OrderedDict[str, OpenRequest] = OrderedDict()
        self.get: Callable[[str], OpenRequest | None] = self._requests.get
        """The request with an id, if it is open; every record asks for one, so it is the dictionary's own method."""
        self._closing: list[tuple[float, int, str]] = []
        self.bytes = 0
        """Estimated memory of the requests."""

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, offset: int, record: ServedImpression, appended: float) -> OpenRequest | None:
        """Opens a request that is not open yet; `appended` is its record's append time, seconds.

        Returns None if it would not fit even if all others were dropped.
        """
        size = _bytes(record)
        if size > self._config.max_bytes:
            return None
        close_at, feedback_by = record.time + self._config.window_s, self._feedback_by(record.time, appended)
        patience = max(feedback_by, appended) + self._config.progress_timeout_s
        request = OpenRequest(offset, record, close_at, feedback_by, patience, size, 8 * size_of(len(record.items)))
        self._requests[record.request_id] = request
        self.bytes += request.size
        heapq.heappush(self._closing, (close_at, offset, record.request_id))
        return request

    def _feedback_by(self, time: float, appended: float) -> float:
        """One window after the append time, and longer if the impression was held back: its clicks were, too.

        A broker outage holds back all senders, and each reconnects at its own time (0090).
        """
        held = appended - time
        if held <= 0:
            return appended + self._config.window_s
        if held > _LONGEST_OUTAGE_S:
            return time + self._config.window_s
        return appended + self._config.window_s + min(held, LONGEST_RETURN_S)

    @property
    def too_many(self) -> bool:
        """Whether requests have to be dropped."""
        return self.bytes > self._config.max_bytes

    def evict(self) -> Iterator[OpenRequest]:
        """Drops the oldest requests until the rest fits."""
        while self.too_many:
            _, request = self._requests.popitem(last=False)
            self.bytes -= request.size
            yield request
        if len(self._closing) > 2 * len(self._requests) + 1_000:  # evicted requests are still in this heap
            self._closing = [
                (open_request.close_at, open_request.offset, key) for key, open_request in self._requests.items()
            ]
            heapq.heapify(self._closing)

    @property
    def next_to_close(self) -> OpenRequest | None:
        """The request whose window ends first; None if none is open."""
        while self._closing:
            _, offset, request_id = self._closing[0]
            request = self._requests.get(request_id)
            if request is not None and request.offset == offset:
                return request
            heapq.heappop(self._closing)  # it was evicted
        return None

    def close(self, request: OpenRequest) -> None:
        """Removes the request that `next_to_close` returned."""
        heapq.heappop(self._closing)
        del self._requests[request.impression.request_id]
        self.bytes -= request.size

    def clear(self) -> list[OpenRequest]:
        """Removes all requests and returns them in the order of the log."""
        cleared = self.in_order()
        self._requests.clear()
        self._closing.clear()
        self.bytes = 0
        return cleared

    def in_order(self) -> list[OpenRequest]:
        """All requests in the order of the log."""
        return sorted(self._requests.values(), key=attrgetter("offset"))


def _bytes(record: ServedImpression) -> int:
    """Memory of an open request, estimated."""
    items = record.items
    words = len(record.request_id) + len(record.user_id) + len("".join(items))
    return _REQUEST_BYTES + _ITEM_BYTES * len(items) + words + record.payload_bytes
