"""Reads the end of a partition of `traffic` for the newest event times in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from streaming.clients import begin_offsets, make_consumer
from streaming.config import KafkaConfig
from streaming.events import LearningOrder, Progress, ServedImpression, Tick, Traffic, decode_traffic
from streaming.ingest.idle import Tail
from streaming.record_sizes import MAX_RECORD_BYTES

_FIRST_LOOK = 256
"""Records read first; several, because event times are only roughly in order, especially after an outage."""
_FARTHEST_LOOK = 10_000
"""Records after which the search for an impression stops."""
_READ_S = 5.0


class TrafficTail:
    """A consumer without a group, for reading the ends of partitions."""

    def __init__(self, config: KafkaConfig) -> None:
        self._consumer: KafkaConsumer = make_consumer(config, max_partition_fetch_bytes=MAX_RECORD_BYTES)

    def read(self, partition: TopicPartition, end: int) -> Tail | None:
        """The newest event times among the last records before offset `end`, back to at least one impression.

        After an outage much feedback may follow the newest impression, whose window must still end. None if the
        partition has neither. As in the join, a time ahead of the record's append time counts as the append time
        (docs/decisions/0090), because otherwise one such record would stop ticks until its time has come. Raises
        KafkaError, also if reading takes longer than 5 s.
        """
        self._consumer.assign([partition])
        begin = begin_offsets(self._consumer, [partition], int(_READ_S * 1_000))[partition]
        look = _FIRST_LOOK
        newest = reached = float("-inf")
        shown = False
        upper = end
        while upper > begin and not shown and (newest == float("-inf") or end - upper < _FARTHEST_LOOK):
            lower = max(begin, upper - look)
            for record, appended in self._between(partition, lower, upper):
                if isinstance(record, (Progress, LearningOrder)):
                    continue
                reached = max(reached, min(record.time, appended))
                if not isinstance(record, Tick):
                    newest = max(newest, min(record.time, appended))
                shown |= isinstance(record, ServedImpression)
            upper, look = lower, look * 2
        return Tail(newest, reached) if newest > float("-inf") else None

    def only_marks(self, partition: TopicPartition, begin: int, end: int) -> bool:
        """Whether the records from offset `begin` to `end` are only progress marks and ticks. Raises KafkaError."""
        self._consumer.assign([partition])
        return all(isinstance(record, Progress | Tick) for record, _ in self._between(partition, begin, end))

    def _between(self, partition: TopicPartition, lower: int, upper: int) -> Iterator[tuple[Traffic, float]]:
        """Readable records and when the broker appended them, seconds."""
        self._consumer.seek(partition, lower)
        deadline = time.monotonic() + _READ_S
        position = lower
        while position < upper:
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"reading the end of {partition.topic} took longer than {_READ_S:.0f} s")
            for record in self._consumer.poll(timeout_ms=200).get(partition, ()):
                position = record.offset + 1
                if record.offset < upper:
                    with contextlib.suppress(msgspec.DecodeError):  # the processor reports undecodable records
                        yield decode_traffic(record.value or b""), record.timestamp / 1_000
            position = max(position, self._consumer.position(partition, timeout_ms=1_000))

    def close(self) -> None:
        """Closes the consumer."""
        self._consumer.close()
