"""The re-read after a restart: it takes from the log the records that a snapshot refers to, and no others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.gate.gate import WeightedBatch
from streaming.events import ServedImpression, Traffic
from streaming.kernel_log.join_state import RequestRef
from streaming.kernel_log.snapshot import GroupSnapshot
from streaming.processor.event_time import as_of_append
from streaming.processor.join import Join, LabelledRequest


class Recovery:
    """Takes records from `snapshot.resume_offset` to `snapshot.next_offset` and reopens in `join` what was open.

    The snapshot names every impression that it needs, so the earlier history of the join does not matter (decision
    0070).
    """

    def __init__(self, snapshot: GroupSnapshot, join: Join) -> None:
        self.snapshot = snapshot
        self._join = join
        self._pending: dict[int, ServedImpression | None] = {ref.offset: None for ref in snapshot.labelled}
        self._open: dict[int, RequestRef | None] = dict.fromkeys(snapshot.join.open_offsets)
        self._open |= {ref.offset: ref for ref in snapshot.join.labelled}

    def needs(self, offset: int) -> bool:
        """Whether the snapshot refers to the record at `offset`."""
        return offset in self._pending or offset in self._open

    def take(self, offset: int, record: Traffic, appended: float) -> None:
        """Takes a record that is needed."""
        if not isinstance(record, ServedImpression):
            return
        if offset in self._pending:
            self._pending[offset] = as_of_append(record, appended)
        if offset in self._open:
            self._join.reopen(offset, record, appended, self._open.pop(offset))

    @property
    def missing(self) -> int:
        """Number of lost requests: the log lacks them, or a part of the micro-batch that they waited in."""
        gone = {offset for offset, impression in self._pending.items() if impression is None}
        for batch in self.snapshot.waiting:
            offsets = {ref.offset for ref in batch.requests}
            if offsets & gone:
                gone |= offsets
        return len(self._open) + len(gone)

    def rebuild_waiting(self) -> list[WeightedBatch[LabelledRequest]]:
        """The micro-batches that waited in the gate, without those that the log no longer has completely."""
        waiting = []
        for batch in self.snapshot.waiting:
            requests = self.rebuild(batch.requests)
            if len(requests) == len(batch.requests):
                weight, set_aside = np.frombuffer(batch.weight), np.frombuffer(batch.set_aside, dtype=np.bool_)
                waiting.append(WeightedBatch(requests, weight.copy(), set_aside.copy()))
        return waiting

    def rebuild(self, refs: Sequence[RequestRef]) -> list[LabelledRequest]:
        """The labelled requests of `refs`, without those that are missing."""
        referred = ((ref, self._pending[ref.offset]) for ref in refs)
        return [
            LabelledRequest(ref.offset, impression, *ref.labels(len(impression.items)))
            for ref, impression in referred
            if impression is not None
        ]
