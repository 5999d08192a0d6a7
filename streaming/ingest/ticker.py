"""Moves event time on while no traffic comes: the idle rule on the real `traffic` topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from kafka import TopicPartition
from kafka.errors import KafkaError

from streaming.config import Config
from streaming.events import Tick, encode_traffic
from streaming.ingest.idle import IdleClock, IdleRule
from streaming.ingest.output import Output, Writer
from streaming.ingest.tail import TrafficTail
from streaming.monitoring import metrics

log = logging.getLogger(__name__)

_TO_SPARE_S = 5.0


def rule_of(config: Config) -> IdleRule:
    """The rule of this configuration: ticks end twice the join's longest wait, and 5 s, after the newest event."""
    longest = config.join.window_s + config.join.lateness_s
    interval = config.ingest.idle_tick_s
    return IdleRule(interval, 2 * longest + _TO_SPARE_S, gap_s=max(2.0, 4 * interval))


class Ticker:
    """The idle clocks of all groups. One process of the consumer group runs it at a time."""

    def __init__(self, config: Config, writer: Writer) -> None:
        rule = rule_of(config)
        self.partitions = [TopicPartition(config.topics.traffic, i) for i in range(len(config.groups))]
        self._config = config
        self._writer = writer
        self._clocks = [IdleClock(rule) for _ in self.partitions]
        self._tail: TrafficTail | None = None

    def routed(self, partition: int, newest: float) -> None:
        """Events up to this time were written to the partition."""
        self._clocks[partition].routed(newest)

    def look(self, ends: Mapping[TopicPartition, int]) -> None:
        """Looks at the end offsets of `traffic` and writes the ticks that are due."""
        for partition, clock, group in zip(self.partitions, self._clocks, self._config.groups, strict=True):
            end = ends[partition]
            if clock.look(end, time.monotonic()):
                self._show(partition, clock, end)
            due = clock.due(time.monotonic(), time.time())
            if due is not None:
                tick = Output(partition.topic, encode_traffic(Tick(due)), partition.partition)
                (offset,) = self._writer.write([tick])
                clock.wrote(due, offset, time.monotonic())
                metrics.TICKS.labels(group=group.name).inc()

    def close(self) -> None:
        """Lets the reader of the tails go."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _show(self, partition: TopicPartition, clock: IdleClock, end: int) -> None:
        try:
            if self._tail is None:
                self._tail = TrafficTail(self._config.kafka)
            clock.show(self._tail.read(partition, end))
        except KafkaError as error:
            log.warning("the end of %s could not be read (%s); no ticks until it can", partition.topic, error)
            self.close()
