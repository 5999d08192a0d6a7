"""The whole state of a group between two records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.live.layout import Kind, LiveRow
from model.gate.gate import LearnerCheckpoint
from streaming.group.learned import PublishedKernel
from streaming.group.machine import GroupMachine
from streaming.kernel_log.closed import ClosedSegment, decode_segment
from streaming.kernel_log.snapshot import GroupSnapshot


@dataclass(frozen=True)
class WholeState:
    """A group's state, which can be compared, saved and published."""

    snapshot: GroupSnapshot
    kernel: PublishedKernel
    """The candidate as a kernel, under the last published version."""
    rows: Sequence[LiveRow]
    """Every live row."""
    rows_offset: int
    """The rows contain all records before this offset."""
    segments: Mapping[int, ClosedSegment]
    """Segments of the closed requests, by number."""
    first_keys: frozenset[tuple[Kind, str]]
    """Keys of the group's first rows."""
    topic: str
    """Id of the `traffic` topic that the snapshot's offsets refer to."""
    kept: Sequence[LearnerCheckpoint] = ()
    """States to which the learner may return; the snapshot refers to them by number."""

    @staticmethod
    def of(machine: GroupMachine, topic: str, segments: Mapping[int, ClosedSegment]) -> WholeState:
        """The state of a machine between two records; `segments` are those it was restored with. Clears its changes."""
        changes = machine.take_closed()  # before the snapshot, which holds the number of segments
        segments_left = {number: segment for number, segment in segments.items() if number not in changes.expired}
        if changes.segment is not None:
            segments_left[changes.number] = decode_segment(changes.segment)
        rows, gate, publisher = machine.rows.all(), machine.guarded.gate, machine.publisher
        kernel = publisher.candidate(publisher.version)
        back = [kept for kept in (gate.good, gate.next_good) if kept is not None]
        return WholeState(
            machine.snapshot(), kernel, rows, machine.rows_offset, segments_left, machine.first_keys, topic, back
        )
