"""Records that ingest itself adds to `traffic`: ticks while there is no traffic, and marks of its reading progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping

from kafka import TopicPartition
from kafka.errors import KafkaError

from streaming.broker_clock import BrokerClock, steady_wall
from streaming.config import Config
from streaming.events import Progress, Tick, encode_traffic
from streaming.ingest.idle import IdleClock, IdleRule
from streaming.ingest.output import Output, Writer
from streaming.ingest.progress import MarkSchedule
from streaming.ingest.tail import TrafficTail
from streaming.monitoring import metrics

log = logging.getLogger(__name__)

_TO_SPARE_S = 5.0


def rule_of(config: Config) -> IdleRule:
    """The idle rule of a configuration; ticks end twice the join's longest wait, plus 5 s, after the newest event."""
    longest = config.join.window_s + config.join.lateness_s
    interval = config.ingest.idle_tick_s
    return IdleRule(interval, 2 * longest + _TO_SPARE_S, gap_s=max(2.0, 4 * interval))


class Ticker:
    """Idle clocks of all groups. Every member of the consumer group watches and marks; one of them writes ticks."""

    def __init__(self, config: Config, writer: Writer, clock: BrokerClock) -> None:
        self._rule = rule_of(config)
        self.partitions = [TopicPartition(config.topics.traffic, i) for i in range(len(config.groups))]
        self._config = config
        self._writer = writer
        self._clock = clock
        self._idle = [IdleClock(self._rule) for _ in self.partitions]
        self._marks = [MarkSchedule() for _ in self.partitions]
        self._tail: TrafficTail | None = None

    def routed(self, partition: int, newest: float) -> None:
        """Records that events up to this time were written to the partition."""
        self._idle[partition].routed(newest)

    def look(self, ends: Mapping[TopicPartition, int], *, ticks: bool) -> None:
        """Takes the end offsets of `traffic`; with `ticks`, writes the ticks that are due."""
        for partition, idle, group in zip(self.partitions, self._idle, self._config.groups, strict=True):
            end = ends[partition]
            self._pass_marks(partition, idle, end)
            shown = idle.look(end, time.monotonic())
            if not ticks:
                continue
            if shown:
                self._show(partition, idle, end)
            due = idle.due(time.monotonic(), self._clock.now(steady_wall()))
            if due is not None:
                tick = Output(partition.topic, encode_traffic(Tick(due)), partition.partition)
                (offset,) = self._writer.write([tick])
                idle.wrote(due, offset, time.monotonic())
                metrics.ingest.TICKS.labels(group=group.name).inc()

    def mark(self, claims: Mapping[int, float], assigned: Collection[int], partitions: int) -> None:
        """Writes the claims about the own partitions of `interactions`, out of `partitions`, where a mark is due.

        Everything that the claims cover must be acknowledged.
        """
        if not assigned:
            return
        due = []
        for partition, idle, marks in zip(self.partitions, self._idle, self._marks, strict=True):
            last_traffic = self._clock.now(steady_wall() - time.monotonic() + idle.since)
            if marks.due(claims, assigned, last_traffic + self._rule.bound_s):
                due.append(partition)
        value = encode_traffic(Progress(dict(claims), partitions))
        offsets = self._writer.write([Output(partition.topic, value, partition.partition) for partition in due])
        for partition, offset in zip(due, offsets, strict=True):
            self._marks[partition.partition].wrote(claims)
            idle = self._idle[partition.partition]
            if offset == idle.seen:
                idle.passed(offset + 1)

    def close(self) -> None:
        """Closes the reader of partition ends."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _pass_marks(self, partition: TopicPartition, idle: IdleClock, end: int) -> None:
        """Checks whether other members only added marks, which are no traffic. Few records are read, because running
        traffic adds more."""
        most = 2 * self._config.topics.interactions_partitions
        if idle.seen < 0 or not 0 < end - idle.seen <= most:
            return
        try:
            if self._open_tail().only_marks(partition, idle.seen, end):
                idle.passed(end)
        except KafkaError as error:
            self._tail_failed(partition, error)

    def _show(self, partition: TopicPartition, idle: IdleClock, end: int) -> None:
        try:
            idle.show(self._open_tail().read(partition, end))
        except KafkaError as error:
            self._tail_failed(partition, error)

    def _open_tail(self) -> TrafficTail:
        if self._tail is None:
            self._tail = TrafficTail(self._config.kafka)
        return self._tail

    def _tail_failed(self, partition: TopicPartition, error: KafkaError) -> None:
        log.warning("the end of %s could not be read (%s); no ticks until it can", partition.topic, error)
        self.close()
