"""A group's snapshot, from which its next owner continues bit for bit."""

from __future__ import annotations

from typing import Any

import msgspec

from streaming.kernel_log.closed import ClosedRequest
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.join_state import JoinState, RequestRef, WaitingBatch, WaitingClicks, WaitingConversions

SCHEMA = 9
"""Version of the schema; 8 renamed keys of the states of gate and drift monitor."""
_BEGIN_ANEW = "give the group topics of its own to start again (topics.kernels, .state)"


class ConversionState(msgspec.Struct, frozen=True):
    """The conversion task of a group, without its live rows."""

    learner: bytes
    """See `model.kernel.learner.Learner.snapshot`."""
    gate: dict[str, Any]
    """See `model.gate.guarded.GuardedLearner.state`."""
    mature: list[ClosedRequest] = []
    """Clicked requests with final labels that wait to be learned."""
    mature_since: float = 0.0
    """Event time up to which feedback was known when the oldest of `mature` became mature, seconds."""
    clicks: bytes = b""
    """Weights of the last published kernel of clicks, float32, beside which conversions are published; empty before."""
    waiting: list[WaitingConversions] = []
    """Micro-batches of clicks whose conversions the gate holds back as doubtful, oldest first."""
    published: bytes = b""
    """Weights of the last published kernel of conversions, float32; it stays while the gate holds the candidate."""


class GroupSnapshot(msgspec.Struct, frozen=True):
    """Everything that a group needs besides live rows and log to continue bit for bit from `next_offset`."""

    group: str
    fingerprint: str
    """Fingerprint of the backbone it was learned on."""
    next_offset: int
    """Offset of the first record that this state does not contain."""
    version: int
    """Version of the newest published kernel, 0 before the first."""
    examples: int
    """Examples learned since the group began."""
    newest_event_time: float
    """Event time of the newest example learned from, seconds."""
    published_at: float
    """Watermark at the last publication, seconds."""
    join: JoinState
    late: list[WaitingClicks]
    """Late clicks that wait for their correction."""
    late_since: float
    """Watermark when the oldest of `late` came, seconds."""
    pending: list[RequestRef]
    """Labelled requests that wait for their micro-batch to fill."""
    pending_since: float
    """Watermark when the oldest of `pending` was labelled, seconds."""
    learner: bytes
    """See `model.kernel.learner.Learner.snapshot`."""
    gate: dict[str, Any]
    """See `model.gate.guarded.GuardedLearner.state`."""
    waiting: list[WaitingBatch]
    """Micro-batches whose labels are in doubt, oldest first."""
    good: int
    """Number of the learner's last good state, 0 for none; the state is a record of its own."""
    next_good: int
    """Number of the state that becomes the good one, 0 for none."""
    learning: bool = True
    """False while an operator has stopped learning."""
    drift: dict[str, Any] = {}
    """See `streaming.group.drift_monitor.GroupDriftMonitor.state`; empty starts a new monitor."""
    uplift: bytes = b""
    """See `model.uplift.Uplift.snapshot`; empty without control users."""
    converting: list[WaitingClicks] = []
    """Conversions of closed requests that wait to be looked up in the log."""
    converting_since: float = 0.0
    """Watermark when the oldest of `converting` came, seconds."""
    conversions: ConversionState | msgspec.UnsetType = msgspec.UNSET
    """The conversion task; unset for a backbone of clicks alone."""
    schema: int = SCHEMA

    @property
    def resume_offset(self) -> int:
        """Offset of the earliest record that must be read again."""
        opened = [self.join.open_from] if self.join.open else []
        return min([self.next_offset, *opened, *(ref.offset for ref in self.labelled)])

    @property
    def labelled(self) -> list[RequestRef]:
        """Labelled requests that are not learned yet, in the order in which they closed."""
        return [*(ref for batch in self.waiting for ref in batch.requests), *self.pending]


def on_another_log(snapshot: GroupSnapshot, begin: int, version: int) -> GroupSnapshot:
    """The snapshot without everything that refers to its old log, to continue on a new one.

    Requests that waited are lost with the old log. `version` must not be below what scorers have seen.
    """
    learned = snapshot.conversions
    return msgspec.structs.replace(
        snapshot,
        next_offset=begin,
        version=max(version, snapshot.version),
        join=snapshot.join.without_log(),
        late=[],
        pending=[],
        waiting=[],
        converting=[],
        conversions=msgspec.UNSET
        if learned is msgspec.UNSET
        else msgspec.structs.replace(learned, mature=[], waiting=[]),
    )


_snapshot_decoder = msgspec.msgpack.Decoder(GroupSnapshot)


def encode_snapshot(snapshot: GroupSnapshot) -> bytes:
    """A snapshot as MessagePack."""
    return msgspec.msgpack.encode(snapshot)


def decode_snapshot(data: bytes, *, group: str, fingerprint: str) -> GroupSnapshot:
    """The snapshot of `group` on the backbone with `fingerprint`. Raises SnapshotError."""
    try:
        snapshot = _snapshot_decoder.decode(data)
    # RecursionError: MessagePack may nest deeper than the decoder goes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(f"the snapshot of group {group!r} cannot be read ({error}): {_BEGIN_ANEW}") from error
    if snapshot.schema != SCHEMA:
        raise SnapshotError(
            f"the snapshot of group {group!r} has schema {snapshot.schema}, this program reads {SCHEMA}: {_BEGIN_ANEW}"
        )
    if snapshot.group != group:
        raise SnapshotError(f"the snapshot belongs to group {snapshot.group!r}, not to {group!r}: {_BEGIN_ANEW}")
    if snapshot.fingerprint != fingerprint:
        raise SnapshotError(
            f"the snapshot of group {group!r} was learned on backbone {snapshot.fingerprint[:12]}, this is "
            f"{fingerprint[:12]}: serve that one, or give this one topics of its own (topics.kernels, .state)"
        )
    return snapshot
