"""Late clicks and conversions of closed requests: gathered, looked up in the log, and turned into corrections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from streaming.events import FeedbackKind, ServedImpression
from streaming.group.traffic_reader import TrafficReader
from streaming.join.closed_index import ClosedIndex
from streaming.join.event_time import as_of_append
from streaming.join.join import LabelledRequest, LateClick, LateConversion
from streaming.kernel_log.closed import ClosedRequest
from streaming.kernel_log.join_state import WaitingClicks


@dataclass(frozen=True)
class LoggedRecord:
    """A record of a group's `traffic`, read again from the log."""

    value: bytes | None
    appended: float
    """When the broker appended it, seconds."""


class LoggedTraffic(Protocol):
    """A group's partition of `traffic`, readable by offset."""

    def read(self, offset: int) -> LoggedRecord | None:
        """The record at `offset`; None if the broker no longer has it."""


@dataclass(frozen=True)
class Correction:
    """Items of one request whose label turned from 0 to 1 after the labels were decided."""

    request: LabelledRequest
    """The request. In the label that is corrected only the turned items are set; the other label is as now known."""
    learned_at: int
    """`Learner.examples` right after the micro-batch that learned the request."""
    weight: NDArray[np.float64]
    """Weight of each of its examples when they were learned, `(n,)`."""


@dataclass(frozen=True)
class LoggedRequests:
    """Looks up the impressions of closed requests in the log."""

    reader: TrafficReader
    log: LoggedTraffic

    def impression(self, closed: ClosedRequest) -> ServedImpression | None:
        """The request's impression; None if the log no longer has it."""
        logged = self.log.read(closed.offset)
        record = None if logged is None else self.reader.read(closed.offset, logged.value)
        if logged is None or not isinstance(record, ServedImpression) or record.request_id != closed.request_id:
            return None
        return as_of_append(record, logged.appended)

    def labelled(self, closed: ClosedRequest) -> LabelledRequest | None:
        """The request with its present labels; None if the log no longer has it."""
        impression = self.impression(closed)
        if impression is None:
            return None
        return LabelledRequest(closed.offset, impression, *closed.labels(len(impression.items)))


@dataclass
class Corrections:
    """Gathers late feedback of one kind, so that one read of the log and one matrix product serve many requests.

    `dropped` counts feedback that is lost.
    """

    kind: FeedbackKind
    index: ClosedIndex
    logged: LoggedRequests
    dropped: Counter[str]
    most: int
    """Number of waiting feedback from which it is looked up at once."""
    wait_s: float
    """How long the oldest waits for more, seconds of event time."""
    since: float = 0.0
    """Watermark when the oldest waiting feedback came, seconds."""
    _waiting: dict[str, tuple[ClosedRequest, list[str]]] = field(default_factory=dict)
    _clicks: int = 0

    def __len__(self) -> int:
        return self._clicks

    def is_due(self, watermark: float) -> bool:
        """Whether the waiting feedback should be looked up now: there is enough of it, or the oldest has waited."""
        return self._clicks >= self.most or (self._clicks > 0 and watermark - self.since >= self.wait_s)

    def add(self, late: LateClick | LateConversion, watermark: float) -> None:
        """Adds feedback for a closed request."""
        if not self._waiting:
            self.since = watermark
        self._add(late.request, late.item_id)

    def _add(self, request: ClosedRequest, item_id: str) -> None:
        _, items = self._waiting.setdefault(request.request_id, (request, []))
        if item_id in items:
            self.dropped["duplicate"] += 1
        else:
            items.append(item_id)
            self._clicks += 1

    def take(self) -> list[Correction]:
        """Looks up all waiting feedback; returns its corrections in the order of the log."""
        waiting, self._waiting, self._clicks = self._waiting, {}, 0
        found = (self._look_up(*late) for late in sorted(waiting.values(), key=lambda late: late[0].offset))
        return [correction for correction in found if correction is not None]

    def _look_up(self, closed: ClosedRequest, items: list[str]) -> Correction | None:
        """Turns the labels of a request's items; None if the log no longer has it, or if no label changed."""
        impression = self.logged.impression(closed)
        if impression is None:
            self.dropped["uncorrectable"] += len(items)
            return None
        turned = np.zeros(len(impression.items), dtype=np.bool_)
        for item in items:
            turn(self.kind, closed, impression, item, turned, self.dropped)
        if not turned.any():
            return None
        clicks, conversions = closed.labels(len(turned))
        if self.kind == "click":
            self.index.corrected(closed)
            request = LabelledRequest(closed.offset, impression, turned, conversions)
        else:
            self.index.converted(closed)
            request = LabelledRequest(closed.offset, impression, clicks, turned)
        return Correction(request, closed.learned_at, closed.weights(len(turned)))

    # --- state ---

    def state(self) -> list[WaitingClicks]:
        """The waiting feedback, for a snapshot."""
        return [WaitingClicks(msgspec.structs.replace(request), [*items]) for request, items in self._waiting.values()]

    def restore(self, state: Iterable[WaitingClicks], since: float) -> None:
        """Restores waiting feedback; the index must be restored first, because it knows which clicks already count."""
        self.since = since
        for waiting in state:
            request = self.index.find(waiting.request.request_id) or waiting.request
            for item in waiting.items:
                self._add(request, item)


def turn(  # noqa: PLR0917 -- a label and all that knows of it
    kind: FeedbackKind,
    closed: ClosedRequest,
    impression: ServedImpression,
    item: str,
    labels: NDArray[np.bool_],
    dropped: Counter[str],
) -> bool:
    """Marks `item` as clicked or converted in `closed` and in `labels`, `(n,)`; returns whether that was a change.

    If it was none, `dropped` counts the reason.
    """
    index = impression.items.index(item) if item in impression.items else -1
    if index < 0:
        dropped["unshown_item"] += 1
        return False
    if closed.clicked(index) if kind == "click" else closed.converted(index):
        dropped["duplicate"] += 1
        return False
    (closed.click if kind == "click" else closed.convert)(index)
    labels[index] = True
    return True
