"""A group that is stopped and restored: what a transaction keeps of it, and whether two groups are the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from features.live.features import LiveRow
from streaming.group.machine import GroupMachine
from streaming.kernel_log.closed import encode_closed, stored_segments
from streaming.kernel_log.snapshot import decode_snapshot, encode_snapshot
from tests.streaming.group.tiny import (
    BACKBONE,
    FIRST_ROWS,
    appended,
    encoded,
    machine,
    traffic,
)

RECORDS = encoded(traffic(120))


class Store:
    """What a transaction keeps: the newest row per key, kernel and snapshot as bytes."""

    def __init__(self, new: Callable[[], GroupMachine] = machine) -> None:
        self._new = new
        self.rows: dict[tuple[str, str], LiveRow] = {}
        self.snapshot: bytes | None = None
        self.state: dict[bytes | None, bytes | None] = {}

    def commit(self, group: GroupMachine) -> None:
        for row in group.rows.take_changed():
            self.rows[row.kind, row.key] = row
        for record in encode_closed(group.group, group.take_closed()):
            self.state[record.key] = record.value
        self.snapshot = encode_snapshot(group.snapshot())

    def successor(self) -> tuple[GroupMachine, int]:
        """A machine restored from the store, and the offset that it must read from."""
        successor = self._new()
        if self.snapshot is None:
            return successor, 0
        snapshot = decode_snapshot(self.snapshot, group="main", fingerprint=BACKBONE.fingerprint)
        firsts = {(row.kind, row.key) for row in FIRST_ROWS}  # of others a tombstone leaves nothing behind
        kept = [row for key, row in self.rows.items() if not row.tombstone or key in firsts]
        successor.restore(snapshot, kept, stored_segments("main", self.state))
        return successor, snapshot.resume_offset


def whole(records: list[bytes]) -> GroupMachine:
    group = machine()
    for offset, value in enumerate(records):
        group.feed(offset, value, appended(value))
    return group


def same(one: GroupMachine, other: GroupMachine) -> bool:
    """Bit for bit: posteriors, trust, counts, what is open and pending, live features."""
    rows = [{(r.kind, r.key): (r.updated_at, r.values.tobytes()) for r in m.rows.all()} for m in (one, other)]
    snapshots = [msgspec.structs.asdict(m.snapshot()) for m in (one, other)]
    for snapshot in snapshots:  # how many cuts there were may differ, what they hold may not
        closed = msgspec.structs.replace(snapshot["join"].closed, segments=0)
        snapshot["join"] = msgspec.structs.replace(snapshot["join"], closed=closed)
    return rows[0] == rows[1] and equal(*snapshots)


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same; what the drift monitor does not know yet is not-a-number, and equals itself."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


REFERENCE = whole(RECORDS)
