"""Reads back what a run wrote to Kafka: the report is made from the log itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
from kafka import KafkaConsumer, TopicPartition

from streaming.clients import make_consumer
from streaming.config import Config
from streaming.events import Traffic, decode_traffic

Progress = Callable[[int, int], None]
"""Called with records read and records in all."""
_POLL_MS = 500
_PATIENCE = 60


class LogUnreadableError(Exception):
    """A topic could not be read to its end; the message names topic, partition and place."""


class _Reason(msgspec.Struct):
    reason: str


def read_traffic(config: Config, progress: Progress | None = None) -> list[Traffic]:
    """All records of `traffic`, partition by partition, in the order of the log.

    Raises LogUnreadableError if the broker stops answering or a record cannot be decoded.
    """
    records: list[Traffic] = []
    for partition, offset, value in _read(config, config.topics.traffic, progress):
        try:
            records.append(decode_traffic(value))
        except msgspec.DecodeError as error:
            raise LogUnreadableError(f"{config.topics.traffic}[{partition}]@{offset}: {error}") from error
    return records


def count_dead_letters(config: Config) -> dict[str, int]:
    """Dead letters by reason. Raises LogUnreadableError."""
    topic = config.topics.dead_letters
    reasons: Counter[str] = Counter()
    for partition, offset, value in _read(config, topic, None):
        try:
            reasons[msgspec.json.decode(value, type=_Reason).reason] += 1
        except msgspec.DecodeError as error:
            raise LogUnreadableError(f"{topic}[{partition}]@{offset}: {error}") from error
    return dict(reasons)


def _read(config: Config, topic: str, progress: Progress | None) -> Iterator[tuple[int, int, bytes]]:
    """Partition, offset and value of every committed record of `topic` at the time of the call."""
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
            for offset, value in _read_partition(consumer, partition, begins[partition], ends[partition]):
                yield partition.partition, offset, value
                done += 1
                if progress is not None and done % 1_000 == 0:
                    progress(done, total)
        if progress is not None:
            progress(total, total)
    finally:
        consumer.close()


def _read_partition(
    consumer: KafkaConsumer, partition: TopicPartition, begin: int, end: int
) -> Iterator[tuple[int, bytes]]:
    consumer.assign([partition])
    consumer.seek(partition, begin)
    silent = 0
    while (place := consumer.position(partition)) < end:
        batch = consumer.poll(timeout_ms=_POLL_MS, max_records=2_000).get(partition, [])
        silent = 0 if batch or consumer.position(partition) > place else silent + 1
        if silent > _PATIENCE:
            raise LogUnreadableError(
                f"{partition.topic}[{partition.partition}] gave nothing after offset {place} of {end} "
                f"for {_PATIENCE * _POLL_MS / 1_000:.0f} s: does the broker still run?"
            )
        for record in batch:
            if record.offset < end and record.value is not None:
                yield record.offset, record.value
