"""What a whole cut of a group is stored as, and which of the two that are kept its next owner goes on from.

Two snapshots lie under two keys in turn, so that one is left where the other cannot be read. Rows of live features are
there once: those of the newest cut. A mark beside them, written in the same transaction, says which records they
hold. Whoever falls back to the snapshot before learns those records again and leaves the rows as they are meanwhile:
the kernel learns from the features that were served, never from the rows, so both come out as they were, bit for bit.
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
    """One cut of a group as it stands in the log; the mark beside its rows is the same without a snapshot."""

    number: int
    """Cuts count up from 1."""
    topic: str
    """Id that the cluster gave the `traffic` topic whose offsets the snapshot means."""
    rows_offset: int
    """All records before it are in the rows, none from it on."""
    snapshot: bytes = b""
    """See `snapshot.py`."""


_decoder = msgspec.msgpack.Decoder(StoredCut)


def seal(cut: StoredCut) -> bytes:
    """A cut as bytes, behind their checksum."""
    packed = msgspec.msgpack.encode(cut)
    return _checksum(packed) + packed


def unseal(data: bytes) -> StoredCut:
    """The inverse of `seal`. Raises SnapshotError for bytes that are not what was written."""
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
    """What the next owner goes on from."""

    cut: StoredCut | None
    """None for a group that never made a whole cut."""
    slot: int
    """Where the next cut goes: never over the only good one."""
    number: int
    """Number of the next cut."""
    rows: StoredCut | None
    """The mark beside the rows, None if there is none that can be read."""
    refused: tuple[str, ...]
    """What could not be read, and why, a sentence each."""

    @property
    def fallen_back(self) -> bool:
        """Whether the rows are those of a newer cut than the snapshot."""
        return self.cut is not None and self.rows is not None and self.rows.number > self.cut.number

    def rows_offset(self, topic: str) -> int:
        """All records of this topic before it are in the rows."""
        marks = [mark.rows_offset for mark in (self.cut, self.rows) if mark is not None and mark.topic == topic]
        return max(marks, default=0)


def choose(group: str, slots: Mapping[int, bytes | None], mark: bytes | None) -> ChosenCut:
    """The newest cut that can be read, of the values under the group's two keys and the mark of its rows.

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
        refused.append(f"what the rows of group {group!r} hold, under {group}/cut, cannot be read: {error}")
    newest = max(cuts, key=lambda slot: cuts[slot].number, default=SLOTS[1])
    numbers = [cut.number for cut in cuts.values()] + ([] if rows is None else [rows.number])
    return ChosenCut(cuts.get(newest), 1 - newest, max(numbers, default=0) + 1, rows, tuple(refused))
