"""Reads what stands in a small topic now."""

from __future__ import annotations

from dataclasses import dataclass

from kafka import TopicPartition
from kafka.errors import KafkaError

from streaming.clients import end_offsets, make_consumer, missing_topics
from streaming.config import Config
from streaming.kernel_log.keys import ORDER_BYTES

_POLL_MS = 200
_SILENT_POLLS = 50
_ASK_MS = 5_000


class ControlError(Exception):
    """An operator's command cannot be carried out; the message names the thing and the cure."""


@dataclass(frozen=True, slots=True)
class ScannedRecord:
    """One committed record."""

    offset: int
    appended: float
    """Seconds since the epoch."""
    key: bytes | None
    value: bytes | None


def scan(config: Config, topic: str, partition: int) -> list[ScannedRecord]:
    """All committed records of a partition, oldest first. Raises ControlError."""
    try:
        if missing_topics(config.kafka, [topic]):
            raise ControlError(f"there is no topic {topic!r} yet: `driftline setup` makes it")
        return _scan(config, TopicPartition(topic, partition))
    except KafkaError as error:
        raise ControlError(f"topic {topic!r} on {config.kafka.bootstrap} cannot be read: {error!r}") from error


def _scan(config: Config, partition: TopicPartition) -> list[ScannedRecord]:
    consumer = make_consumer(config.kafka, isolation_level="read_committed", max_partition_fetch_bytes=ORDER_BYTES)
    records: list[ScannedRecord] = []
    try:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = end_offsets(consumer, [partition], _ASK_MS)[partition]
        silent = 0
        while (reached := consumer.position(partition)) < end:
            batch = consumer.poll(timeout_ms=_POLL_MS).get(partition, [])
            silent = 0 if batch or consumer.position(partition) > reached else silent + 1
            if silent > _SILENT_POLLS:
                raise ControlError(
                    f"topic {partition.topic!r} gave nothing after offset {reached} of {end}: does the broker run?"
                )
            records += [ScannedRecord(r.offset, r.timestamp / 1000, r.key, r.value) for r in batch]
    finally:
        consumer.close()
    return records
