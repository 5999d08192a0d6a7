"""Reads the log: traffic as it was appended, the committed state, and the state of an undisturbed run over it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
from kafka import TopicPartition

from features.live.layout import LiveRow
from model.gate.guarded import Step
from streaming.backbone import open_backbone
from streaming.clients import make_consumer
from streaming.config import Config
from streaming.events import ServedImpression
from streaming.group.assembly import new_machine
from streaming.group.machine import GroupMachine
from streaming.group.traffic_reader import TrafficReader, Widths
from streaming.join.join import Join, LabelledRequest, LateClick
from streaming.kernel_log.closed import NOT_LEARNED, ClosedRequest
from streaming.kernel_log.reader import read_group
from streaming.kernel_log.snapshot import GroupSnapshot, decode_snapshot
from streaming.processor.partition_reader import PartitionReader

Rows = dict[tuple[str, str], tuple[float, bytes]]
"""Live rows by kind and key: when they changed, and their values."""


@dataclass(frozen=True)
class Appended:
    """One record of a topic."""

    offset: int
    value: bytes | None
    time: float
    """When the broker appended it, seconds."""


@dataclass(frozen=True)
class Committed:
    """A group as the log has it."""

    snapshot: GroupSnapshot
    rows: Rows


@dataclass
class Labels:
    """What the join decides about a log."""

    learned: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Whether an item of a request became a positive when its window closed."""
    corrected: set[tuple[str, str]] = field(default_factory=set)
    """Items that a later click made positives."""
    impressions: dict[str, ServedImpression] = field(default_factory=dict)
    """Every impression of the log, by request."""
    twice: list[str] = field(default_factory=list)
    """Requests that were labelled more than once."""
    dropped: Counter[str] = field(default_factory=Counter)


def read_topic(config: Config, topic: str, partition: int = 0) -> list[Appended]:
    """All records of a partition up to its present end."""
    where = TopicPartition(topic, partition)
    records = []
    with make_consumer(config.kafka) as consumer:
        consumer.assign([where])
        end = consumer.end_offsets([where])[where]
        consumer.seek_to_beginning(where)
        while consumer.position(where) < end:
            for batch in consumer.poll(timeout_ms=500).values():
                records += [Appended(record.offset, record.value, record.timestamp / 1_000) for record in batch]
    return records


def committed(config: Config, group: str = "main") -> Committed | None:
    """The last transaction of a group; None before its first."""
    partition = config.partition_of(group)
    assert partition is not None
    stored = asyncio.run(read_group(config, group, partition))
    if stored.chosen.cut is None:
        return None
    fingerprint = open_backbone(config).backbone.fingerprint
    snapshot = decode_snapshot(stored.chosen.cut.snapshot, group=group, fingerprint=fingerprint)
    return Committed(
        snapshot,
        {(row.kind, row.key): (row.updated_at, row.values.tobytes()) for row in stored.rows if not row.tombstone},
    )


def undisturbed(config: Config, records: Sequence[Appended], until: int, group: str = "main") -> Committed:
    """What one pass over the records before offset `until` learns, in this process and never interrupted."""
    with _machine(config, group) as machine:
        _feed(machine, records, until)
    return Committed(machine.snapshot(), _rows(machine.rows.all()))


@dataclass
class LearnedConversions:
    """What the conversion task takes of a log."""

    learned: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Whether a click counts as converted, by request and item."""
    twice: list[tuple[str, str]] = field(default_factory=list)
    """Clicks that came to it more than once."""
    untaught: set[str] = field(default_factory=set)
    """Requests that the gate of clicks set aside: they teach no conversion either."""


def conversions_of(config: Config, records: Sequence[Appended], until: int, group: str = "main") -> LearnedConversions:
    """What one run over the records before offset `until` passes to the conversion task."""
    found = LearnedConversions()
    with _machine(config, group) as machine:
        _watch(machine, found)
        _feed(machine, records, until)
    return found


def _watch(machine: GroupMachine, found: LearnedConversions) -> None:
    """Writes into `found` what the machine passes to its conversion task from now on."""
    head, mature = machine.conversions.head, machine.conversions.mature
    assert head is not None, "the backbone tells no conversions"
    assert mature is not None
    learn, add = head.learn, mature.add

    def matured(closed: ClosedRequest, frontier: float) -> None:
        if closed.learned_at == NOT_LEARNED:
            found.untaught.add(closed.request_id)
        add(closed, frontier)

    def watched(requests: Sequence[LabelledRequest]) -> Step[LabelledRequest]:
        for request in requests:
            for index in np.flatnonzero(request.clicks).tolist():
                key = request.impression.request_id, request.impression.items[index]
                if key in found.learned:
                    found.twice.append(key)
                found.learned[key] = bool(request.conversions[index])
        return learn(requests)

    head.learn, mature.add = watched, matured  # type: ignore[method-assign]


@contextmanager
def _machine(config: Config, group: str) -> Iterator[GroupMachine]:
    """A group's machine that has learned nothing; the connection by which it reads late clicks' requests is closed."""
    partition = config.partition_of(group)
    assert partition is not None
    with closing(PartitionReader(config, partition)) as reader:
        yield new_machine(config, open_backbone(config), group, reader)


def _feed(machine: GroupMachine, records: Sequence[Appended], until: int) -> None:
    for record in records:
        if record.offset < until:
            machine.feed(record.offset, record.value, record.time)


def _rows(rows: Iterable[LiveRow]) -> Rows:
    return {(row.kind, row.key): (row.updated_at, row.values.tobytes()) for row in rows}


def labels_of(config: Config, records: Sequence[Appended], group: str = "main") -> Labels:
    """The labels that the records make, by the join alone."""
    opened = open_backbone(config)
    reader = TrafficReader(group, opened.backbone.fingerprint, Widths.of(opened.backbone, opened.layout))
    join, labels = Join(config.join), Labels()
    for appended in records:
        record = reader.read(appended.offset, appended.value)
        if record is None:
            continue
        if isinstance(record, ServedImpression):
            labels.impressions.setdefault(record.request_id, record)
        joined = join.feed(appended.offset, record, appended.time)
        if isinstance(joined.late, LateClick):
            labels.corrected.add((joined.late.request.request_id, joined.late.item_id))
        for request in joined.closed:
            name = request.impression.request_id
            for item, click in zip(request.impression.items, request.clicks, strict=True):
                if (name, item) in labels.learned:
                    labels.twice.append(name)
                labels.learned[name, item] = bool(click)
    labels.dropped = join.dropped + reader.refused
    return labels
