"""Topics that a scorer follows, deleted and created again on the real broker."""

from __future__ import annotations

import asyncio

import pytest

from streaming.config import Config, GroupConfig
from streaming.events.decisions import Order
from streaming.kernel_log.kernels import KernelRecord
from streaming.scorer import topic_ids
from streaming.topics import ensure_topics
from tests.streaming.ingest.test_deleted_topics import delete
from tests.streaming.scorer.running_scorer import running, writer
from tests.streaming.scorer.scoring_parts import make_backbone, ordered, pinned


async def send(config: Config, *orders: KernelRecord) -> None:
    async with writer(config) as producer:
        for order in orders:
            await producer.send_and_wait(config.topics.control, order.value, key=order.key, partition=0)


async def test_an_order_at_the_beginning_of_a_recreated_topic_is_obeyed_despite_a_valid_old_position(
    stream_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_ids, "_ASK_EVERY_S", 0.2)
    config, backbone = stream_config.model_copy(update={"groups": (GroupConfig(name="main"),)}), make_backbone()
    ensure_topics(config)
    await send(config, pinned(backbone, 2))
    async with running(config, backbone) as scorer, asyncio.timeout(60):
        await scorer.ready()
        await scorer.version(2)
        await asyncio.to_thread(delete, config, config.topics.control)
        await asyncio.to_thread(ensure_topics, config)
        await send(config, pinned(backbone, 3), ordered(Order("other")))
        await scorer.version(3)
