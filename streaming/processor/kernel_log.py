"""The transactions of one kernel group: live features, kernel and snapshot, all or nothing.

The transactional id is the group's, so Kafka itself fences an owner that lost its partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from features.live.features import LiveRow
from streaming.clients import aiokafka_options
from streaming.config import Config
from streaming.processor.snapshots import StateRecord, decode_row, encode_row

log = logging.getLogger(__name__)
MAX_MESSAGE_BYTES = 8 * 1024 * 1024


class KernelLogError(Exception):
    """The group's log could not be read or written; the message names the cause."""


class OwnershipLostError(KernelLogError):
    """Another processor owns the group now: Kafka fenced this one."""


@dataclass(frozen=True)
class Stored:
    """What the log holds of a group."""

    learner: bytes | None
    rows: Sequence[LiveRow]
    traffic_begin: int
    """First offset of the group's traffic that the broker still holds."""


@dataclass(frozen=True)
class Commit:
    """One transaction."""

    kernel: bytes | None
    """The published kernel if it changed since the last transaction."""
    learner: bytes
    rows: Sequence[StateRecord]


def kernel_key(group: str) -> bytes:
    """Key of a group's kernel in the `kernels` topic."""
    return f"{group}/kernel".encode()


def learner_key(group: str) -> bytes:
    """Key of a group's learner snapshot in the `kernels` topic: private to the processor."""
    return f"{group}/learner".encode()


class GroupLog:
    """Reads and writes the `kernels` and `state` partitions of one group."""

    def __init__(self, config: Config, group: str, partition: int) -> None:
        self._config = config
        self._group = group
        self._kernels = TopicPartition(config.topics.kernels, partition)
        self._state = TopicPartition(config.topics.state, partition)
        self._traffic = TopicPartition(config.topics.traffic, partition)
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> Stored:
        """Fences every earlier owner, then reads what they committed. Raises KernelLogError."""
        self._producer = AIOKafkaProducer(
            transactional_id=f"{self._config.topics.traffic}.{self._group}",
            transaction_timeout_ms=int(self._config.processor.transaction_timeout_s * 1000),
            max_request_size=MAX_MESSAGE_BYTES,
            acks="all",
            **aiokafka_options(self._config.kafka),
        )
        try:
            await self._producer.start()
            return await self._read()
        except KafkaError as error:
            await self.close()
            raise KernelLogError(f"group {self._group!r}: opening its kernel log failed: {error!r}") from error

    async def _read(self) -> Stored:
        newest: dict[tuple[str, bytes], bytes | None] = {}
        consumer = AIOKafkaConsumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            **aiokafka_options(self._config.kafka),
        )
        await consumer.start()
        try:
            partitions = [self._kernels, self._state]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            begins = await consumer.beginning_offsets([self._traffic])
            while not await _reached(consumer, ends):
                for batch in (await consumer.getmany(timeout_ms=100)).values():
                    for record in batch:
                        newest[record.topic, record.key] = record.value
        finally:
            await consumer.stop()
        return self._stored(newest, begins[self._traffic])

    def _stored(self, newest: dict[tuple[str, bytes], bytes | None], traffic_begin: int) -> Stored:
        rows = [
            row
            for (topic, key), value in newest.items()
            if topic == self._state.topic and value is not None
            for group, row in [decode_row(key, value)]
            if group == self._group
        ]
        return Stored(
            learner=newest.get((self._kernels.topic, learner_key(self._group))),
            rows=rows,
            traffic_begin=traffic_begin,
        )

    async def commit(self, commit: Commit) -> None:
        """Writes `commit` in one transaction.

        Raises OwnershipLostError or KernelLogError; then nobody sees any of it.
        """
        assert self._producer is not None
        try:
            async with self._producer.transaction():
                sent = [
                    await self._send(self._kernels, learner_key(self._group), commit.learner),
                    *[await self._send(self._state, record.key, record.value) for record in commit.rows],
                ]
                if commit.kernel is not None:
                    sent.append(await self._send(self._kernels, kernel_key(self._group), commit.kernel))
                await asyncio.gather(*sent)
        except ProducerFenced as error:
            raise OwnershipLostError(f"group {self._group!r} is owned by another processor now") from error
        except KafkaError as error:
            raise KernelLogError(f"group {self._group!r}: the transaction failed: {error!r}") from error

    async def _send(self, place: TopicPartition, key: bytes, value: bytes | None) -> asyncio.Future[object]:
        assert self._producer is not None
        future: asyncio.Future[object] = await self._producer.send(
            place.topic, value, key=key, partition=place.partition
        )
        return future

    async def close(self) -> None:
        """Ends the producer; an open transaction is aborted by its time-out or by the next owner."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()


async def _reached(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return False
    return True


def rows_to_records(group: str, rows: Sequence[LiveRow]) -> list[StateRecord]:
    """The `state` records of changed rows."""
    return [encode_row(group, row) for row in rows]
