"""The learning thread: whatever looks at a machine does so where the machine stands still."""

from __future__ import annotations

import asyncio
import threading

from streaming.processor.learning_thread import LearningThread
from streaming.processor.machine import Learned
from tests.streaming.processor.tiny import encoded, machine, traffic


async def test_learning_and_looking_happen_on_one_thread() -> None:
    seen: set[str] = set()

    def learned(_learned: Learned, _seconds: float) -> None:
        seen.add(threading.current_thread().name)

    def cut(waiting: int) -> None:
        assert waiting >= 0
        seen.add(threading.current_thread().name)

    failures: list[BaseException] = []
    thread = LearningThread(
        machine(),
        queue_records=10,
        on_learned=learned,
        on_rows=lambda rows: None,
        on_cut=cut,
        on_failure=failures.append,
    )
    thread.start()
    for offset, value in enumerate(encoded(traffic(30))):
        await thread.put(offset, value)
    checkpoint = await thread.checkpoint()
    await thread.stop()
    assert checkpoint is not None
    assert checkpoint.next_offset == thread.machine.position
    assert seen == {"learner-main"}
    assert not failures


async def test_a_checkpoint_that_nobody_waits_for_any_more_ends_nothing() -> None:
    failures: list[BaseException] = []
    thread = LearningThread(
        machine(),
        queue_records=1_000,
        on_learned=lambda learned, seconds: None,
        on_rows=lambda rows: None,
        on_cut=lambda waiting: None,
        on_failure=failures.append,
    )
    wish = asyncio.create_task(thread.checkpoint())
    await asyncio.sleep(0)
    wish.cancel()
    await asyncio.sleep(0)
    thread.start()
    for offset, value in enumerate(encoded(traffic(10))):
        await thread.put(offset, value)
    assert await thread.checkpoint() is not None
    await thread.stop()
    assert not failures
