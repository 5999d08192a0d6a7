"""Joins served impressions with their feedback in event time, deterministically, for one partition.

A window closes when impressions *and* feedback are known up to its end (`event_time`). Items clicked by then are
positives, the others negatives, which a later click may still correct (`closed_index`). The result depends on the
records alone, so the same records in the same order always give the same examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from streaming.config import JoinConfig
from streaming.events import FeedbackKind, ServedFeedback, ServedImpression, Traffic
from streaming.join.closed_index import ClosedIndex
from streaming.join.event_time import EventTime, as_of_append
from streaming.join.label_delays import LabelDelays
from streaming.join.mature_requests import MatureRequests
from streaming.join.open_requests import OpenRequest, OpenRequests
from streaming.join.unmatched import UnmatchedFeedback
from streaming.kernel_log.closed import ClosedRequest, ClosedSegment
from streaming.kernel_log.join_state import JoinState, RequestRef


class LabelledRequest(msgspec.Struct, frozen=True, eq=False):
    """An impression whose labels are decided."""

    offset: int
    """Offset of the impression's record."""
    impression: ServedImpression
    clicks: NDArray[np.bool_]
    """Per item, `(n,)`."""
    conversions: NDArray[np.bool_]
    """Per item, `(n,)`."""

    @property
    def reference(self) -> RequestRef:
        """This request as a snapshot refers to it."""
        return RequestRef.of(self.offset, self.clicks, self.conversions)


@dataclass(frozen=True, slots=True)
class LateClick:
    """A click for a closed request."""

    request: ClosedRequest
    item_id: str


@dataclass(frozen=True, slots=True)
class LateConversion:
    """A conversion for a closed request, within the conversion window."""

    request: ClosedRequest
    item_id: str


class Joined(msgspec.Struct, frozen=True):
    """The results of one record."""

    closed: Sequence[LabelledRequest] = ()
    """Requests that closed, in that order."""
    late: LateClick | LateConversion | None = None
    shown: ServedImpression | None = None
    """The record as it was taken, if it is an impression that is not refused."""


NOTHING = Joined()
"""Most records close nothing; sharing their result saves making one for each."""


class Join:
    """Matches impressions and feedback of one group by request id and item id.

    A request id belongs to one impression. Feedback may come before its impression, within the window, after it, and
    repeatedly. `dropped` counts records that the join cannot use, by reason.
    """

    def __init__(self, config: JoinConfig, mature: MatureRequests | None = None) -> None:
        """`mature` receives the requests whose labels are final, if conversions are learned."""
        self._config = config
        self._windows: dict[FeedbackKind, float] = {
            "click": config.click_s, "conversion": config.conversion_window_s,
        }  # fmt: skip
        self.dropped: Counter[str] = Counter()
        self.ahead = 0
        """Number of impressions stamped more than `lateness_s` ahead of the broker."""
        self.time = EventTime(config.lateness_s)
        remembered_s = max(config.click_s, config.conversion_window_s, config.patience_s)
        self.closed = ClosedIndex(remembered_s, config.horizon_bytes, mature)
        self.unmatched = UnmatchedFeedback(config.patience_s, config.feedback_bytes, self.dropped)
        self.delays = LabelDelays()
        self.open = OpenRequests(config)
        self._paused_until = float("-inf")

    @property
    def paused(self) -> bool:
        """Whether no window can close because ingest has not reported reading the feedback of windows long over."""
        return self.time.feedback < self._paused_until

    @property
    def watermark(self) -> float:
        """Event time before which no more impressions are expected, seconds."""
        return self.time.watermark

    def feed(self, offset: int, record: Traffic, appended: float) -> Joined:
        """Takes the record at `offset`; returns the requests that it closes, and feedback for closed requests.

        `appended` is when the broker appended the record, seconds.
        """
        if isinstance(record, ServedFeedback):  # most records; it does not move the watermark, so it closes nothing
            self.time.appended(appended)
            return self._feedback(record if record.time <= appended else as_of_append(record, appended))
        self.time.move(record, appended)
        shown = None
        if isinstance(record, ServedImpression):
            self.ahead += record.time > appended + self._config.lateness_s
            shown = self._impression(offset, as_of_append(record, appended), appended)
        closed = self._close()
        frontier = self.time.frontier
        self.unmatched.expire(frontier)
        self.closed.expire(frontier)
        return Joined(closed, shown=shown) if closed or shown else NOTHING

    def leave_open(self) -> None:
        """Drops all open requests. Their clicks may be in records that are skipped, and without them labels would be
        false."""
        for entry in self.open.clear():
            self._lose(entry, "left_out")

    # --- state ---

    def state(self) -> JoinState:
        """The state for `restore`, taken right after a cut of `closed`. Open impressions are stored by offset."""
        opened = self.open.in_order()
        labelled = [entry.reference for entry in opened if entry.clicks or entry.conversions]
        open_from, bits = JoinState.pack_open([entry.offset for entry in opened])
        waiting, closed = self.unmatched.state(), self.closed.state
        return JoinState(
            self.time.state, open_from, bits, labelled, waiting, closed, self._paused_until, self.delays.state
        )

    def restore(self, state: JoinState, segments: Mapping[int, ClosedSegment]) -> None:
        """Goes back to `state`, except for open requests, which `reopen` adds as they are read again."""
        self.time.restore(state.time)
        self.unmatched.restore(state.unmatched)
        self.closed.restore(state.closed, segments)
        self._paused_until = state.paused_until
        self.delays.restore(state.delays)

    def reopen(self, offset: int, record: ServedImpression, appended: float, labels: RequestRef | None) -> None:
        """Opens an impression that was open in the state, with the labels that it had."""
        entry = self.open.add(offset, as_of_append(record, appended), appended)
        if entry is not None and labels is not None:
            entry.clicks = int.from_bytes(labels.clicks, "big")
            entry.conversions = int.from_bytes(labels.conversions, "big")

    # --- impressions ---

    def _impression(self, offset: int, record: ServedImpression, appended: float) -> ServedImpression | None:
        """Opens an impression and labels it by feedback that came first; None if it is refused."""
        if self.open.get(record.request_id) is not None or self.closed.get(record.request_id) is not None:
            self.dropped["duplicate"] += 1
        elif self._too_late(record):
            self.dropped["late_impression"] += 1
        elif (entry := self.open.add(offset, record, appended)) is None:
            self.dropped["evicted"] += 1
        else:
            for feedback in self.unmatched.take(record.request_id):
                self._label(entry, feedback)
            if self.open.too_many:
                for evicted in self.open.evict():
                    self._lose(evicted, "evicted")
            return record
        return None

    def _too_late(self, record: ServedImpression) -> bool:
        """Whether its feedback may have been dropped, or the request may be a repeat that is no longer remembered.

        Within these bounds, an impression that comes after its own window is labelled by the feedback that waited.
        """
        gone = record.time + self._config.patience_s <= self.time.frontier
        return gone or record.time <= self.closed.forgotten

    def _lose(self, entry: OpenRequest, reason: str) -> None:
        self.closed.forget(entry.impression.time)
        self.dropped[reason] += 1

    # --- feedback ---

    def _feedback(self, record: ServedFeedback) -> Joined:
        """Labels an open request; returns feedback for a closed one, and keeps what has no impression yet."""
        if (entry := self.open.get(record.request_id)) is not None:
            self._label(entry, record)
        elif (closed := self.closed.get(record.request_id)) is not None:
            late = self._late(closed, record)
            return NOTHING if late is None else Joined(late=late)
        elif record.time + self._config.patience_s <= self.time.frontier:
            self.dropped["late_feedback"] += 1
        else:
            self.unmatched.add(record)
        return NOTHING

    def _label(self, entry: OpenRequest, record: ServedFeedback) -> None:
        """Sets an item's label in an open request, unless it was not shown, or the feedback repeats or is late."""
        impression = entry.impression
        try:
            index = impression.items.index(record.item_id)
        except ValueError:
            self.dropped["unshown_item"] += 1
            return
        delay = record.time - impression.time
        if delay > self._windows[record.kind]:
            self.dropped["late_feedback"] += 1
        elif entry.label(record.kind, index):
            self.delays.add(record.kind, delay)
        else:
            self.dropped["duplicate"] += 1

    def _late(self, closed: ClosedRequest, record: ServedFeedback) -> LateClick | LateConversion | None:
        delay = record.time - closed.time
        if delay > self._windows[record.kind] or (record.kind == "click" and self._config.horizon_s == 0):
            self.dropped["late_feedback"] += 1
            return None
        self.delays.add(record.kind, delay)
        return (LateClick if record.kind == "click" else LateConversion)(closed, record.item_id)

    # --- closing ---

    def _close(self) -> list[LabelledRequest]:
        """Closes requests whose window is over and whose feedback is read; drops those that waited too long."""
        closed = []
        while (entry := self.open.next_to_close) is not None:
            read = entry.feedback_by <= self.time.feedback
            if read and entry.close_at <= self.time.watermark:
                closed.append(self._labelled(entry))
            elif not read and entry.patience < self.time.broker:
                # Its clicks may still be unread in `interactions`, so learning it now would make false negatives.
                self.open.close(entry)
                self._lose(entry, "feedback_unread")
                self._paused_until = entry.feedback_by
            else:
                break
        return closed

    def _labelled(self, entry: OpenRequest) -> LabelledRequest:
        self.open.close(entry)
        impression, reference = entry.impression, entry.reference
        self.closed.add(impression.request_id, reference, impression.time)
        return LabelledRequest(entry.offset, impression, *reference.labels(len(impression.items)))
