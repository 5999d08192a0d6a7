"""Learns a span of `traffic` again: the same machine on the same records gives the same kernel, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import torch
from kafka import TopicPartition
from kafka.errors import KafkaError

from model.near_names import did_you_mean
from streaming.backbone import OpenedBackbone
from streaming.clients import (
    COMMAND_CONNECT_MS,
    begin_offsets,
    end_offsets,
    make_admin,
    make_consumer,
    topic_id,
)
from streaming.config import Config
from streaming.group.assembly import new_machine
from streaming.group.machine import GroupMachine
from streaming.kernel_log.snapshot import decode_snapshot
from streaming.processor.partition_reader import PartitionReader
from streaming.rebuild.saved import SavedGroup
from streaming.rebuild.state import WholeState
from streaming.topic_scan import ASK_MS, make_scanner, read_span

_MILLISECONDS = 1e11
"""In seconds since the epoch this is the year 5138; in milliseconds it is 1973."""
Fed = tuple[int, bytes | None, float]
"""Offset, value and append time in seconds of a record, as a machine takes it."""


class ReplayError(Exception):
    """The log cannot be replayed as requested; the message names the reason and the cure."""


@dataclass(frozen=True)
class Span:
    """Offsets from `begin` (included) to `end` (excluded)."""

    begin: int
    end: int

    def __contains__(self, offset: int) -> bool:
        return self.begin <= offset < self.end


@dataclass(frozen=True)
class TrafficSpan:
    """The span that the broker holds of a group's partition of `traffic`."""

    partition: TopicPartition
    topic: str
    """Id of the topic."""
    held: Span


@dataclass(frozen=True)
class Replayed:
    """The result of learning a span again."""

    state: WholeState
    records: int
    skipped: int
    left_open: int
    """Number of requests left out because they were open when the skipped span began."""


def traffic_span(config: Config, group: str) -> TrafficSpan:
    """The span that the broker holds of a group's traffic. Raises ReplayError."""
    number = config.partition_of(group)
    if number is None:
        known = [known.name for known in config.groups]
        near = did_you_mean(group, known)
        raise ReplayError(f"there is no kernel group {group!r}; the configured ones are: {', '.join(known)}{near}")
    partition = TopicPartition(config.topics.traffic, number)
    try:
        with make_admin(config.kafka, bootstrap_timeout_ms=COMMAND_CONNECT_MS) as admin:
            topic = topic_id(admin, partition.topic)
        if topic is None:
            raise ReplayError(f"there is no topic {partition.topic!r}: nothing is left to replay")
        with make_consumer(config.kafka) as consumer:
            begin = begin_offsets(consumer, [partition], ASK_MS)[partition]
            end = end_offsets(consumer, [partition], ASK_MS)[partition]
    except KafkaError as error:
        raise ReplayError(f"{partition.topic!r} on {config.kafka.bootstrap} cannot be read: {error!r}") from error
    return TrafficSpan(partition, topic, Span(begin, end))


def offset_at(config: Config, traffic: TrafficSpan, seconds: float) -> int:
    """Offset of the first record that the broker appended at or after a time, seconds; the end if there is none.

    Raises ReplayError for a time that no broker can have.
    """
    if not 0 <= seconds < _MILLISECONDS:
        raise ReplayError(f"{seconds:g} is no time of a broker: give seconds since the epoch")
    with make_consumer(config.kafka) as consumer:
        found = consumer.offsets_for_times({traffic.partition: round(seconds * 1000)})[traffic.partition]
    return traffic.held.end if found is None else int(found.offset)


def replay(
    config: Config,
    opened: OpenedBackbone,
    group: str,
    traffic: TrafficSpan,
    *,
    span: Span,
    skip: Span | None = None,
    start: SavedGroup | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> Replayed:
    """Learns the records of `span` again, without what `relearn` leaves out because of `skip`.

    It starts from the group's first rows, or from `start`, whose referenced records are read first. Raises ReplayError,
    SnapshotError, FirstRowsRefused, TopicScanError.
    """
    torch.set_num_threads(1)  # as the processor: with more, sums are rounded in another order, and bits differ
    with closing(PartitionReader(config, traffic.partition.partition)) as reader:
        machine = new_machine(config, opened, group, reader)
        begin = span.begin
        if start is not None:
            begin = _begin_with(machine, start, traffic, opened.backbone.fingerprint, skip)
        if begin < traffic.held.begin:
            raise ReplayError(
                f"group {group!r}: traffic begins at offset {traffic.held.begin}, {begin} is deleted by age: start"
                f" there (--from-offset {traffic.held.begin}) or from a saved state (--start)"
            )
        records, skipped = relearn(
            machine, read_records(config, traffic.partition, Span(begin, span.end)), skip, progress=progress
        )
        if machine.recovering:
            raise ReplayError(
                f"group {group!r}: the saved state has seen all before offset {span.end}: nothing is left"
            )
    state = WholeState.of(machine, traffic.topic, {} if start is None else start.segments)
    return Replayed(state, records, skipped, machine.dropped["left_out"])


def relearn(
    machine: GroupMachine,
    records: Iterable[Fed],
    skip: Span | None,
    *,
    progress: Callable[[int], None] = lambda _done: None,
) -> tuple[int, int]:
    """Feeds a machine all records except those of `skip`; returns the number of records and of skipped ones.

    Requests that are open when `skip` begins are left out too, because their clicks may be in it and their labels would
    be false. Posteriors and live rows are then those of a log without the span and without these requests.
    """
    seen = skipped = 0
    for offset, value, appended in records:
        seen += 1
        if skip is not None and offset in skip:
            if not skipped:
                machine.join.leave_open()
            skipped += 1
        else:
            machine.feed(offset, value, appended)
        progress(seen)
    return seen, skipped


def _begin_with(
    machine: GroupMachine, start: SavedGroup, traffic: TrafficSpan, fingerprint: str, skip: Span | None
) -> int:
    """Restores a saved state; returns the offset to read from. Raises ReplayError if it does not fit log or `skip`."""
    if start.cut.topic != traffic.topic:
        raise ReplayError(
            f"group {machine.group!r}: the saved state belongs to another topic of traffic ({start.cut.topic}, this is"
            f" {traffic.topic}): its offsets mean nothing here"
        )
    snapshot = decode_snapshot(start.cut.snapshot, group=machine.group, fingerprint=fingerprint)
    if skip is not None and skip.begin < snapshot.next_offset:
        raise ReplayError(
            f"group {machine.group!r}: the saved state has learned from offsets before {snapshot.next_offset}, so from"
            f" {skip.begin} on nothing can be left out of it: begin with an earlier state, or without one"
        )
    machine.restore(snapshot, start.rows, start.segments, start.cut.rows_offset, start.kept)
    return snapshot.resume_offset


def read_records(config: Config, partition: TopicPartition, span: Span) -> Iterator[Fed]:
    """The records of a span, as a machine takes them. Raises TopicScanError."""
    with make_scanner(config) as consumer:
        for record in read_span(consumer, partition, span.begin, span.end):
            yield record.offset, record.value, record.timestamp / 1000
