"""How the state of a kernel group between two records is stored and restored.

A snapshot refers to open and waiting records by their offsets in the log. After `restore_parts` a `Recovery` reads them
again, and none of them is learned twice (`docs/recovery.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from features.live.layout import LiveRow
from model.container import ContainerError
from model.gate.gate import LearnerCheckpoint, WeightedBatch
from streaming.group.conversions import GroupConversions
from streaming.group.parts import GroupParts
from streaming.join.join import LabelledRequest
from streaming.kernel_log.closed import ClosedSegment
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.join_state import WaitingBatch
from streaming.kernel_log.snapshot import ConversionState, GroupSnapshot


def take_snapshot(parts: GroupParts, position: int, *, learning: bool) -> GroupSnapshot:
    """The state before the record at offset `position`. The changes of closed requests must have been cut before."""
    publisher, late, later = parts.publisher, parts.late_clicks.gathered, parts.conversions.gathered
    good, next_good = parts.checkpoints.numbers
    # Open and pending requests are stored as offsets, because the log has their tensors (decision 0070).
    return GroupSnapshot(
        group=parts.group,
        fingerprint=parts.fingerprint,
        next_offset=position,
        version=publisher.version,
        examples=publisher.examples,
        newest_event_time=publisher.newest_event_time,
        published_at=publisher.published_at,
        join=parts.join.state(),
        late=late.state(),
        late_since=late.since,
        pending=[request.reference for request in parts.pending],
        pending_since=parts.pending.since,
        learner=parts.guarded.learner.snapshot(),
        gate={**parts.guarded.state(), "lost": parts.lost.waiting},
        waiting=[_waiting(batch) for batch in parts.guarded.gate.waiting],
        good=good,
        next_good=next_good,
        learning=learning,
        drift=parts.drift.state(parts.dropped),
        uplift=parts.experiment.snapshot(),
        converting=later.state(),
        converting_since=later.since,
        conversions=_conversion_state(parts.conversions),
    )


def _waiting(batch: WeightedBatch[LabelledRequest]) -> WaitingBatch:
    refs = [request.reference for request in batch.requests]
    return WaitingBatch(refs, batch.weight.tobytes(), batch.set_aside.tobytes())


def _conversion_state(conversions: GroupConversions) -> ConversionState | msgspec.UnsetType:
    head, mature = conversions.head, conversions.mature
    if head is None or mature is None:
        return msgspec.UNSET
    return msgspec.structs.replace(head.state(), mature=mature.state(), mature_since=mature.since)


def restore_parts(
    parts: GroupParts,
    snapshot: GroupSnapshot,
    *,
    rows: Iterable[LiveRow],
    closed: Mapping[int, ClosedSegment],
    rows_offset: int,
    kept: Sequence[LearnerCheckpoint],
) -> None:
    """Restores all but the open and waiting requests; the arguments are those of `GroupMachine.restore`.

    Raises SnapshotError, before any change, if the learner cannot restore its part of the snapshot.
    """
    learner = parts.guarded.learner
    try:
        learner.check(snapshot.learner)
        _restore_conversions(parts, snapshot.conversions)
        learner.restore(snapshot.learner)
    except ContainerError as error:
        raise SnapshotError(f"the snapshot of group {parts.group!r} cannot be used: {error}") from error
    parts.rows.restore(rows, rows_offset)
    publisher = parts.publisher
    publisher.version, publisher.examples = snapshot.version, snapshot.examples
    publisher.newest_event_time, publisher.published_at = snapshot.newest_event_time, snapshot.published_at
    parts.experiment.restore(snapshot.uplift)
    parts.join.restore(snapshot.join, closed)
    parts.late_clicks.gathered.restore(snapshot.late, snapshot.late_since)
    parts.conversions.gathered.restore(snapshot.converting, snapshot.converting_since)
    parts.guarded.load(snapshot.gate)
    parts.drift.load(snapshot.drift)
    parts.lost.restore(int(snapshot.gate["lost"]))
    parts.checkpoints.restore(kept, snapshot.good, snapshot.next_good)


def _restore_conversions(parts: GroupParts, state: ConversionState | msgspec.UnsetType) -> None:
    """Raises SnapshotError or ContainerError if snapshot and backbone have different tasks."""
    head, mature = parts.conversions.head, parts.conversions.mature
    if (head is None) != (state is msgspec.UNSET):
        holds, has = ("no", "tells them") if head is not None else ("a task of", "knows clicks alone")
        raise SnapshotError(
            f"the snapshot of group {parts.group!r} holds {holds} conversions, but the backbone {has}: serve the "
            "backbone it was learned on, or give this one topics of its own (topics.kernels, .state)"
        )
    if head is None or mature is None or isinstance(state, msgspec.UnsetType):
        return
    head.restore(state, parts.guarded.learner.start)
    mature.restore(state.mature, state.mature_since)
