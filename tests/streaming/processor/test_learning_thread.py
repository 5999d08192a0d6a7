"""The learning thread: whatever looks at a machine does so where the machine stands still."""

from __future__ import annotations

import asyncio
import threading

from features.config import LiveConfig
from streaming.events.status import GroupStatus
from streaming.processor.commit import SnapshotPace
from streaming.processor.learned import Learned
from streaming.processor.learning_thread import LearningThread
from tests.streaming.processor.tiny import appended, encoded, machine, traffic


def thread_that_reports(failures: list[BaseException], published_version: int = 0) -> LearningThread:
    """A thread around a new machine of which only the failures are looked at."""
    return LearningThread(
        machine(live=LiveConfig(), first_rows=()),
        queue_records=1_000,
        pace=SnapshotPace(60, 60),
        published_version=published_version,
        status_seconds=3_600,
        status=lambda: GroupStatus("main", 0.0, 0.0, 0, 0),
        on_learned=lambda learned, seconds: None,
        on_rows=lambda rows: None,
        on_cut=lambda waiting: None,
        on_failure=failures.append,
    )


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
        pace=SnapshotPace(60, 60),
        published_version=0,
        status_seconds=3_600,
        status=lambda: GroupStatus("main", 0.0, 0.0, 0, 0),
        on_learned=learned,
        on_rows=lambda rows: None,
        on_cut=cut,
        on_failure=failures.append,
    )
    thread.start()
    for offset, value in enumerate(encoded(traffic(30))):
        await thread.put(offset, value, appended(value))
    taken = await thread.cut(whole=True)
    await thread.stop()
    assert taken is not None
    assert taken.state is not None
    assert taken.state.snapshot.next_offset == thread.machine.position
    assert seen == {"learner-main"}
    assert not failures


async def test_a_cut_that_nobody_waits_for_any_more_is_not_taken() -> None:
    failures: list[BaseException] = []
    thread = thread_that_reports(failures)
    records = encoded(traffic(30))
    for offset, value in enumerate(records[:-2]):
        await thread.put(offset, value, appended(value))
    waiting = asyncio.create_task(thread.cut(whole=True))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    thread.start()
    for offset, value in enumerate(records[-2:], len(records) - 2):
        await thread.put(offset, value, appended(value))
    taken = await thread.cut(whole=True)
    await thread.stop()
    assert taken is not None
    assert taken.state is not None
    live = thread.machine.live.rows()
    assert {(row.kind, row.key) for row in taken.state.rows} == {(row.kind, row.key) for row in live}
    assert not failures


async def test_a_machine_that_raised_is_not_cut_again() -> None:
    failures: list[BaseException] = []
    thread = thread_that_reports(failures)
    thread.start()
    for offset, value in enumerate(encoded(traffic(10))):
        await thread.put(offset, value, appended(value))
    await thread.put("no offset", b"", 0.0)  # type: ignore[arg-type]
    assert await thread.cut(whole=True) is None
    await thread.stop()
    assert await thread.cut(whole=True) is None
    assert [type(failure) for failure in failures] == [TypeError]
