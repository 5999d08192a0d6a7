"""A topic read to its present end on the real broker."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from streaming.clients import aiokafka_options, make_producer
from streaming.config import Config
from streaming.topic_scan import TopicScanError, scan
from streaming.topics import ensure_topics


def test_every_partition_is_read_in_its_order_or_one_alone(stream_config: Config) -> None:
    ensure_topics(stream_config)
    topic = stream_config.topics.interactions
    with make_producer(stream_config.kafka) as producer:
        for number in range(2_500):
            producer.send(topic, str(number).encode(), partition=number % 2)
        producer.flush()
    told: list[tuple[int, int]] = []
    records = list(scan(stream_config, topic, progress=lambda done, total: told.append((done, total))))
    for partition in (0, 1):
        own = [int(record.value) for record in records if record.partition == partition]
        assert own == list(range(partition, 2_500, 2))
        assert [int(record.value) for record in scan(stream_config, topic, partition)] == own
    assert told == [(1_000, 2_500), (2_000, 2_500), (2_500, 2_500)]


def test_what_a_transaction_gave_up_is_passed_over_and_its_markers_at_the_end_do_not_hold_the_scan(
    stream_config: Config,
) -> None:
    ensure_topics(stream_config)
    topic = stream_config.topics.decisions

    async def write() -> None:
        options = {**aiokafka_options(stream_config.kafka), "transactional_id": topic}
        async with AIOKafkaProducer(**options) as producer:
            async with producer.transaction():
                await producer.send(topic, b"kept")
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"given up")
            await producer.abort_transaction()

    asyncio.run(write())
    assert [record.value for record in scan(stream_config, topic)] == [b"kept"]


def test_a_topic_that_is_not_there_is_named_with_the_cure(stream_config: Config) -> None:
    with pytest.raises(TopicScanError, match=r"no topic 'nowhere'.*driftline setup"):
        list(scan(stream_config, "nowhere"))
