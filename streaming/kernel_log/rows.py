"""Live rows in the `state` topic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from features.live.layout import LiveRow
from streaming.kernel_log.errors import RowError
from streaming.kernel_log.keys import row_key, split_row_key


@dataclass(frozen=True)
class StateRecord:
    """One key of a compacted topic; `value` None is a tombstone."""

    key: bytes
    value: bytes | None

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key) + len(self.value or b"")


class _RowBody(msgspec.Struct, frozen=True, array_like=True):
    updated_at: float
    values: bytes
    """float32, little-endian."""
    items: tuple[str, ...]


_row_decoder = msgspec.msgpack.Decoder(_RowBody)


def encode_row(group: str, row: LiveRow, *, first: bool) -> StateRecord:
    """A live row as a record, its float32 values bit for bit.

    `first` says that the backbone's first rows have this key. An eviction must then be stored as a value, because the
    broker deletes tombstones in the end, and the first row would come back.
    """
    key = row_key(group, row.kind, row.key)
    if row.tombstone and not first:
        return StateRecord(key, None)
    values = np.ascontiguousarray(row.values, dtype="<f4").tobytes()
    return StateRecord(key, msgspec.msgpack.encode(_RowBody(row.updated_at, values, row.items)))


def decode_row(key: bytes | None, value: bytes) -> tuple[str, LiveRow]:
    """Group and row of a `state` record. Raises RowError."""
    try:
        group, kind, name = split_row_key(key or b"")
        body = _row_decoder.decode(value)
        values = np.frombuffer(body.values, dtype="<f4")
        if not math.isfinite(body.updated_at) or not np.isfinite(values).all():
            raise ValueError("it holds numbers that are not finite")
    # RecursionError: MessagePack may nest deeper than the decoder goes, and anybody can write such a record
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise RowError(f"the state record {key!r} cannot be read: {error}") from error
    return group, LiveRow(kind, name, body.updated_at, values, body.items)
