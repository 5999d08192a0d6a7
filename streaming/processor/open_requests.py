"""The impressions whose labels are not decided yet: by request id, by when they close, and by how old they are."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.config import JoinConfig
from streaming.events import CONVERSION_PAYLOADS, PAYLOADS, ConvertingImpression, ServedImpression

_LONGEST_OUTAGE_S = 86_400.0
"""What was held back for longer comes from no outage: it is an old log that is played again, its clicks with it."""
LONGEST_RETURN_S = 5.0
"""How much later than another a sender finds back to a broker that was away: some of its attempts to connect."""
_REQUEST_BYTES, _ITEM_BYTES = 1_300, 65
"""What an open request and one item of it take beside ids and payload, measured (docs/decisions/0092)."""


@dataclass(slots=True)
class OpenRequest:
    """An impression that waits for its feedback."""

    offset: int
    """Offset of the impression's record."""
    impression: ServedImpression
    close_at: float
    """Event time at which its window ends, seconds."""
    feedback_by: float
    """Append time up to which its feedback has to be read before it closes, seconds."""
    patience: float
    """Append time at which it is given up if its feedback is not known by then, seconds."""
    bytes: int
    labels: NDArray[np.bool_] | None = None
    """Clicks and conversions, `(2, n)`; None before the first."""


class OpenRequests:
    """Open requests within `max_bytes`. What a step costs grows with the logarithm of how many there are, at most."""

    def __init__(self, config: JoinConfig) -> None:
        self._config = config
        self._requests: OrderedDict[str, OpenRequest] = OrderedDict()
        self._closing: list[tuple[float, int, str]] = []
        self.bytes = 0
        """Memory they take, estimated."""

    def __len__(self) -> int:
        return len(self._requests)

    def get(self, request_id: str) -> OpenRequest | None:
        """The request, if it is open."""
        return self._requests.get(request_id)

    def fits(self, record: ServedImpression) -> bool:
        """Whether there is memory for it at all, whatever makes room."""
        return _bytes(record) <= self._config.max_bytes

    def add(self, offset: int, record: ServedImpression, appended: float) -> OpenRequest:
        """Opens a request that is not open; `appended` is the broker time of its record, seconds."""
        close_at, feedback_by = record.time + self._config.window_s, self._feedback_by(record.time, appended)
        patience = max(feedback_by, appended) + self._config.progress_timeout_s
        request = OpenRequest(offset, record, close_at, feedback_by, patience, _bytes(record))
        self._requests[record.request_id] = request
        self.bytes += request.bytes
        heapq.heappush(self._closing, (close_at, offset, record.request_id))
        return request

    def _feedback_by(self, time: float, appended: float) -> float:
        """A window behind the append: what held an impression back, held back its clicks, for longer if not for less.

        An outage of the broker does so with every sender, and each finds back at a time of its own (0090).
        """
        held = max(appended - time, 0.0)
        if held > _LONGEST_OUTAGE_S:
            return time + self._config.window_s
        return appended + self._config.window_s + min(held, LONGEST_RETURN_S)

    def evict(self) -> Iterator[OpenRequest]:
        """Drops the oldest until the others fit."""
        while self.bytes > self._config.max_bytes:
            _, request = self._requests.popitem(last=False)
            self.bytes -= request.bytes
            yield request
        if len(self._closing) > 2 * len(self._requests) + 1_000:  # what was evicted is still in there
            self._closing = [(one.close_at, one.offset, key) for key, one in self._requests.items()]
            heapq.heapify(self._closing)

    @property
    def next_to_close(self) -> OpenRequest | None:
        """The one whose window ends first; None if none is open."""
        while self._closing:
            _, offset, request_id = self._closing[0]
            request = self._requests.get(request_id)
            if request is not None and request.offset == offset:
                return request
            heapq.heappop(self._closing)  # it was evicted
        return None

    def close(self, request: OpenRequest) -> None:
        """Takes the one out that is `next_to_close`."""
        heapq.heappop(self._closing)
        del self._requests[request.impression.request_id]
        self.bytes -= request.bytes

    def clear(self) -> list[OpenRequest]:
        """Takes all of them out, in the order of the log."""
        cleared = self.in_order()
        self._requests.clear()
        self._closing.clear()
        self.bytes = 0
        return cleared

    def in_order(self) -> list[OpenRequest]:
        """All of them, in the order of the log."""
        return sorted(self._requests.values(), key=lambda request: request.offset)


def _bytes(record: ServedImpression) -> int:
    names = (*PAYLOADS, *CONVERSION_PAYLOADS) if isinstance(record, ConvertingImpression) else PAYLOADS
    payload = sum(len(getattr(record, name)) for name in names)
    words = len(record.request_id) + len(record.user_id) + sum(len(item) for item in record.items)
    return _REQUEST_BYTES + _ITEM_BYTES * len(record.items) + words + payload
