"""A topic read to its present end on the real broker."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from streaming.clients import aiokafka_options, make_producer
from streaming.config import Config
from streaming.topic_scan import TopicScanError, scan
from streaming.topics import ensure_topics


def test_all_partitions_or_a_single_one_are_read_in_order(stream_config: Config) -> None:
    ensure_topics(stream_config)
    topic = stream_config.topics.interactions
    with make_producer(stream_config.kafka) as producer:
        for number in range(2_500):
            producer.send(topic, str(number).encode(), partition=number % 2)
        producer.flush()
    progress: list[tuple[int, int]] = []
    records = list(scan(stream_config, topic, progress=lambda done, total: progress.append((done, total))))
    for partition in (0, 1):
        own = [int(record.value) for record in records if record.partition == partition]
        assert own == list(range(partition, 2_500, 2))
        assert [int(record.value) for record in scan(stream_config, topic, partition)] == own
    assert progress == [(1_000, 2_500), (2_000, 2_500), (2_500, 2_500)]


def test_aborted_transactions_are_skipped_and_their_final_markers_do_not_block_the_scan(
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


def test_a_missing_topic_is_reported_with_a_remedy(stream_config: Config) -> None:
    with pytest.raises(TopicScanError, match=r"no topic 'nowhere'.*driftline setup"):
        list(scan(stream_config, "nowhere"))
