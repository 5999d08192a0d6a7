"""Reads back what a run wrote to Kafka: the report is made from the log itself."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
from kafka import KafkaConsumer, TopicPartition

from streaming.clients import make_consumer
from streaming.config import Config
from streaming.events import DriftEvent, Traffic, decode_event, decode_traffic
from streaming.events.announcements import announcement_fault
from streaming.kernel_log.keys import kernel_group

Progress = Callable[[int, int], None]
"""Called with records read and records in all."""
_POLL_MS = 500
_SILENT_POLLS = 60


class LogUnreadableError(Exception):
    """A topic could not be read to its end; the message names topic, partition and offset."""


class _Reason(msgspec.Struct):
    reason: str


class _Tag(msgspec.Struct):
    event: str


_tag: msgspec.json.Decoder[_Tag] = msgspec.json.Decoder(_Tag)


@dataclass(frozen=True)
class PublishedKernels:
    """What the kernel log says of all kernels ever published."""

    newest: dict[str, int]
    """Highest version by group; versions count up from 1, so it is also how many were published."""
    fingerprints: frozenset[str]
    """Backbones they were learned on: one, if all is well."""


def read_traffic(config: Config, progress: Progress | None = None) -> list[Traffic]:
    """All records of `traffic`, partition by partition, in the order of the log.

    Raises LogUnreadableError if the broker stops answering or a record cannot be decoded.
    """
    records: list[Traffic] = []
    for record in _read(config, config.topics.traffic, progress):
        try:
            records.append(decode_traffic(record.value))
        except msgspec.DecodeError as error:
            raise LogUnreadableError(f"{record.position}: {error}") from error
    return records


def read_drift(config: Config) -> list[DriftEvent]:
    """All announcements of drift in `interactions` that ingest takes. Raises LogUnreadableError."""
    events: list[DriftEvent] = []
    for record in _read(config, config.topics.interactions, None):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):  # ingest has reported what is wrong with it
            if _tag.decode(record.value).event == "drift":
                event = decode_event(record.value)
                if isinstance(event, DriftEvent) and announcement_fault(event) is None:
                    events.append(event)
    return events


def count_dead_letters(config: Config) -> dict[str, int]:
    """Dead letters by reason. Raises LogUnreadableError."""
    reasons: Counter[str] = Counter()
    for record in _read(config, config.topics.dead_letters, None):
        try:
            reasons[msgspec.json.decode(record.value, type=_Reason).reason] += 1
        except msgspec.DecodeError as error:
            raise LogUnreadableError(f"{record.position}: {error}") from error
    return dict(reasons)


def read_kernels(config: Config) -> PublishedKernels:
    """Versions and backbones of the kernels in the log. Raises LogUnreadableError."""
    from model.kernel.record import KernelRefused, read_info

    newest: dict[str, int] = {}
    fingerprints = set()
    for record in _read(config, config.topics.kernels, None):
        if kernel_group(record.key) is None:
            continue
        try:
            info = read_info(record.value)
        except KernelRefused as refused:
            raise LogUnreadableError(f"{record.position}: {refused}") from refused
        newest[info.group] = max(info.version, newest.get(info.group, 0))
        fingerprints.add(info.backbone_fingerprint)
    return PublishedKernels(newest, frozenset(fingerprints))


@dataclass(frozen=True, slots=True)
class _Record:
    position: str
    key: bytes | None
    value: bytes


def _read(config: Config, topic: str, progress: Progress | None) -> Iterator[_Record]:
    """Every committed record of `topic` at the time of the call that is no tombstone."""
    consumer = make_consumer(
        config.kafka,
        isolation_level="read_committed",
        fetch_max_bytes=64 << 20,
        max_partition_fetch_bytes=16 << 20,
    )
    try:
        known = consumer.partitions_for_topic(topic)
        if not known:
            raise LogUnreadableError(f"topic {topic} is not there: was `driftline ingest` ever started?")
        partitions = [TopicPartition(topic, number) for number in sorted(known)]
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        total = sum(ends[partition] - begins[partition] for partition in partitions)
        done = 0
        for partition in partitions:
            for record in _read_partition(consumer, partition, begins[partition], ends[partition]):
                yield record
                done += 1
                if progress is not None and done % 1_000 == 0:
                    progress(done, total)
        if progress is not None:
            progress(total, total)
    finally:
        consumer.close()


def _read_partition(consumer: KafkaConsumer, partition: TopicPartition, begin: int, end: int) -> Iterator[_Record]:
    consumer.assign([partition])
    consumer.seek(partition, begin)
    silent = 0
    while (reached := consumer.position(partition)) < end:
        batch = consumer.poll(timeout_ms=_POLL_MS, max_records=2_000).get(partition, [])
        silent = 0 if batch or consumer.position(partition) > reached else silent + 1
        if silent > _SILENT_POLLS:
            raise LogUnreadableError(
                f"{partition.topic}[{partition.partition}] gave nothing after offset {reached} of {end} "
                f"for {_SILENT_POLLS * _POLL_MS / 1_000:.0f} s: does the broker still run?"
            )
        for record in batch:
            if record.offset < end and record.value is not None:
                position = f"{record.topic}[{record.partition}]@{record.offset}"
                yield _Record(position, record.key, record.value)
