"""Follows the kernel log and the operators' orders, and passes both to `ActiveKernels`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streaming.kernel_log.kernels import KernelRecord, newest_kernels
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.following import follow
from streaming.scorer.topic_ids import TopicIds

_POLL_MS = 500
_RETRY_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _NewRecords:
    """New orders and kernels, and the offsets after them."""

    orders: list[KernelRecord] = field(default_factory=list)
    kernels: list[KernelRecord] = field(default_factory=list)
    positions: dict[TopicPartition, int] = field(default_factory=dict)


class KernelFollower:
    """Reads kernels and orders from the beginning, then follows them: read_committed, no consumer group.

    It sees committed transactions only. A new client continues at the offsets of the one before.
    """

    def __init__(
        self, kernels: ActiveKernels, ids: TopicIds, *, topic: str, control: str, options: Mapping[str, Any]
    ) -> None:
        """`control` is the topic of orders; `options` are aiokafka's connection options; `ids` are of both topics."""
        self._kernels = kernels
        self._topic, self._control = topic, control
        self._ids, self._options = ids, dict(options)
        self._positions: dict[TopicPartition, int] = {}
        self._problem: str | None = None
        self.reached = asyncio.Event()
        """Set once everything in the log at the start has been read and the newest kernels are in use."""

    def missing(self) -> str | None:
        """What the follower is waiting for; None once the newest kernels are in use."""
        if self.reached.is_set():
            return None
        return self._problem or f"topic {self._topic!r} is not read to its end yet"

    async def run(self) -> None:
        """Follows until it is cancelled."""
        await follow(
            self._options, self._read, self._failed, ids=self._ids, forget=self._forget,
            poll_ms=_POLL_MS, retry_s=_RETRY_S, log=log, errors=KafkaError,
        )  # fmt: skip

    def _forget(self, topic: str) -> None:
        self._positions = {at: offset for at, offset in self._positions.items() if at.topic != topic}

    def _failed(self, why: str) -> None:
        self._problem = f"reading topic {self._topic!r}: {why}"

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        partitions = self._assign(consumer)
        if not self.reached.is_set():
            await self._read_to_end(consumer, partitions)
        self._problem = None
        while True:
            polled = await self._poll(consumer)
            self._kernels.apply_orders(polled.orders)
            self._kernels.take(polled.kernels)
            self._positions |= polled.positions

    def _assign(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        partitions = [TopicPartition(self._topic, index) for index in range(len(self._kernels.groups))]
        partitions.append(TopicPartition(self._control, 0))
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, self._positions.get(partition, 0))
        return partitions

    async def _read_to_end(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Reads all existing records and takes only the newest order and kernel of each group, orders first.

        After a failure everything is read again, because only taken records count as read.
        """
        ends = await consumer.end_offsets(partitions)
        newest: dict[str, KernelRecord] = {}
        ordered: dict[bytes | None, KernelRecord] = {}
        positions: dict[TopicPartition, int] = {}
        behind = list(partitions)
        while behind:
            polled = await self._poll(consumer)
            ordered |= {order.key: order for order in polled.orders}
            newest |= newest_kernels(polled.kernels)
            positions |= polled.positions
            behind = [p for p in behind if await consumer.position(p) < ends[p]]
        self._kernels.apply_orders(ordered.values())
        self._kernels.take(newest.values(), at_start=True)
        self._positions |= positions
        self.reached.set()
        log.info("kernel log read to its end; kernels in use: %s", self._kernels.versions())

    async def _poll(self, consumer: AIOKafkaConsumer) -> _NewRecords:
        polled = _NewRecords()
        for partition, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
            polled.positions[partition] = records[-1].offset + 1
            found = polled.orders if partition.topic == self._control else polled.kernels
            found.extend(KernelRecord(partition.partition, record.key, record.value) for record in records)
        return polled
