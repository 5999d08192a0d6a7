"""What ingest takes for the newest event of a partition, read from the real broker."""

from __future__ import annotations

import contextlib
import time

import msgspec
import pytest
from kafka import TopicPartition

from streaming.clients import make_producer
from streaming.config import Config
from streaming.events import ServedFeedback, ServedImpression, Tick, Traffic, encode_traffic
from streaming.ingest.idle import Tail
from streaming.ingest.tail import TrafficTail
from streaming.topics import ensure_topics
from tests.streaming.group.tiny import traffic

pytestmark = pytest.mark.broker


def tail_of(config: Config, values: list[bytes]) -> Tail | None:
    ensure_topics(config)
    with make_producer(config.kafka) as producer:
        for value in values:
            producer.send(config.topics.traffic, value=value, partition=0)
        producer.flush()
    with contextlib.closing(TrafficTail(config.kafka)) as tail:
        return tail.read(TopicPartition(config.topics.traffic, 0), len(values))


def late_feedback(count: int) -> list[bytes]:
    return [encode_traffic(ServedFeedback(f"main.r{n}", "i", 10.0, "click")) for n in range(count)]


def test_feedback_delayed_by_an_outage_does_not_hide_the_newest_impression(stream_config: Config) -> None:
    shown = next(record for record in traffic(1, seed=0) if isinstance(record, ServedImpression))
    values = [encode_traffic(shown), *late_feedback(600), encode_traffic(Tick(shown.time + 1))]
    assert tail_of(stream_config, values) == Tail(shown.time, shown.time + 1)


def test_only_feedback_and_no_records_are_distinguished(stream_config: Config) -> None:
    assert tail_of(stream_config, late_feedback(3)) == Tail(10.0, 10.0)


def test_with_only_ticks_there_is_no_newest_event(stream_config: Config) -> None:
    assert tail_of(stream_config, [encode_traffic(Tick(1.0))]) is None


def test_a_time_ahead_of_the_append_time_counts_as_the_append_time(stream_config: Config) -> None:
    shown = next(record for record in traffic(1, seed=0) if isinstance(record, ServedImpression))
    later = msgspec.structs.replace(shown, time=1e12)
    ahead: list[Traffic] = [Tick(1e235), ServedFeedback("main.r", "i", 1e12, "click"), later]
    before = time.time()
    found = tail_of(stream_config, [encode_traffic(record) for record in ahead])
    assert found is not None
    assert before - 1 <= found.newest <= found.reached <= time.time() + 1
