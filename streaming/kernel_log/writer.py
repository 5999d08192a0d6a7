"""Transactions of one kernel group: live rows, kernel and snapshot, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from streaming.clients import aiokafka_options
from streaming.config import Config
from streaming.kernel_log.errors import KernelLogError, OwnershipLostError
from streaming.kernel_log.keys import kernel_key
from streaming.kernel_log.rows import StateRecord
from streaming.record_sizes import MAX_RECORD_BYTES


@dataclass(frozen=True)
class Transaction:
    """The records of one commit."""

    kernel: bytes | None
    """The published kernel, if it is new since the last transaction."""
    snapshot: StateRecord | None = None
    """The learner's snapshot, in a whole cut."""
    rows: Sequence[StateRecord] = ()
    """Live rows that changed since the last whole cut, and the mark that says what they contain."""
    decisions: Sequence[bytes] = ()
    """Decisions of the group since the last whole cut (`streaming.events.decisions`)."""
    kept: Sequence[StateRecord] = ()
    """States to which the learner may return, new since the last whole cut."""
    status: bytes | None = None
    """The group's status, now and then (`streaming.events.status`)."""

    @property
    def size(self) -> Mapping[str, int]:
        """Bytes of keys and values, by content."""
        snapshot = () if self.snapshot is None else (self.snapshot,)
        return {
            "kernel": len(self.kernel or b""),
            "snapshot": sum(record.size for record in snapshot),
            "kept": sum(record.size for record in self.kept),
            "rows": sum(record.size for record in self.rows),
            "decisions": sum(map(len, self.decisions)),
            "status": len(self.status or b""),
        }


def transactional_id(config: Config, group: str) -> str:
    """The transactional id by which Kafka fences earlier owners, named after the topic that is written.

    So two deployments that learn from one `traffic` into different `kernels` do not fence each other, and two that
    write the same `kernels` do.
    """
    return f"{config.topics.kernels}.{group}"


class GroupWriter:
    """Writes one group's partitions of `kernels`, `state` and `history`, its decisions and its status.

    The transactional id belongs to the partition (`transactional_id`), so Kafka fences an owner that has lost it.
    """

    def __init__(self, config: Config, group: str, partition: int) -> None:
        self._config = config
        self._group = group
        self._kernels = TopicPartition(config.topics.kernels, partition)
        self._state = TopicPartition(config.topics.state, partition)
        self._history = TopicPartition(config.topics.history, partition)
        self._decisions = TopicPartition(config.topics.decisions, 0)
        self._status = TopicPartition(config.topics.status, 0)
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Fences every earlier owner of the group. Raises KernelLogError."""
        self._producer = AIOKafkaProducer(
            transactional_id=transactional_id(self._config, self._group),
            transaction_timeout_ms=int(self._config.processor.transaction_timeout_s * 1000),
            max_request_size=MAX_RECORD_BYTES,
            acks="all",
            **aiokafka_options(self._config.kafka),
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            await self.close()
            raise KernelLogError(f"group {self._group!r}: opening its kernel log failed: {error!r}") from error

    async def write(self, transaction: Transaction) -> None:
        """Writes all of `transaction` atomically.

        Raises OwnershipLostError or KernelLogError; then no reader sees any of it.
        """
        assert self._producer is not None
        try:
            async with self._producer.transaction():
                sent = [
                    *[await self._send(self._state, record.key, record.value) for record in transaction.rows],
                    *[await self._send(self._decisions, self._group.encode(), made) for made in transaction.decisions],
                ]
                sent += [await self._send(self._kernels, record.key, record.value) for record in transaction.kept]
                if transaction.snapshot is not None:
                    sent.append(await self._send(self._kernels, transaction.snapshot.key, transaction.snapshot.value))
                if transaction.kernel is not None:
                    key, kernel = kernel_key(self._group), transaction.kernel
                    sent += [await self._send(partition, key, kernel) for partition in (self._kernels, self._history)]
                if transaction.status is not None:
                    sent.append(await self._send(self._status, self._group.encode(), transaction.status))
                await asyncio.gather(*sent)
        except ProducerFenced as error:
            raise OwnershipLostError(f"group {self._group!r} is owned by another processor now") from error
        except KafkaError as error:
            raise KernelLogError(f"group {self._group!r}: the transaction failed: {error!r}") from error

    async def _send(self, partition: TopicPartition, key: bytes, value: bytes | None) -> asyncio.Future[object]:
        assert self._producer is not None
        sent: asyncio.Future[object] = await self._producer.send(
            partition.topic, value, key=key, partition=partition.partition
        )
        return sent

    async def close(self) -> None:
        """Closes the producer; an open transaction is aborted by its time-out or by the next owner."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()
