"""Reading records again by their offset, on the real broker."""

from __future__ import annotations

import time

import pytest
from kafka import TopicPartition

from streaming.clients import make_admin, make_producer
from streaming.config import Config
from streaming.processor.partition_reader import PartitionReader
from streaming.topics import ensure_topics

pytestmark = pytest.mark.broker


def test_records_are_read_by_offset_in_any_order_and_expired_ones_are_none(stream_config: Config) -> None:
    ensure_topics(stream_config)
    began, topic = time.time(), stream_config.topics.traffic
    with make_producer(stream_config.kafka) as producer:
        for number in range(2_000):
            producer.send(topic, value=b"%d" % number, partition=0)
        producer.flush()
    reader = PartitionReader(stream_config, 0)
    for offset in (1_999, 0, 1_200, 1_201, 7):
        record = reader.read(offset)
        assert record is not None
        assert record.value == b"%d" % offset
        assert began - 60 < record.appended < time.time() + 60, "seconds, by the broker's clock"
    assert reader.read(2_000) is None, "it has not come yet"
    with make_admin(stream_config.kafka) as admin:
        admin.delete_records({TopicPartition(topic, 0): 1_000})
    again = PartitionReader(stream_config, 0)
    assert again.read(999) is None, "retention has taken it"
    assert again.read(1_000) is not None
    reader.close()
    again.close()
