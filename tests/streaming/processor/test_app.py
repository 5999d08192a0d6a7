"""How a processor gives its groups up, without Kafka."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from streaming.config import Config
from streaming.kernel_log.errors import OwnershipLostError
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.processor import app
from streaming.processor.app import Processor
from streaming.processor.owned_group import OwnedGroup
from tests.streaming.processor.tiny_processor import OPENED, NoStore

CONFIG = Config()


async def _failed() -> OwnedGroup:
    raise OSError("its state cannot be read")


async def _loaded(owned: Any) -> OwnedGroup:
    return owned  # type: ignore[no-any-return]


async def _owning(processor: Processor, partition: int) -> None:
    processor._groups[partition] = asyncio.create_task(_loaded(object()))
    await asyncio.wait([processor._groups[partition]])


async def test_health_reports_unread_feedback_while_a_group_could_not_be_taken_over() -> None:
    processor = Processor(CONFIG, OPENED, NoStore(), TaskSupervisor())
    processor._groups[0] = asyncio.create_task(_failed())
    await asyncio.wait([processor._groups[0]])
    assert processor.check_feedback() is None


async def test_groups_are_released_concurrently(monkeypatch: pytest.MonkeyPatch) -> None:
    both = asyncio.Barrier(2)

    async def waits_for_the_other(self: Processor, owned: OwnedGroup) -> None:
        await both.wait()

    monkeypatch.setattr(Processor, "_give_up", waits_for_the_other)
    processor = Processor(CONFIG, OPENED, NoStore(), TaskSupervisor())
    for partition in (0, 1):
        await _owning(processor, partition)
    await asyncio.wait_for(processor._release({0, 1}), 60)
    assert processor._groups == {}


async def test_a_rebalance_does_not_wait_forever_for_a_hanging_group(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, ended = asyncio.Event(), asyncio.Event()

    async def hangs(self: Processor, owned: OwnedGroup) -> None:
        await go_on.wait()
        ended.set()

    monkeypatch.setattr(Processor, "_give_up", hangs)
    monkeypatch.setattr(app, "_RELEASE_S", 0.01)
    processor = Processor(CONFIG, OPENED, NoStore(), TaskSupervisor())
    await _owning(processor, 0)
    await processor._release({0})
    assert not ended.is_set()
    go_on.set()
    await ended.wait()


class _Machine:
    group = "main"


class _Owned:
    machine = _Machine()


async def test_a_group_fenced_during_release_does_not_affect_the_next_assignment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    abandoned: list[object] = []

    async def abandons(self: Processor, owned: OwnedGroup) -> None:
        abandoned.append(owned)

    monkeypatch.setattr(Processor, "_abandon", abandons)
    processor, old, new = Processor(CONFIG, OPENED, NoStore(), TaskSupervisor()), _Owned(), _Owned()
    fenced = OwnershipLostError("another processor has it")
    processor._lose(0, old, fenced)  # type: ignore[arg-type] # given up
    processor._groups[0] = asyncio.create_task(_loaded(new))
    processor._lose(0, old, fenced)  # type: ignore[arg-type] # assigned once more, and still loading
    await asyncio.wait([processor._groups[0]])
    processor._lose(0, old, fenced)  # type: ignore[arg-type] # and loaded
    assert processor.check() is None and 0 in processor._groups
    processor._lose(0, new, fenced)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert abandoned == [new] and 0 not in processor._groups


async def test_faust_does_not_call_its_unused_stream_stuck(caplog: pytest.LogCaptureFixture) -> None:
    faust_app = Processor(CONFIG, OPENED, NoStore(), TaskSupervisor()).app
    consumer = faust_app.consumer
    traffic = TP(CONFIG.topics.traffic, 0)
    waiting = SimpleNamespace(highwater=100, position=7, timestamp=time.time() * 1_000)
    assignment = SimpleNamespace(active=True, state_value=lambda _: waiting)
    subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    thread = consumer._thread
    thread._consumer = SimpleNamespace(_fetcher=SimpleNamespace(_subscriptions=subscriptions))
    thread.time_started = time.time() - 3_600
    faust_app.topics.acks_enabled_for = lambda _: True
    consumer.verify_event_path(time.time(), traffic)
    assert not caplog.records
    thread.verify_event_path(time.time(), traffic)  # what would be said
    assert "Stream has not started processing" in caplog.text
