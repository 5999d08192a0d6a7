"""Reads `interactions` as a member of a consumer group; batches that cannot be unpacked are skipped and reported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import AuthorizationError, KafkaError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata

from streaming.clients import end_offsets, make_consumer
from streaming.config import Config

log = logging.getLogger(__name__)

_LOOK_MS = 1_000
_MAX_POLL_INTERVAL_MS = 15 * 60 * 1_000
"""If the feature store is down for longer, the member leaves the group, and some records are handled twice."""
_METADATA_MAX_AGE_MS = 5_000
"""A topic that is deleted and created again between two fetches fails no request, so only new metadata shows it."""


@dataclass(frozen=True)
class UnreadableBatch:
    """Records in the topic that cannot be unpacked."""

    topic: str
    partition: int
    offset: int
    """Offset of the first one."""
    next_offset: int
    """Offset after the last one."""
    error: Exception


@dataclass(frozen=True)
class Polled:
    """The result of one poll."""

    records: list[Any]
    """Records of kafka-python, in the order of each partition."""
    unreadable: list[UnreadableBatch]

    def positions(self) -> dict[tuple[str, int], int]:
        """The offset after the records read, by topic and partition."""
        ends: dict[tuple[str, int], int] = {}
        for record in self.records:
            ends[record.topic, record.partition] = record.offset + 1
        for batch in self.unreadable:
            place = (batch.topic, batch.partition)
            ends[place] = max(ends.get(place, 0), batch.next_offset)
        return ends


class InteractionsReader:
    """One member of a consumer group of `interactions`."""

    def __init__(self, config: Config, group_id: str, stopping: threading.Event) -> None:
        self._topic = config.topics.interactions
        self._stopping = stopping
        self._unreadable: list[UnreadableBatch] = []
        self.consumer: KafkaConsumer = make_consumer(
            config.kafka,
            self._topic,
            group_id=group_id,
            max_poll_records=config.ingest.max_poll,
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            session_timeout_ms=10_000,
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        )
        _pass_over_unreadable(self.consumer, self._unreadable)
        # If the group's leader joins without knowing the topic's partitions, it joins again as soon as it does. Then
        # kafka-python 3.0 forgets that join if it takes longer than one short poll, and the member silently stays
        # without partitions. So the partitions are fetched before the first join.
        self.consumer.topics()
        self._topic_id = self._present_topic_id()

    def poll(self, wait_ms: int) -> Polled:
        """New records; empty after a failure, which is logged. Raises AuthorizationError.

        A topic that was deleted and created again is read from its beginning.
        """
        try:
            self._rewind_if_replaced()
            polled = self.consumer.poll(timeout_ms=wait_ms)
        except AuthorizationError:
            raise
        except KafkaError as error:
            log.warning("reading %s failed (%s); trying again", self._topic, error)
            self._stopping.wait(1.0)
            polled = {}
        unreadable = self._unreadable[:]
        self._unreadable.clear()
        return Polled([record for records in polled.values() for record in records], unreadable)

    def _rewind_if_replaced(self) -> None:
        """Goes to the beginning of a topic that replaced a deleted one, because old offsets mean nothing in it.

        A smaller new topic fails with an offset out of range, but in a larger one the old position is valid, and its
        first records would be skipped in silence. Records read between are handled twice, which the join tolerates.
        """
        found = self._present_topic_id()
        if found is None or found == self._topic_id:
            return
        assigned = self.consumer.assignment()
        if self._topic_id is not None and assigned:
            log.warning("%s was deleted and created again: reading it from its beginning", self._topic)
            self.consumer.seek_to_beginning(*assigned)
        self._topic_id = found

    def _present_topic_id(self) -> UUID | None:
        """The topic's id in the consumer's metadata; None while there is no such topic, or for Kafka before 2.8."""
        # kafka-python 3.0.12 gives it out publicly only by a request of an admin client, too much for every poll.
        found: UUID | None = self.consumer._cluster.topic_id(self._topic)
        return found

    def commit(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Commits these offsets; a failure is logged."""
        offsets = {TopicPartition(*place): OffsetAndMetadata(offset, "") for place, offset in positions.items()}
        try:
            self.consumer.commit(offsets, 5_000)
        except KafkaError as error:
            # The next commit covers these records; if a partition moved away, its new owner handles them again.
            log.warning("committing %d partitions failed (%s); going on", len(offsets), error)

    def own(self) -> set[TopicPartition]:
        """The partitions that this member owns. Raises UnknownTopicOrPartitionError if the topic is gone."""
        own: set[TopicPartition] = self.consumer.assignment()
        if not own and not self.partitions():
            # If the topic is deleted, its partitions disappear without an error. Asking for them also refreshes the
            # consumer's metadata, so that it goes on soon after the topic was created again.
            raise UnknownTopicOrPartitionError(f"{self._topic} has no partitions")
        return own

    def partitions(self) -> int:
        """Number of partitions of the topic; 0 if it is gone."""
        return len(self.consumer.partitions_for_topic(self._topic) or ())

    def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset of each partition, of any topic. Raises KafkaError."""
        return end_offsets(self.consumer, partitions, _LOOK_MS) if partitions else {}

    def positions(self, assigned: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset to read of each own partition, if it has one yet. Raises KafkaError."""
        found = {partition: self.consumer.position(partition, timeout_ms=_LOOK_MS) for partition in assigned}
        return {partition: position for partition, position in found.items() if position is not None}

    def close(self) -> None:
        """Leaves the group."""
        self.consumer.close(autocommit=False, timeout_ms=5_000)


class _PassingOver(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Continues after a batch that cannot be unpacked.

    kafka-python 3.0 raises once and then loops for ever inside `poll` at the same batch.
    """

    unreadable: list[UnreadableBatch]
    next_fetch_offset: int

    def _unpack_records(self, tp: TopicPartition, records: Any, *deserializers: Any) -> Iterator[Any]:
        batches = _Remembering(records)
        while True:
            try:
                yield from super()._unpack_records(tp, batches, *deserializers)
                return
            except Exception as error:
                batch = batches.last
                behind = getattr(batch, "next_offset", None)  # unknown for batches older than Kafka 0.11
                if behind is None:
                    raise
                begin = max(self.next_fetch_offset, self.fetch_offset)
                self.unreadable.append(UnreadableBatch(tp.topic, tp.partition, begin, behind, error))
                self.next_fetch_offset = behind


class _Remembering:
    """Iterates over the batches of a fetch and remembers the last one."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.last: Any = None

    def next_batch(self) -> Any:
        self.last = None  # a batch that cannot even be cut out of the fetch has no known end
        self.last = self._records.next_batch()
        return self.last


def _pass_over_unreadable(consumer: KafkaConsumer, unreadable: list[UnreadableBatch]) -> None:
    consumer._fetcher.PartitionRecords = type("PassingOver", (_PassingOver,), {"unreadable": unreadable})
