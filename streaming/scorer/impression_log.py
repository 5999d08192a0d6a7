"""Writes served impressions to `traffic`, outside of the request's path and in bounded memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from aiokafka.structs import RecordMetadata

from streaming.broker_clock import LOG_APPEND_TIME, BrokerClock, steady_wall
from streaming.events import ServedImpression, Tick, encode_traffic
from streaming.monitoring import metrics
from streaming.scorer.producer import RestartingProducer

_ATTEMPTS = 3
_LOG_EVERY_S = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    """An encoded impression that the broker has not acknowledged yet."""

    partition: int
    value: bytes
    attempts: int = 0


class ImpressionLog:
    """Keeps impressions until the broker has acknowledged them. Each is delivered at least once or counted as lost.

    A second delivery does no harm, because the join drops impressions of requests that it knows (docs/decisions/0044).
    """

    def __init__(
        self,
        producer: RestartingProducer,
        *,
        topic: str,
        groups: Sequence[str],
        max_bytes: int,
        broker_clock: BrokerClock,
        wall: Callable[[], float] = steady_wall,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`max_bytes` bounds the impressions waiting for acknowledgement; beyond it new ones are lost.

        `broker_clock` learns the broker's time from every acknowledgement, compared with `wall`.
        """
        self._producer = producer
        self._topic = topic
        self._partitions = {group: index for index, group in enumerate(groups)}
        self._queues: dict[int, asyncio.Queue[_Pending]] = {i: asyncio.Queue() for i in range(len(groups))}
        self._max_bytes = max_bytes
        self._broker_clock = broker_clock
        self._wall = wall
        self._clock = clock
        self._waiting: dict[int, _Pending] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._lost_unlogged: dict[str, int] = {}
        self._suspect: AIOKafkaProducer | None = None
        self._logged_at = -_LOG_EVERY_S
        self.waiting_bytes = 0
        """Bytes waiting for acknowledgement."""

    def write(self, group: str, impression: ServedImpression) -> None:
        """Takes an impression without waiting, and never raises because the broker is away."""
        record = _Pending(self._partitions[group], encode_traffic(impression))
        # The newest is dropped, because older ones are further on their way and their feedback comes first.
        if self.waiting_bytes + len(record.value) > self._max_bytes:
            self._lost("buffer_full", 1)
            return
        self._take(record)

    def _take(self, record: _Pending) -> None:
        self._waiting[id(record)] = record
        self.waiting_bytes += len(record.value)
        self._idle.clear()
        self._queues[record.partition].put_nowait(record)

    async def ask_time(self) -> None:
        """Writes a tick without effect and waits for its acknowledgement, so that the broker's time is known from the
        first impression on.

        Call it before any `write`, while `run` is running.
        """
        self._take(_Pending(0, encode_traffic(Tick(0.0))))
        await self._idle.wait()

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues.values():
                group.create_task(self._deliver(queue))

    async def flush(self, timeout_s: float) -> None:
        """Waits until everything is acknowledged; what is not acknowledged after `timeout_s` counts as lost."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            self._lost("shutdown", len(self._waiting))
            self._waiting.clear()
        self._log_lost(force=True)

    async def _deliver(self, queue: asyncio.Queue[_Pending]) -> None:
        while True:
            record = await queue.get()
            while not await self._sent(record):
                pass

    async def _sent(self, record: _Pending) -> bool:
        """Passes one record to the producer; returns False if it must be passed again."""
        producer = await self._producer.get()
        if producer is self._suspect:
            await self._producer.replace(producer)
            return False
        sent = self._wall()
        try:
            future = await producer.send(self._topic, record.value, partition=record.partition)
        except KafkaTimeoutError:
            return False
        except MessageSizeTooLargeError:
            self._done(record)
            self._lost("too_large", 1)
            return True
        except KafkaError as error:
            log.warning("impressions cannot be sent: %s: %s", type(error).__name__, error)
            await self._producer.replace(producer)
            return False
        future.add_done_callback(lambda done: self._acknowledged(record, producer, sent, done))
        return True

    def _acknowledged(
        self, record: _Pending, producer: AIOKafkaProducer, sent: float, future: asyncio.Future[RecordMetadata]
    ) -> None:
        """Takes the broker's answer, which tells its clock; a failed impression is sent again, up to a limit."""
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            written = future.result()
            if written.timestamp is not None and written.timestamp_type == LOG_APPEND_TIME:
                self._broker_clock.acknowledged(sent, self._wall(), written.timestamp / 1_000)
            self._done(record)
            return
        # After a batch has failed for good, the idempotent producer's sequence numbers no longer match the broker's.
        self._suspect = producer
        record.attempts += 1
        log.warning("an impression was not acknowledged (attempt %d): %r", record.attempts, error)
        if record.attempts < _ATTEMPTS:
            self._queues[record.partition].put_nowait(record)
            return
        self._done(record)
        self._lost("delivery_failed", 1)

    def _done(self, record: _Pending) -> None:
        if self._waiting.pop(id(record), None) is not None:
            self.waiting_bytes -= len(record.value)
        if not self._waiting:
            self._idle.set()

    def _lost(self, reason: str, count: int) -> None:
        metrics.scorer.IMPRESSIONS_LOST.labels(reason=reason).inc(count)
        self._lost_unlogged[reason] = self._lost_unlogged.get(reason, 0) + count
        self._log_lost()

    def _log_lost(self, *, force: bool = False) -> None:
        if not self._lost_unlogged or not (force or self._clock() - self._logged_at >= _LOG_EVERY_S):
            return
        counts = ", ".join(f"{count} ({reason})" for reason, count in self._lost_unlogged.items())
        log.error(
            "served impressions lost, nothing will be learned from them: %s; %d bytes wait for the broker",
            *(counts, self.waiting_bytes),
        )
        self._lost_unlogged.clear()
        self._logged_at = self._clock()
