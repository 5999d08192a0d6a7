"""Reads single records of a group's `traffic` again: the impressions that late clicks belong to."""

from __future__ import annotations

import time

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streaming.clients import make_consumer
from streaming.config import Config
from streaming.group.corrections import LoggedRecord
from streaming.record_sizes import MAX_RECORD_BYTES

_PATIENCE_S = 60.0
"""Seconds that the broker may not answer before the processor ends, as after a failed transaction."""
_POLL_MS = 200


class PartitionReader:
    """Reads a partition by offset, for one thread. Records fetched along are kept until the next miss.

    The first read makes its consumer, so that a group without late clicks needs none.
    """

    def __init__(self, config: Config, partition: int) -> None:
        self._config = config
        self._partition = TopicPartition(config.topics.traffic, partition)
        self._consumer: KafkaConsumer | None = None
        self._ahead: dict[int, LoggedRecord] = {}

    def read(self, offset: int) -> LoggedRecord | None:
        """The record at `offset`; None if the broker no longer has it.

        Raises KafkaError if the broker does not answer for a minute. Taking the record for lost would then give another
        result than a replay.
        """
        if offset in self._ahead:
            return self._ahead[offset]
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                found = self._fetch(offset)
            except KafkaError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_MS / 1_000)
                continue
            if found:
                return self._ahead.get(offset)
            if time.monotonic() > deadline:
                raise KafkaError(f"record {offset} of {self._partition} did not come within {_PATIENCE_S:g} s")

    def _fetch(self, offset: int) -> bool:
        """Fetches around `offset`; returns whether it is now known if the broker has the record."""
        consumer = self._opened()
        consumer.seek(self._partition, offset)
        records = consumer.poll(timeout_ms=_POLL_MS).get(self._partition, [])
        self._ahead = {record.offset: LoggedRecord(record.value, record.timestamp / 1_000) for record in records}
        if records:
            return True
        begin: int = consumer.beginning_offsets([self._partition])[self._partition]
        end: int = consumer.end_offsets([self._partition])[self._partition]
        return not begin <= offset < end

    def _opened(self) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = make_consumer(self._config.kafka, max_partition_fetch_bytes=MAX_RECORD_BYTES)
            self._consumer.assign([self._partition])
        return self._consumer

    def close(self) -> None:
        """Closes the connection; call it only after the reading thread has ended."""
        if self._consumer is not None:
            self._consumer.close()
