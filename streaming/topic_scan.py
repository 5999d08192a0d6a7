"""Reads a topic up to its present end, for commands and reports, which do not follow it further."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streaming.clients import COMMAND_CONNECT_MS, begin_offsets, end_offsets, make_consumer
from streaming.config import Config
from streaming.record_sizes import ORDER_BYTES

ASK_MS = 10_000
"""Milliseconds that a request for offsets may take."""
_POLL_MS = 200
_SILENT_S = 30.0
_REPORT_EVERY = 1_000
_STEP = 200
"""Records that a backward scan reads at once."""


class TopicScanError(Exception):
    """A topic does not exist or cannot be read to its end; the message names it and the cure."""


def scan(
    config: Config,
    topic: str,
    partition: int | None = None,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[Any]:
    """All committed records of a topic or of one partition, as kafka-python records, in the order of each partition.

    `progress` is called with the records read so far and in all. Raises TopicScanError.
    """
    try:
        with make_scanner(config) as consumer:
            numbers = consumer.partitions_for_topic(topic)
            if not numbers:
                raise TopicScanError(f"there is no topic {topic!r} yet: `driftline setup` makes it")
            places = [TopicPartition(topic, n) for n in (sorted(numbers) if partition is None else [partition])]
            begins = begin_offsets(consumer, places, ASK_MS)
            ends = end_offsets(consumer, places, ASK_MS)
            done, total = 0, sum(ends.values()) - sum(begins.values())
            for place in places:
                for record in read_span(consumer, place, begins[place], ends[place]):
                    yield record
                    done += 1
                    if done % _REPORT_EVERY == 0:
                        progress(done, total)
            progress(total, total)
    except KafkaError as error:
        raise TopicScanError(f"topic {topic!r} on {config.kafka.bootstrap} cannot be read: {error!r}") from error


def scan_back(config: Config, topic: str, partition: int) -> Iterator[Any]:
    """The committed records of a partition, newest first, read only as far back as the caller iterates.

    Raises TopicScanError.
    """
    try:
        with make_scanner(config) as consumer:
            if partition not in (consumer.partitions_for_topic(topic) or ()):
                raise TopicScanError(f"there is no topic {topic!r} yet: `driftline setup` makes it")
            place = TopicPartition(topic, partition)
            begin = begin_offsets(consumer, [place], ASK_MS)[place]
            end = end_offsets(consumer, [place], ASK_MS)[place]
            while end > begin:
                start = max(begin, end - _STEP)
                yield from reversed(list(read_span(consumer, place, start, end)))
                end = start
    except KafkaError as error:
        raise TopicScanError(f"topic {topic!r} on {config.kafka.bootstrap} cannot be read: {error!r}") from error


def make_scanner(config: Config) -> KafkaConsumer:
    """A consumer that reads committed records only, with a size limit that fits every topic."""
    return make_consumer(
        config.kafka,
        isolation_level="read_committed",
        max_partition_fetch_bytes=ORDER_BYTES,
        bootstrap_timeout_ms=COMMAND_CONNECT_MS,
    )


def read_span(consumer: KafkaConsumer, partition: TopicPartition, begin: int, end: int) -> Iterator[Any]:
    """The records of a partition from offset `begin` (included) to `end` (excluded).

    Raises TopicScanError if none comes for 30 s, and KafkaError.
    """
    consumer.assign([partition])
    consumer.seek(partition, begin)
    reached, newest_at = begin, time.monotonic()
    while reached < end:
        for record in consumer.poll(timeout_ms=_POLL_MS).get(partition, ()):
            if record.offset < end:
                yield record
        position = consumer.position(partition, timeout_ms=ASK_MS)  # transaction markers advance it, too
        if position > reached:
            reached, newest_at = position, time.monotonic()
        elif time.monotonic() - newest_at > _SILENT_S:
            raise TopicScanError(
                f"{partition.topic}[{partition.partition}] gave nothing after offset {reached} of {end} for"
                f" {_SILENT_S:.0f} s: does the broker still run?"
            )
