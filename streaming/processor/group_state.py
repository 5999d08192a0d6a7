"""The state of a kernel group between two records: its parts, and how they are stored and restored.

`GroupMachine` adds the steps that change the state, one record at a time. A snapshot refers to open and waiting records
by their offsets in the log. After `restore` these are read again, and none of them is learned twice
(`docs/recovery.md`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from features.live.layout import LiveRow
from model.container import ContainerError
from model.gate.gate import LearnerCheckpoint, WeightedBatch
from streaming.kernel_log.closed import ClosedChanges, ClosedSegment
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.join_state import WaitingBatch
from streaming.kernel_log.snapshot import ConversionState, GroupSnapshot
from streaming.processor.group_parts import GroupParts
from streaming.processor.join import LabelledRequest
from streaming.processor.recovery import Recovery

log = logging.getLogger(__name__)


class GroupState(GroupParts):
    """The parts of one group, which a snapshot stores and `restore` brings back."""

    def take_closed(self) -> ClosedChanges:
        """Changes of the closed requests since the last call; the next `snapshot` must be written with them."""
        return self.join.closed.cut()

    def snapshot(self) -> GroupSnapshot:
        """The state between two records. Raises RuntimeError during recovery, when the old snapshot is still valid."""
        if self._recovery is not None:
            raise RuntimeError(f"group {self.group!r} has not finished its recovery")
        gate = self.guarded.gate
        # Open and pending requests are stored as offsets, because the log has their tensors (decision 0070).
        return GroupSnapshot(
            group=self.group,
            fingerprint=self._fingerprint,
            next_offset=self._position,
            version=self.version,
            examples=self.examples,
            newest_event_time=self.newest_event_time,
            published_at=self.publisher.published_at,
            join=self.join.state(),
            late=self._late.state(),
            late_since=self._late.since,
            pending=[request.reference for request in self._pending],
            pending_since=self._pending.since,
            learner=self.learner.snapshot(),
            gate={**self.guarded.state(), "lost": self._lost_feedback - self._lost_before},
            waiting=[_waiting(batch) for batch in gate.waiting],
            good=0 if gate.good is None else gate.good.number,
            next_good=0 if gate.next_good is None else gate.next_good.number,
            learning=self.learning,
            drift=self.drift.state(self.dropped),
            uplift=self.experiment.snapshot(),
            converting=self.conversions.gathered.state(),
            converting_since=self.conversions.gathered.since,
            conversions=self._conversion_state(),
        )

    def _conversion_state(self) -> ConversionState | msgspec.UnsetType:
        head, mature = self.conversions.head, self.conversions.mature
        if head is None or mature is None:
            return msgspec.UNSET
        return msgspec.structs.replace(head.state(), mature=mature.state(), mature_since=mature.since)

    def restore(
        self,
        snapshot: GroupSnapshot,
        rows: Iterable[LiveRow],
        closed: Mapping[int, ClosedSegment],
        rows_offset: int = 0,
        kept: Sequence[LearnerCheckpoint] = (),
    ) -> None:
        """Goes back to `snapshot`; the records from `snapshot.resume_offset` on must be fed next.

        `rows` contain all records before `rows_offset`, which may be later than the snapshot. They then stay unchanged
        until learning has reached that offset. This is exact, because the kernel learns from the features that were
        served. `closed` are the segments of the closed requests by number, `kept` the learner's checkpoints.

        Raises SnapshotError, before any change, if the learner cannot restore its part of the snapshot.
        """
        try:
            self.learner.check(snapshot.learner)
            self._restore_conversions(snapshot.conversions)
            self.learner.restore(snapshot.learner)
        except ContainerError as error:
            raise SnapshotError(f"the snapshot of group {self.group!r} cannot be used: {error}") from error
        self.restore_rows(rows)
        self._rows_offset = rows_offset
        publisher = self.publisher
        publisher.version, publisher.examples = snapshot.version, snapshot.examples
        publisher.newest_event_time, publisher.published_at = snapshot.newest_event_time, snapshot.published_at
        self.learning = snapshot.learning
        self.experiment.restore(snapshot.uplift)
        self._position = snapshot.resume_offset
        self.join.restore(snapshot.join, closed)
        self._late.restore(snapshot.late, snapshot.late_since)
        self.conversions.gathered.restore(snapshot.converting, snapshot.converting_since)
        self.guarded.load(snapshot.gate)
        self.drift.load(snapshot.drift)
        self._lost_before = -int(snapshot.gate["lost"])
        gate = self.guarded.gate
        gate.good, gate.next_good = (self._kept(kept, number) for number in (snapshot.good, snapshot.next_good))
        self._kept_written = max(snapshot.good, snapshot.next_good)
        self._recovery = Recovery(snapshot, self.join)

    def _restore_conversions(self, state: ConversionState | msgspec.UnsetType) -> None:
        """Raises SnapshotError or ContainerError if snapshot and backbone have different tasks."""
        head, mature = self.conversions.head, self.conversions.mature
        if (head is None) != (state is msgspec.UNSET):
            holds, has = ("no", "tells them") if head is not None else ("a task of", "knows clicks alone")
            raise SnapshotError(
                f"the snapshot of group {self.group!r} holds {holds} conversions, but the backbone {has}: serve the "
                "backbone it was learned on, or give this one topics of its own (topics.kernels, .state)"
            )
        if head is None or mature is None or isinstance(state, msgspec.UnsetType):
            return
        head.restore(state, self.learner.start)
        mature.restore(state.mature, state.mature_since)

    def _kept(self, kept: Sequence[LearnerCheckpoint], number: int) -> LearnerCheckpoint | None:
        for state in kept:
            if state.number == number:
                try:
                    self.learner.check(state.learner)
                except ContainerError as error:
                    log.error("group %s: the checkpoint %d cannot be used: %s", self.group, number, error)
                    return None
                return state
        if number:
            log.error("group %s: the checkpoint %d is missing: what is undone goes further back", self.group, number)
        return None

    def take_checkpoints(self) -> list[LearnerCheckpoint]:
        """States to which the learner may return, new since the last call; written with the next snapshot."""
        gate = self.guarded.gate
        fresh = [kept for kept in (gate.good, gate.next_good) if kept is not None and kept.number > self._kept_written]
        self._kept_written = max([self._kept_written, *(kept.number for kept in fresh)])
        return fresh

    def _reread(self, recovery: Recovery, offset: int, value: bytes | None, appended: float) -> None:
        if recovery.needs(offset):
            record = self._reader.read(offset, value, known=True)  # checked before; checks are most of the work (0146)
            if record is not None:
                recovery.take(offset, record, appended)

    def _finish_recovery(self, recovery: Recovery) -> None:
        snapshot, refused = recovery.snapshot, self._reader.refused
        self.join.dropped.clear()  # the earlier owner has already counted these records
        refused.clear()
        if recovery.missing:
            log.warning(
                "group %s: traffic lacks %d requests that its snapshot refers to; they are lost, nothing is learned "
                "from them; raise topics.traffic_retention_h",
                self.group,
                recovery.missing,
            )
            refused["lost_in_recovery"] += recovery.missing
        self.guarded.gate.waiting = recovery.rebuild_waiting()
        self._pending.restore(recovery.rebuild(snapshot.pending), snapshot.pending_since)
        head = self.conversions.head
        if head is not None and not isinstance(snapshot.conversions, msgspec.UnsetType):
            lost = head.reopen(snapshot.conversions.waiting, self._logged.labelled)
            self.join.dropped["uncorrectable"] += lost
        in_doubt = [request for batch in self.guarded.gate.waiting for request in batch.requests]
        for request in [*in_doubt, *self._pending]:
            self.join.closed.add(request.impression.request_id, request.reference, request.impression.time)
        self._recovery = None


def _waiting(batch: WeightedBatch[LabelledRequest]) -> WaitingBatch:
    refs = [request.reference for request in batch.requests]
    return WaitingBatch(refs, batch.weight.tobytes(), batch.set_aside.tobytes())
