"""A scorer that runs on the real broker, and what is written to and read from its topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from model.backbone.foundation import FoundationBackbone
from streaming.clients import aiokafka_options
from streaming.config import Config
from streaming.events import ServedImpression, decode_traffic
from streaming.kernel_log.keys import kernel_key
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.scorer.app import make_app
from streaming.scorer.service import ScorerService
from tests.streaming.scorer.scoring_parts import (
    make_kernels,
    make_scorer,
)

ITEMS = [f"item-{i}" for i in range(10)]


ASK = {"user_id": "user-1", "candidates": ITEMS, "domain": {"scene": "home", "period": "day"}}


class Running:
    """A scorer that has been started, and a client of it."""

    def __init__(
        self, service: ScorerService, client: httpx.AsyncClient, supervisor: TaskSupervisor, died: asyncio.Event
    ) -> None:
        self.service, self.client, self.supervisor, self.died = service, client, supervisor, died

    async def ready(self) -> None:
        await self.until(lambda: not self.service.missing())

    async def version(self, version: int) -> None:
        await self.until(lambda: self.service.kernels().current[0].version == version)

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            assert not self.supervisor.failures
            await asyncio.sleep(0.01)

    async def score(self, **changes: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/score", json={**ASK, **changes})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


@asynccontextmanager
async def running(
    config: Config, backbone: FoundationBackbone, wall: Callable[[], float] = time.time
) -> AsyncIterator[Running]:
    died = asyncio.Event()
    supervisor = TaskSupervisor(died.set)
    kernels = make_kernels(backbone)
    kernels.clock = time.time
    scorer = make_scorer(backbone, kernels, live_arm=config.scorer.live_arm, exploration=config.scorer.exploration)
    service = ScorerService(config, scorer, kernels, supervisor, wall=wall)
    transport = httpx.ASGITransport(make_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://scorer") as client:
        await service.start()
        try:
            yield Running(service, client, supervisor, died)
        finally:
            await service.stop()


@asynccontextmanager
async def writer(config: Config, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**aiokafka_options(config.kafka), acks="all", **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def publish(config: Config, *values: bytes) -> None:
    async with writer(config) as producer:
        for value in values:
            await producer.send_and_wait(config.topics.kernels, value, key=kernel_key("main"), partition=0)


async def read(config: Config, topic: str, count: int, partitions: int = 1) -> list[bytes]:
    """The first `count` values of a topic with `partitions`, waiting for them."""
    consumer = AIOKafkaConsumer(**aiokafka_options(config.kafka), auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(partitions)])
        values: list[bytes] = []
        while len(values) < count:
            values.extend([(await consumer.getone()).value])
        return values
    finally:
        await consumer.stop()


async def read_impressions(config: Config, count: int) -> list[ServedImpression]:
    """The first `count` impressions of `traffic`: behind the tick that asks the broker's time."""
    records = [decode_traffic(value) for value in await read(config, config.topics.traffic, count + 1)]
    return [record for record in records if isinstance(record, ServedImpression)]
