"""The follower of the kernel log during a broker outage."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from model.backbone.foundation import FoundationBackbone
from streaming.kernel_log.kernels import KernelRecord
from streaming.scorer import following, kernel_follower
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.kernel_follower import KernelFollower
from tests.streaming.scorer.scoring_parts import (
    make_backbone,
    make_kernels,
    packed,
    pinned,
    record,
)


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    return make_backbone()


class Read(msgspec.Struct):
    offset: int
    key: bytes | None
    value: bytes | None


class Log:
    """Gives one record a poll, those of topic `first` before the others; poll `fails_at` raises."""

    def __init__(self, *records: KernelRecord, control: int, first: str, fails_at: int) -> None:
        topics = ["control"] * control + ["kernels"] * (len(records) - control)
        self.records = [(TopicPartition(topic, 0), record) for topic, record in zip(topics, records, strict=True)]
        self.first, self.fails_at, self.polls = first, fails_at, 0
        self.at: dict[TopicPartition, int] = {}
        self.is_replaced = asyncio.Event()

    def consumer(self, **_: object) -> Log:
        return self

    async def start(self) -> None:
        """Nothing to reach."""

    async def stop(self) -> None:
        """Nothing to leave."""

    async def replaced(self) -> str:
        """Waits until a topic was deleted and created again: once, as soon as `is_replaced` is set."""
        await self.is_replaced.wait()
        self.is_replaced.clear()
        return "control"

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.at = dict.fromkeys(partitions, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at[partition] = offset

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {wanted: len(self._of(wanted)) for wanted in partitions}

    async def position(self, partition: TopicPartition) -> int:
        return self.at[partition]

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        if self.polls == self.fails_at:
            raise KafkaError("the broker went away")
        for partition, offset in sorted(self.at.items(), key=lambda at: at[0].topic != self.first):
            if left := self._of(partition)[offset:]:
                self.at[partition] += 1
                return {partition: [Read(offset, left[0].key, left[0].value)]}
        await asyncio.sleep(0.01)
        return {}

    def _of(self, wanted: TopicPartition) -> list[KernelRecord]:
        return [found for partition, found in self.records if partition == wanted]


async def _follow(kernels: ActiveKernels, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_follower, "_RETRY_S", 0.0)
    monkeypatch.setattr(following, "AIOKafkaConsumer", log.consumer)
    follower = KernelFollower(kernels, log, topic="kernels", control="control", options={})  # type: ignore[arg-type]
    running = asyncio.create_task(follower.run())
    await follower.reached.wait()
    await asyncio.sleep(0.05)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(("first", "fails_at"), [("control", 2), ("kernels", 3)])
async def test_a_broker_outage_while_reading_the_log_loses_neither_an_order_nor_a_kernel(
    backbone: FoundationBackbone, monkeypatch: pytest.MonkeyPatch, first: str, fails_at: int
) -> None:
    kernels = make_kernels(backbone)
    records = [pinned(backbone, 3), record(packed(backbone, 5)), record(packed(backbone, 6))]
    log = Log(*records, control=1, first=first, fails_at=fails_at)
    await _follow(kernels, log, monkeypatch)
    state = kernels.state("main")
    assert (state.version, state.pinned, state.published) == (3, 3, 6)


async def test_only_the_replaced_topic_is_read_from_its_beginning(
    backbone: FoundationBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(pinned(backbone, 3), record(packed(backbone, 5)), control=1, first="control", fails_at=0)
    sought: list[tuple[str, int]] = []
    monkeypatch.setattr(log, "seek", lambda partition, offset: sought.append((partition.topic, offset)))
    running = asyncio.create_task(_follow(make_kernels(backbone), log, monkeypatch))
    while sought[2:] != [("kernels", 1), ("control", 0)]:
        log.is_replaced.set()
        await asyncio.sleep(0.01)
    await running
