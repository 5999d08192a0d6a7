"""What a group writes in one transaction, and how it is read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

import msgspec
import numpy as np

from features.live.layout import Kind, LiveRow
from streaming.events import ServedImpression
from streaming.processor.join import ClosedRequest

SCHEMA = 1


class SnapshotError(Exception):
    """A snapshot cannot be used; the message says why and what to do."""


class RequestRef(msgspec.Struct, frozen=True, array_like=True):
    """A labelled request by reference: the log has its tensors."""

    offset: int
    clicks: bytes
    """Packed bits, one per item."""
    conversions: bytes
    """Packed bits, one per item."""


def request_ref(request: ClosedRequest) -> RequestRef:
    """The reference of a labelled request."""
    return RequestRef(request.offset, np.packbits(request.clicks).tobytes(), np.packbits(request.conversions).tobytes())


def closed_request(ref: RequestRef, impression: ServedImpression) -> ClosedRequest:
    """The labelled request of a reference, with the impression found in the log."""
    n = len(impression.items)
    clicks, conversions = (
        np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=n).astype(np.bool_)
        for bits in (ref.clicks, ref.conversions)
    )
    return ClosedRequest(ref.offset, impression, clicks, conversions)


class GroupSnapshot(msgspec.Struct, frozen=True):
    """All that a group needs, beside its live features and the log, to go on bit for bit from `next_offset`."""

    group: str
    fingerprint: str
    next_offset: int
    """The first record this state has not seen."""
    version: int
    examples: int
    newest_event_time: float
    published_at: float
    """Watermark at the last publication."""
    watermark: float
    join_offset: int
    """Where the re-read for open requests begins; `next_offset` when none is open."""
    join_watermark: float
    """Watermark just before the record at `join_offset`."""
    pending: list[RequestRef]
    """Labelled, waiting for their micro-batch to fill."""
    pending_since: float
    recent: list[list[RequestRef]]
    """Micro-batches kept for rehearsal, oldest first."""
    learner: bytes
    schema: int = SCHEMA

    @property
    def resume_offset(self) -> int:
        """The earliest record that has to be read again."""
        refs = [ref.offset for batch in (self.pending, *self.recent) for ref in batch]
        return min([self.next_offset, self.join_offset, *refs])


_snapshot_decoder = msgspec.msgpack.Decoder(GroupSnapshot)


def encode_snapshot(snapshot: GroupSnapshot) -> bytes:
    """A snapshot as MessagePack."""
    return msgspec.msgpack.encode(snapshot)


def decode_snapshot(data: bytes, *, group: str, fingerprint: str) -> GroupSnapshot:
    """The snapshot of `group` on the backbone with `fingerprint`. Raises SnapshotError."""
    try:
        snapshot = _snapshot_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"the snapshot of group {group!r} cannot be read: {error}") from error
    if snapshot.schema != SCHEMA:
        raise SnapshotError(
            f"the snapshot of group {group!r} has schema {snapshot.schema}, this program reads {SCHEMA}"
        )
    if snapshot.group != group:
        raise SnapshotError(f"the snapshot belongs to group {snapshot.group!r}, not to {group!r}")
    if snapshot.fingerprint != fingerprint:
        raise SnapshotError(
            f"the snapshot of group {group!r} was learned on backbone {snapshot.fingerprint[:12]}, this is "
            f"{fingerprint[:12]}: serve that one, or give this one topics of its own (topics.kernels, .state)"
        )
    return snapshot


class _RowBody(msgspec.Struct, frozen=True, array_like=True):
    updated_at: float
    values: bytes


@dataclass(frozen=True)
class StateRecord:
    """One key of the `state` topic; `value` None is a tombstone."""

    key: bytes
    value: bytes | None


_row_decoder = msgspec.msgpack.Decoder(_RowBody)


def encode_row(group: str, row: LiveRow) -> StateRecord:
    """A row of live features as it stands in the `state` topic, its float32 values bit for bit."""
    key = f"{group}/{row.kind}/{row.key}".encode()
    if row.values.size == 0:
        return StateRecord(key, None)
    values = np.ascontiguousarray(row.values, dtype="<f4").tobytes()
    return StateRecord(key, msgspec.msgpack.encode(_RowBody(row.updated_at, values)))


def decode_row(key: bytes, value: bytes) -> tuple[str, LiveRow]:
    """Group and row of a `state` record. Raises SnapshotError."""
    try:
        group, kind, name = key.decode().split("/", 2)
        body = _row_decoder.decode(value)
        if kind not in get_args(Kind):
            raise ValueError(f"there are no live features of a {kind!r}")
        return group, LiveRow(cast(Kind, kind), name, body.updated_at, np.frombuffer(body.values, dtype="<f4"))
    except (ValueError, msgspec.DecodeError) as error:
        raise SnapshotError(f"the state record {key!r} cannot be read: {error}") from error
