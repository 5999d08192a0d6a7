"""Follows the topics `status` and `decisions`, and keeps the last hours of them for the page.

It must neither slow a request down nor end the scorer. It decodes few records at a time, yields in between, and shows
any failure on the page before it tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streaming.clients import aiokafka_options
from streaming.config import Config
from streaming.events.decisions import Decision, decode_decision
from streaming.events.status import InvalidStatusError, decode_status
from streaming.scorer.following import follow
from streaming.scorer.page.history import HORIZON_S, StatusHistory
from streaming.scorer.topic_ids import TopicIds

_POLL_MS = 1_000
_AT_ONCE = 5
"""Records decoded without a pause, which takes about a millisecond with 64 domains."""
_PAUSE_S = 0.01
_RETRY_S = 5.0

log = logging.getLogger(__name__)


class StatusFollower:
    """Reads the last hours of both topics, then follows them: read_committed, no consumer group."""

    def __init__(self, history: StatusHistory, config: Config, now: Callable[[], float]) -> None:
        """`now` returns broker time, seconds since the epoch."""
        self._history, self._config, self._now = history, config, now
        self._status, self._decisions = config.topics.status, config.topics.decisions
        self._positions: dict[TopicPartition, int] = {}
        self.problem: str | None = "the topics are not read yet"
        """Why the shown data may be old; None while the topics are followed."""

    async def run(self) -> None:
        """Follows until it is cancelled."""
        options = aiokafka_options(self._config.kafka)
        await follow(
            options, self._read, self._failed, ids=TopicIds(self._config.kafka, (self._status, self._decisions)),
            forget=self._forget, poll_ms=_POLL_MS, retry_s=_RETRY_S, log=log,
        )  # fmt: skip

    def _forget(self, topic: str) -> None:
        self._positions = {at: offset for at, offset in self._positions.items() if at.topic != topic}

    def _failed(self, why: str) -> None:
        self.problem = f"reading topics {self._status!r} and {self._decisions!r}: {why}"

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        await self._assign(consumer)
        while True:
            for partition, records in (await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)).items():
                self._take(records)
                self._positions[partition] = records[-1].offset + 1
            self.problem = None
            await asyncio.sleep(_PAUSE_S)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """Starts where the last reading ended, at first at the beginning of the page's horizon."""
        partitions = [TopicPartition(self._status, 0), TopicPartition(self._decisions, 0)]
        consumer.assign(partitions)
        begin_ms = int((self._now() - HORIZON_S) * 1_000)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, begin_ms))
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            first = found.get(partition)
            begin = ends[partition] if first is None else first.offset
            consumer.seek(partition, self._positions.get(partition, begin))

    def _take(self, records: list[ConsumerRecord]) -> None:
        decisions: list[Decision] = []
        for record in records:
            try:
                if record.topic == self._decisions:
                    decisions.append(decode_decision(record.value or b""))
                else:
                    self._history.take(decode_status(record.value or b""))
            except (InvalidStatusError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._history.unread += 1
        self._history.add_decisions(decisions)
