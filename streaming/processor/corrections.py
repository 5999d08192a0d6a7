"""Late clicks on their way to the learner: gathered, looked up in the log, and made a correction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from streaming.events import ServedImpression
from streaming.kernel_log.closed import ClosedRequest
from streaming.kernel_log.join_state import WaitingClicks
from streaming.processor.closed_index import ClosedIndex
from streaming.processor.event_time import as_of_append
from streaming.processor.join import LabelledRequest, LateClick
from streaming.processor.traffic_reader import TrafficReader


@dataclass(frozen=True)
class LoggedRecord:
    """A record of a group's `traffic`, read again."""

    value: bytes | None
    appended: float
    """When the broker appended it, seconds."""


class LoggedTraffic(Protocol):
    """A group's partition of `traffic`, read by offset."""

    def read(self, offset: int) -> LoggedRecord | None:
        """The record at `offset`; None if the broker no longer has it."""


@dataclass(frozen=True)
class Correction:
    """Items of one request whose label turned from 0 to 1 after it was taught."""

    request: LabelledRequest
    """Its `clicks` are those that turned, and no others."""
    learned_at: int
    """`Learner.examples` right after the micro-batch that taught it."""


@dataclass
class Corrections:
    """Gathers late clicks, so that one read of the log and one product serve many. Counts in `dropped` what is lost."""

    index: ClosedIndex
    reader: TrafficReader
    log: LoggedTraffic
    dropped: Counter[str]
    since: float = 0.0
    """Watermark when the oldest that waits came, seconds."""
    _waiting: dict[str, tuple[ClosedRequest, list[str]]] = field(default_factory=dict)
    _clicks: int = 0

    def __len__(self) -> int:
        return self._clicks

    def add(self, late: LateClick, watermark: float) -> None:
        """A click for a request that was taught."""
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
        """The corrections of all that waited, in the order of the log."""
        waiting, self._waiting, self._clicks = self._waiting, {}, 0
        found = (self._look_up(*one) for one in sorted(waiting.values(), key=lambda one: one[0].offset))
        return [correction for correction in found if correction is not None]

    def _look_up(self, closed: ClosedRequest, items: list[str]) -> Correction | None:
        impression = self._impression(closed)
        if impression is None:
            self.dropped["uncorrectable"] += len(items)
            return None
        turned = np.zeros(len(impression.items), dtype=np.bool_)
        for item in items:
            turn(closed, impression, item, turned, self.dropped)
        if not turned.any():
            return None
        self.index.corrected(closed)
        request = LabelledRequest(closed.offset, impression, turned, np.zeros_like(turned))
        return Correction(request, closed.learned_at)

    def _impression(self, closed: ClosedRequest) -> ServedImpression | None:
        logged = self.log.read(closed.offset)
        record = None if logged is None else self.reader.read(closed.offset, logged.value)
        if logged is None or not isinstance(record, ServedImpression) or record.request_id != closed.request_id:
            return None
        return as_of_append(record, logged.appended)

    # --- state ---

    def state(self) -> list[WaitingClicks]:
        """What waits, for a snapshot."""
        return [WaitingClicks(msgspec.structs.replace(request), [*items]) for request, items in self._waiting.values()]

    def restore(self, state: Iterable[WaitingClicks], since: float) -> None:
        """Takes what `state` gave. The index must be restored before: it knows which clicks count already."""
        self.since = since
        for waiting in state:
            request = self.index.get(waiting.request.request_id) or waiting.request
            for item in waiting.items:
                self._add(request, item)


def turn(
    closed: ClosedRequest, impression: ServedImpression, item: str, clicks: NDArray[np.bool_], dropped: Counter[str]
) -> bool:
    """Counts `item` as clicked, in `closed` and in `clicks`, `(n,)`; if it cannot, says why in `dropped`."""
    index = impression.items.index(item) if item in impression.items else -1
    if index < 0:
        dropped["unshown_item"] += 1
    elif closed.clicked(index):
        dropped["duplicate"] += 1
    else:
        closed.click(index)
        clicks[index] = True
        return True
    return False
