"""All that a group is between two records, in one piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.live.layout import Kind, LiveRow
from model.gate.gate import KeptState
from streaming.kernel_log.closed import ClosedSegment, decode_segment
from streaming.kernel_log.snapshot import GroupSnapshot
from streaming.processor.learned import PublishedKernel
from streaming.processor.machine import GroupMachine


@dataclass(frozen=True)
class WholeState:
    """A group's state, as it can be compared, saved and written."""

    snapshot: GroupSnapshot
    kernel: PublishedKernel
    """The candidate, under the version published last."""
    rows: Sequence[LiveRow]
    """Every live row."""
    rows_offset: int
    """All records before it are in the rows."""
    segments: Mapping[int, ClosedSegment]
    """Of the closed requests, by number."""
    first_keys: frozenset[tuple[Kind, str]]
    """Keys that the group has first rows of."""
    topic: str
    """Id of the `traffic` topic whose offsets the snapshot means."""
    kept: Sequence[KeptState] = ()
    """States of the learner that it may go back to: the snapshot names them by number."""

    @staticmethod
    def of(machine: GroupMachine, topic: str, segments: Mapping[int, ClosedSegment]) -> WholeState:
        """The state of a machine between two records; `segments` are those it was restored with. Takes its changes."""
        changes = machine.take_closed()  # ahead of the snapshot, which says how many segments there are
        segments_left = {number: segment for number, segment in segments.items() if number not in changes.expired}
        if changes.segment is not None:
            segments_left[changes.number] = decode_segment(changes.segment)
        rows, kernel, gate = machine.rows(), machine.as_kernel(machine.version), machine.guarded.gate
        back = [one for one in (gate.good, gate.next_good) if one is not None]
        return WholeState(
            machine.snapshot(), kernel, rows, machine.rows_offset, segments_left, machine.first_keys, topic, back
        )
