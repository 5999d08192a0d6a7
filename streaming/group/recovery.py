"""The re-read after a restart: it takes from the log the records that a snapshot refers to, and no others."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
import numpy as np

from model.gate.gate import WeightedBatch
from streaming.events import ServedImpression
from streaming.group.parts import GroupParts
from streaming.join.event_time import as_of_append
from streaming.join.join import LabelledRequest
from streaming.kernel_log.join_state import RequestRef
from streaming.kernel_log.snapshot import GroupSnapshot

log = logging.getLogger(__name__)


class Recovery:
    """Takes records from `snapshot.resume_offset` to `snapshot.next_offset`; open requests are open again at once.

    The snapshot names every impression that it needs, so the earlier history of the join does not matter (decision
    0070).
    """

    def __init__(self, snapshot: GroupSnapshot, parts: GroupParts) -> None:
        """`parts` are those that the snapshot was restored into (`snapshot.restore_parts`)."""
        self.snapshot = snapshot
        self._parts = parts
        self._pending: dict[int, ServedImpression | None] = {ref.offset: None for ref in snapshot.labelled}
        self._open: dict[int, RequestRef | None] = dict.fromkeys(snapshot.join.open_offsets)
        self._open |= {ref.offset: ref for ref in snapshot.join.labelled}

    def feed(self, offset: int, value: bytes | None, appended: float) -> None:
        """Takes the record at `offset` if the snapshot refers to it; nothing is learned from it."""
        if offset not in self._open and offset not in self._pending:
            return
        # It passed the checks when it came first, and they are most of the work (0146).
        record = self._parts.reader.read(offset, value, known=True)
        if not isinstance(record, ServedImpression):
            return
        if offset in self._pending:
            self._pending[offset] = as_of_append(record, appended)
        if offset in self._open:
            self._parts.join.reopen(offset, record, appended, self._open.pop(offset))

    def finish(self) -> None:
        """Restores what waits to be learned, from the records that were taken, and counts what the log has lost."""
        parts, snapshot = self._parts, self.snapshot
        parts.join.dropped.clear()  # the earlier owner has already counted these records
        parts.reader.refused.clear()
        if self.missing:
            log.warning(
                "group %s: traffic lacks %d requests that its snapshot refers to; they are lost, nothing is learned "
                "from them; raise topics.traffic_retention_h",
                parts.group,
                self.missing,
            )
            parts.reader.refused["lost_in_recovery"] += self.missing
        waiting = parts.guarded.gate.waiting = self._rebuild_waiting()
        parts.pending.restore(self._rebuild(snapshot.pending), snapshot.pending_since)
        head = parts.conversions.head
        if head is not None and not isinstance(snapshot.conversions, msgspec.UnsetType):
            lost = head.reopen(snapshot.conversions.waiting, parts.logged.labelled)
            parts.join.dropped["uncorrectable"] += lost
        for request in [*(request for batch in waiting for request in batch.requests), *parts.pending]:
            parts.join.closed.add(request.impression.request_id, request.reference, request.impression.time)

    @property
    def missing(self) -> int:
        """Number of lost requests: the log lacks them, or a part of the micro-batch that they waited in."""
        gone = {offset for offset, impression in self._pending.items() if impression is None}
        for batch in self.snapshot.waiting:
            offsets = {ref.offset for ref in batch.requests}
            if offsets & gone:
                gone |= offsets
        return len(self._open) + len(gone)

    def _rebuild_waiting(self) -> list[WeightedBatch[LabelledRequest]]:
        """The micro-batches that waited in the gate, without those that the log no longer has completely."""
        waiting = []
        for batch in self.snapshot.waiting:
            requests = self._rebuild(batch.requests)
            if len(requests) == len(batch.requests):
                weight, set_aside = np.frombuffer(batch.weight), np.frombuffer(batch.set_aside, dtype=np.bool_)
                waiting.append(WeightedBatch(requests, weight.copy(), set_aside.copy()))
        return waiting

    def _rebuild(self, refs: Sequence[RequestRef]) -> list[LabelledRequest]:
        """The labelled requests of `refs`, without those that are missing."""
        referred = ((ref, self._pending[ref.offset]) for ref in refs)
        return [
            LabelledRequest(ref.offset, impression, *ref.labels(len(impression.items)))
            for ref, impression in referred
            if impression is not None
        ]
