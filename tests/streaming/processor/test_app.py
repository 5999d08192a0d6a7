"""How a processor gives its groups up, without Kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streaming.config import Config
from streaming.monitoring.watch import Watch
from streaming.processor import app
from streaming.processor.app import Processor
from streaming.processor.owned_group import OwnedGroup
from tests.streaming.processor.tiny_processor import OPENED, nowhere

CONFIG = Config()


async def _failed() -> OwnedGroup:
    raise OSError("its state cannot be read")


async def _loaded(owned: Any) -> OwnedGroup:
    return owned  # type: ignore[no-any-return]


async def _owning(processor: Processor, partition: int) -> None:
    processor._groups[partition] = asyncio.create_task(_loaded(object()))
    await asyncio.wait([processor._groups[partition]])


async def test_health_tells_of_feedback_while_a_group_could_not_be_taken_over() -> None:
    processor = Processor(CONFIG, OPENED, nowhere, Watch())
    processor._groups[0] = asyncio.create_task(_failed())
    await asyncio.wait([processor._groups[0]])
    assert processor.check_feedback() is None


async def test_groups_are_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both = asyncio.Barrier(2)

    async def waits_for_the_other(self: Processor, owned: OwnedGroup) -> None:
        await both.wait()

    monkeypatch.setattr(Processor, "_give_up", waits_for_the_other)
    processor = Processor(CONFIG, OPENED, nowhere, Watch())
    for partition in (0, 1):
        await _owning(processor, partition)
    await asyncio.wait_for(processor._release({0, 1}), 60)
    assert processor._groups == {}


async def test_a_rebalance_does_not_wait_for_ever_for_a_group_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, ended = asyncio.Event(), asyncio.Event()

    async def hangs(self: Processor, owned: OwnedGroup) -> None:
        await go_on.wait()
        ended.set()

    monkeypatch.setattr(Processor, "_give_up", hangs)
    monkeypatch.setattr(app, "_RELEASE_S", 0.01)
    processor = Processor(CONFIG, OPENED, nowhere, Watch())
    await _owning(processor, 0)
    await processor._release({0})
    assert not ended.is_set()
    go_on.set()
    await ended.wait()
