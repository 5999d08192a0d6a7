"""The stored form of a group's whole cuts, and the choice of the cut from which its next owner continues.

Two snapshots are kept under two keys in turn, so that one remains if the other cannot be read. Live rows are kept once,
those of the newest cut, with a mark from the same transaction that says which records they contain. An owner that falls
back to the earlier snapshot learns those records again and leaves the rows unchanged meanwhile. Because the kernel
learns from the features that were served and never from the rows, both end up equal, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.keys import SLOTS

_CHECK_BYTES = 8
CURE = "rebuild it from the log with `driftline replay-log --group {group} --publish`"


class StoredCut(msgspec.Struct, frozen=True, array_like=True):
    """One cut of a group in the log; the mark beside its rows is a `StoredCut` without a snapshot."""

    number: int
    """Number of the cut, counting from 1."""
    topic: str
    """Id of the `traffic` topic that the snapshot's offsets refer to."""
    rows_offset: int
    """The rows contain all records before this offset, and none from it on."""
    snapshot: bytes = b""
    """See `snapshot.py`."""


_decoder = msgspec.msgpack.Decoder(StoredCut)


def seal(cut: StoredCut) -> bytes:
    """A cut as bytes, preceded by a checksum."""
    packed = msgspec.msgpack.encode(cut)
    return _checksum(packed) + packed


def unseal(data: bytes) -> StoredCut:
    """The inverse of `seal`. Raises SnapshotError if the bytes have changed."""
    check, packed = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
    if check != _checksum(packed):
        raise SnapshotError(f"its {len(data)} bytes do not have their checksum: torn, foreign, or written by hand")
    try:
        return _decoder.decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(f"it is no cut of this version of Driftline ({error})") from error


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECK_BYTES).digest()


@dataclass(frozen=True)
class ChosenCut:
    """The cut from which the next owner continues."""

    cut: StoredCut | None
    """None for a group without any whole cut."""
    slot: int
    """Slot of the next cut, never that of the only readable one."""
    number: int
    """Number of the next cut."""
    rows: StoredCut | None
    """The mark beside the rows; None if there is none that can be read."""
    refused: tuple[str, ...]
    """One sentence for each record that could not be read."""

    @property
    def fallen_back(self) -> bool:
        """Whether the rows belong to a newer cut than the snapshot."""
        return self.cut is not None and self.rows is not None and self.rows.number > self.cut.number

    def rows_offset(self, topic: str) -> int:
        """The rows contain all records of this topic before the returned offset."""
        marks = [mark.rows_offset for mark in (self.cut, self.rows) if mark is not None and mark.topic == topic]
        return max(marks, default=0)


def choose(group: str, slots: Mapping[int, bytes | None], mark: bytes | None) -> ChosenCut:
    """Chooses the newest readable cut from the values of the group's two keys and the mark of its rows.

    Raises SnapshotError, with the cure, if there are snapshots and none can be read.
    """
    cuts: dict[int, StoredCut] = {}
    refused = []
    for slot in SLOTS:
        data = slots.get(slot)
        if data is None:
            continue
        try:
            cuts[slot] = unseal(data)
        except SnapshotError as error:
            refused.append(f"the snapshot of group {group!r} under {group}/learner/{slot} cannot be read: {error}")
    if refused and not cuts:
        raise SnapshotError(f"{'; '.join(refused)}; {CURE.format(group=group)}")
    rows = None
    try:
        rows = None if mark is None else unseal(mark)
    except SnapshotError as error:
        refused.append(f"the mark of the rows of group {group!r}, under {group}/cut, cannot be read: {error}")
    newest = max(cuts, key=lambda slot: cuts[slot].number, default=SLOTS[1])
    numbers = [cut.number for cut in cuts.values()] + ([] if rows is None else [rows.number])
    return ChosenCut(cuts.get(newest), 1 - newest, max(numbers, default=0) + 1, rows, tuple(refused))
