"""The learner's snapshot: how a group goes on bit for bit after its owner is gone."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from streaming.kernel_log.errors import SnapshotError

SCHEMA = 2
"""2 since a learner keeps what it was taught and rehearses nothing."""
_BEGIN_ANEW = "give the group topics of its own to begin anew (topics.kernels, .state)"


class RequestRef(msgspec.Struct, frozen=True, array_like=True):
    """A labelled request by reference: the record at `offset` of `traffic` has its tensors (decision 0070)."""

    offset: int
    clicks: bytes
    """Packed bits, one per item."""
    conversions: bytes
    """Packed bits, one per item."""

    @classmethod
    def of(cls, offset: int, clicks: NDArray[np.bool_], conversions: NDArray[np.bool_]) -> RequestRef:
        """The reference of a request whose items were labelled so, both `(n,)`."""
        return cls(offset, np.packbits(clicks).tobytes(), np.packbits(conversions).tobytes())

    def labels(self, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Clicks and conversions of the request's `n` items, both `(n,)`."""
        clicks, conversions = (
            np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=n).astype(np.bool_)
            for bits in (self.clicks, self.conversions)
        )
        return clicks, conversions


class GroupSnapshot(msgspec.Struct, frozen=True):
    """All that a group needs, beside its live features and the log, to go on bit for bit from `next_offset`."""

    group: str
    fingerprint: str
    """Fingerprint of the backbone it was learned on."""
    next_offset: int
    """The first record this state has not seen."""
    version: int
    """Version of the newest published kernel, 0 before the first."""
    examples: int
    """Examples learned since the group began."""
    newest_event_time: float
    """Event time of the newest example learned from, seconds."""
    published_at: float
    """Watermark at the last publication, seconds."""
    watermark: float
    """Watermark of the join, seconds."""
    join_offset: int
    """Where the re-read for open requests begins; `next_offset` when none is open."""
    join_watermark: float
    """Watermark just before the record at `join_offset`, seconds."""
    pending: list[RequestRef]
    """Labelled, waiting for their micro-batch to fill."""
    pending_since: float
    """Watermark when the oldest of `pending` was labelled, seconds."""
    learner: bytes
    """See `model.kernel.learner.Learner.snapshot`."""
    learning: bool = True
    """False while an operator has stopped learning."""
    uplift: bytes = b""
    """See `model.uplift.Uplift.snapshot`; empty without control users."""
    schema: int = SCHEMA

    @property
    def resume_offset(self) -> int:
        """The earliest record that has to be read again."""
        return min([self.next_offset, self.join_offset, *(ref.offset for ref in self.pending)])


def on_another_log(snapshot: GroupSnapshot, begin: int, version: int) -> GroupSnapshot:
    """What a group knows, to go on with a log whose records have nothing to do with the snapshot's offsets.

    Requests that waited are lost with the log that had them. `version` is at least what scorers have seen.
    """
    return msgspec.structs.replace(
        snapshot,
        next_offset=begin,
        version=max(version, snapshot.version),
        join_offset=begin,
        join_watermark=snapshot.watermark,
        pending=[],
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
