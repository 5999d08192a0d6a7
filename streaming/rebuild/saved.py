"""A group's state as three files: kernel, learner's snapshot and live rows, each as the log would hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from features.live.layout import LiveRow
from model.kernel.record import pack_kernel
from model.whole_files import write_whole
from streaming.kernel_log.cuts import StoredCut, seal, unseal
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.reader import stored_rows
from streaming.kernel_log.rows import encode_row
from streaming.kernel_log.snapshot import encode_snapshot
from streaming.processor.machine import GroupMachine, PublishedKernel

KERNEL, SNAPSHOT, ROWS = "kernel.safetensors", "snapshot", "rows.msgpack"
_Rows = list[tuple[bytes, bytes]]
_rows_decoder = msgspec.msgpack.Decoder(_Rows)


@dataclass(frozen=True)
class SavedGroup:
    """A group between two records."""

    cut: StoredCut
    rows: Sequence[LiveRow]


def save(folder: Path, machine: GroupMachine, kernel: PublishedKernel, topic: str) -> None:
    """Writes the state of a group; `topic` is the id of the `traffic` whose offsets it means. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = [encode_row(machine.group, row, first=True) for row in machine.live.rows()]
    cut = StoredCut(0, topic, machine.rows_offset, encode_snapshot(machine.snapshot()))
    write_whole(folder / KERNEL, pack_kernel(kernel.kernel, kernel.info, kernel.depends_on))
    write_whole(folder / ROWS, msgspec.msgpack.encode([(record.key, record.value or b"") for record in packed]))
    write_whole(folder / SNAPSHOT, seal(cut))


def load(folder: Path, group: str) -> SavedGroup:
    """What `save` wrote. Raises SnapshotError naming the file."""
    try:
        cut = unseal((folder / SNAPSHOT).read_bytes())
        packed = _rows_decoder.decode((folder / ROWS).read_bytes())
    except (OSError, SnapshotError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(
            f"{folder} holds no state that `driftline replay-log` wrote, or it is damaged: {error}"
        ) from error
    rows, unreadable = stored_rows(dict(packed))
    if unreadable:
        raise SnapshotError(f"{folder / ROWS} holds {unreadable} rows that cannot be read")
    return SavedGroup(cut, rows.get(group, []))
