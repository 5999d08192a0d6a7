"""`driftline replay-log`: rebuilds a group from its traffic, compares it with the log, keeps or publishes it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from streaming.backbone import OpenedBackbone, open_backbone
from streaming.clients import quiet_client_logs
from streaming.config import Config
from streaming.events.decisions import Decision
from streaming.kernel_log.reader import StoredGroup, read_group
from streaming.kernel_log.snapshot import GroupSnapshot, decode_snapshot
from streaming.rebuild import saved
from streaming.rebuild.publish import publish
from streaming.rebuild.replay import Replayed, ReplayError, Span, TrafficSpan, offset_at, replay, traffic_span
from streaming.rebuild.state import WholeState


@dataclass(frozen=True)
class Point:
    """A begin or end: an offset of the group's traffic, or a broker time in seconds."""

    offset: int | None = None
    time: float | None = None

    def __post_init__(self) -> None:
        """Raises ReplayError for an offset and a time at once, and for a time that is none."""
        if self.offset is not None and self.time is not None:
            raise ReplayError("a begin or end is an offset or a time, not both: leave one of them out")
        if self.time is not None and not math.isfinite(self.time):
            raise ReplayError(f"{self.time} is no time: give seconds since the epoch")

    def resolved(self, config: Config, traffic: TrafficSpan) -> int | None:
        """As an offset; None if neither is given."""
        return offset_at(config, traffic, self.time) if self.time is not None else self.offset


@dataclass(frozen=True)
class ReplayOptions:
    """The options of `driftline replay-log`."""

    group: str
    into: Path
    begin: Point
    until: Point
    skip: Span | None
    start: Path | None
    publish: bool
    by: str


def run_replay_log(config: Config, order: ReplayOptions, console: Console) -> int:
    """Replays, prints and writes the result; returns 1 if it should equal the log's state and does not.

    Raises OSError if the folder of the result cannot be made, and named errors.
    """
    quiet_client_logs()
    order.into.mkdir(parents=True, exist_ok=True)  # now, because a replay may take hours before it writes
    opened, traffic = open_backbone(config), traffic_span(config, order.group)
    partition = config.partition_of(order.group)
    assert partition is not None
    stored = asyncio.run(read_group(config, order.group, partition))
    snapshot = _newest(stored, order.group, opened)
    end = order.until.resolved(config, traffic)
    if end is None:
        end = traffic.held.end if snapshot is None or order.skip or order.publish else snapshot.next_offset
    begin = order.begin.resolved(config, traffic)
    span = Span(0 if begin is None else begin, min(end, traffic.held.end))
    start = None if order.start is None else saved.load(order.start, order.group)
    done = replay(config, opened, order.group, traffic, span=span, skip=order.skip, start=start)
    _print_result(console, order, span, done)
    equal = None if order.skip is not None else _compare(console, done.state, stored, snapshot)
    saved.save(order.into, done.state)
    console.print(f"written to {order.into}", highlight=False)
    if order.publish:
        _publish(config, order, span, done.state, console)
    return 1 if begin is None and equal is False else 0


def _newest(stored: StoredGroup, group: str, opened: OpenedBackbone) -> GroupSnapshot | None:
    cut = stored.chosen.cut
    if cut is None or cut.topic != stored.traffic.topic:
        return None
    return decode_snapshot(cut.snapshot, group=group, fingerprint=opened.backbone.fingerprint)


def _print_result(console: Console, order: ReplayOptions, span: Span, done: Replayed) -> None:
    left_out = f", {done.skipped:,} of them left out and {done.left_open:,} requests that were open before them"
    left_out = left_out if done.skipped else ""
    console.print(
        f"group {order.group}: offsets {span.begin} to {span.end}, {done.records:,} records{left_out}; kernel "
        f"{done.state.snapshot.version} after {done.state.snapshot.examples:,} examples",
        highlight=False,
    )


def _compare(console: Console, state: WholeState, stored: StoredGroup, snapshot: GroupSnapshot | None) -> bool | None:
    """Whether the log has the same state at this offset; None if it has none there."""
    position = state.snapshot.next_offset
    if snapshot is None or snapshot.next_offset != position:
        where = "no snapshot" if snapshot is None else f"its snapshot at offset {snapshot.next_offset}"
        console.print(f"nothing to compare with: the log has {where}, this is offset {position}")
        return None
    learned = _essence(state.snapshot) == _essence(snapshot)
    rows = {(row.kind, row.key): (row.updated_at, row.values.tobytes()) for row in state.rows}
    kept = {(row.kind, row.key): (row.updated_at, row.values.tobytes()) for row in stored.rows if not row.tombstone}
    same_rows = stored.chosen.fallen_back or all(rows.get(key) == value for key, value in kept.items())
    console.print(
        f"what the log has at offset {position}: learner {'equal, bit for bit' if learned else 'different'},"
        f" live rows {'equal, bit for bit' if same_rows else 'different'}",
        highlight=False,
    )
    return learned and same_rows


def _essence(snapshot: GroupSnapshot) -> bytes:
    """The snapshot without the number of its segments, which may differ between equal states.

    It is compared as bytes, because unknown figures of the drift monitor are NaN, which equals nothing.
    """
    closed = msgspec.structs.replace(snapshot.join.closed, segments=0)
    return msgspec.msgpack.encode(
        msgspec.structs.replace(snapshot, join=msgspec.structs.replace(snapshot.join, closed=closed))
    )


def _publish(config: Config, order: ReplayOptions, span: Span, state: WholeState, console: Console) -> None:
    detail = {
        "begin": span.begin,
        "end": span.end,
        "left_out": None if order.skip is None else [order.skip.begin, order.skip.end],
        "start": None if order.start is None else str(order.start),
        "examples": state.snapshot.examples,
    }
    decision = Decision("replay", order.group, time.time(), order.by, detail)
    version = asyncio.run(publish(config, state, decision))
    console.print(
        f"published as kernel {version}: start the processors, they go on from offset {state.snapshot.next_offset}",
        highlight=False,
    )


def skip_span(begin: int | None, end: int | None) -> Span | None:
    """The span to leave out. Raises ReplayError if only one end is given, or if it is empty."""
    if begin is None and end is None:
        return None
    if begin is None or end is None or begin >= end:
        raise ReplayError("--skip-from and --skip-to come together, and the first is smaller: offsets from and before")
    return Span(begin, end)
