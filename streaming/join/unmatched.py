"""Feedback whose impression has not come yet: it may be early, or anybody may have made it up."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from streaming.events import FeedbackKind, ServedFeedback
from streaming.kernel_log.join_state import WaitingFeedback

_LABELS_OF_ONE = 64
"""Feedback kept per unknown request; a person sends no more than this before the impression comes."""
_REQUEST_BYTES, _LABEL_BYTES = 480, 180
"""Memory of a request and of one feedback of it besides their ids, measured (docs/decisions/0092)."""


@dataclass(slots=True)
class _Waiting:
    expires: float
    bytes: int
    feedback: dict[tuple[str, FeedbackKind], float] = field(default_factory=dict)


class UnmatchedFeedback:
    """Keeps feedback for `patience_s` of event time within `max_bytes`; `dropped` counts what it could not keep.

    Its memory limit is separate, so that made-up ids cannot push out requests that were shown.
    """

    def __init__(self, patience_s: float, max_bytes: int, dropped: Counter[str]) -> None:
        self._patience_s, self._max_bytes = patience_s, max_bytes
        self._dropped = dropped
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, record: ServedFeedback) -> None:
        """Keeps one feedback; the oldest request makes room for it."""
        waiting = self._waiting.get(record.request_id)
        if waiting is None:
            waiting = _Waiting(float("-inf"), _REQUEST_BYTES + len(record.request_id))
            self._waiting[record.request_id] = waiting
            self._bytes += waiting.bytes
        key = (record.item_id, record.kind)
        if key in waiting.feedback:
            self._dropped["duplicate"] += 1
        elif len(waiting.feedback) >= _LABELS_OF_ONE:
            self._dropped["feedback_evicted"] += 1
        else:
            waiting.feedback[key] = record.time
            waiting.expires = max(waiting.expires, record.time + self._patience_s)
            waiting.bytes += (added := _LABEL_BYTES + len(record.item_id))
            self._bytes += added
        while self._bytes > self._max_bytes:
            self._dropped["feedback_evicted"] += len(self._pop_oldest().feedback)

    def take(self, request_id: str) -> list[ServedFeedback]:
        """All feedback that waited for `request_id`."""
        waiting = self._waiting.pop(request_id, None)
        if waiting is None:
            return []
        self._bytes -= waiting.bytes
        return [ServedFeedback(request_id, item, time, kind) for (item, kind), time in waiting.feedback.items()]

    def expire(self, frontier: float) -> None:
        """Drops what has waited long enough by event time, oldest request first."""
        while self._waiting and next(iter(self._waiting.values())).expires <= frontier:
            self._dropped["orphan_feedback"] += len(self._pop_oldest().feedback)

    def _pop_oldest(self) -> _Waiting:
        _, waiting = self._waiting.popitem(last=False)
        self._bytes -= waiting.bytes
        return waiting

    def state(self) -> list[WaitingFeedback]:
        """All that waits, in its order. By value: a reference would keep the log's re-read from moving on."""
        return [
            WaitingFeedback(request_id, [(item, kind, time) for (item, kind), time in waiting.feedback.items()])
            for request_id, waiting in self._waiting.items()
        ]

    def restore(self, state: Iterable[WaitingFeedback]) -> None:
        """Restores the state that `state` returned."""
        for waiting in state:
            for item, kind, time in waiting.feedback:
                self.add(ServedFeedback(waiting.request_id, item, time, kind))
