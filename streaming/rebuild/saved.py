"""A group's state as files: kernel, snapshot, rows, closed requests and checkpoints, encoded as in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from features.live.layout import LiveRow
from model.gate.gate import LearnerCheckpoint
from model.kernel.record import pack_kernel
from model.whole_files import write_whole
from streaming.kernel_log.closed import ClosedSegment
from streaming.kernel_log.cuts import StoredCut, seal, unseal
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.reader import stored_rows
from streaming.kernel_log.rows import encode_row
from streaming.kernel_log.snapshot import encode_snapshot
from streaming.rebuild.state import WholeState

KERNEL, SNAPSHOT = "kernel.safetensors", "snapshot"
ROWS, CLOSED, KEPT = "rows.msgpack", "closed.msgpack", "kept.msgpack"
_rows_decoder = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]])
_closed_decoder = msgspec.msgpack.Decoder(dict[int, ClosedSegment])
_kept_decoder = msgspec.msgpack.Decoder(list[LearnerCheckpoint])


@dataclass(frozen=True)
class SavedGroup:
    """A group's saved state."""

    cut: StoredCut
    rows: Sequence[LiveRow]
    segments: Mapping[int, ClosedSegment]
    kept: Sequence[LearnerCheckpoint]


def save(folder: Path, state: WholeState) -> None:
    """Writes the state of a group. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    kernel, group = state.kernel, state.snapshot.group
    packed = [encode_row(group, row, first=True) for row in state.rows]
    cut = StoredCut(0, state.topic, state.rows_offset, encode_snapshot(state.snapshot))
    write_whole(folder / KERNEL, pack_kernel(kernel.kernel, kernel.info, kernel.depends_on))
    write_whole(folder / ROWS, msgspec.msgpack.encode([(record.key, record.value or b"") for record in packed]))
    write_whole(folder / CLOSED, msgspec.msgpack.encode(dict(state.segments)))
    write_whole(folder / KEPT, msgspec.msgpack.encode(list(state.kept)))
    write_whole(folder / SNAPSHOT, seal(cut))


def load(folder: Path, group: str) -> SavedGroup:
    """Reads what `save` wrote. Raises SnapshotError naming the file."""
    try:
        cut = unseal((folder / SNAPSHOT).read_bytes())
        packed = _rows_decoder.decode((folder / ROWS).read_bytes())
        segments = _closed_decoder.decode((folder / CLOSED).read_bytes())
        kept = _kept_decoder.decode((folder / KEPT).read_bytes())
    except (OSError, SnapshotError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(
            f"{folder} holds no state that `driftline replay-log` wrote, or it is damaged: {error}"
        ) from error
    rows, unreadable = stored_rows(dict(packed))
    if unreadable:
        raise SnapshotError(f"{folder / ROWS} holds {unreadable} rows that cannot be read")
    return SavedGroup(cut, rows.get(group, []), segments, kept)
