"""The learning thread: readers of a machine see it only between two records."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from features.config import LiveConfig
from streaming.events.decisions import Decision
from streaming.events.status import GroupStatus
from streaming.group.learned import Learned
from streaming.processor import learning_thread
from streaming.processor.commit import SnapshotPace
from streaming.processor.learning_thread import LearningThread, spare_collector
from tests.streaming.group.tiny import appended, encoded, machine, traffic


def thread_that_reports(
    failures: list[BaseException], published_version: int = 0, pace: SnapshotPace | None = None
) -> LearningThread:
    """A thread around a new machine of which only the failures are looked at."""
    return LearningThread(
        machine(live=LiveConfig(), first_rows=()),
        queue_records=1_000,
        pace=pace or SnapshotPace(60, 60),
        published_version=published_version,
        status_seconds=3_600,
        status=lambda: GroupStatus("main", 0.0, 0.0, 0, 0),
        on_learned=lambda learned, seconds: None,
        on_rows=lambda rows: None,
        on_cut=lambda waiting: None,
        on_failure=failures.append,
    )


async def test_learning_and_reading_the_status_happen_on_one_thread() -> None:
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


async def test_an_abandoned_snapshot_request_is_not_served() -> None:
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
    live = thread.machine.rows.all()
    assert {(row.kind, row.key) for row in taken.state.rows} == {(row.kind, row.key) for row in live}
    assert not failures


async def test_a_failed_machine_is_not_snapshotted_again() -> None:
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


def test_a_full_snapshot_is_due_soon_after_decisions_but_not_for_each_decision() -> None:
    now = 0.0
    pace = SnapshotPace(15.0, 60.0, clock=lambda: now)
    now = 3.0
    assert not pace.due
    pace.decided()
    assert pace.due
    pace.cut()
    pace.decided()
    now = 4.0
    assert not pace.due, "decisions that follow each other closely share a cut"
    now = 5.0
    assert pace.due


class CountingPace(SnapshotPace):
    """Counts its notifications."""

    heard = 0

    def decided(self) -> None:
        super().decided()
        self.heard += 1


async def test_the_snapshot_pace_is_notified_of_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[BaseException] = []
    pace = CountingPace(60, 60)
    thread = thread_that_reports(failures, pace=pace)
    decided = [Decision("held", "main", 1.0, "gate", {})]
    monkeypatch.setattr(thread.machine, "take_decisions", lambda: decided)
    thread.start()
    value = encoded(traffic(1))[0]
    await thread.put(0, value, appended(value))
    taken = await thread.cut(whole=True)  # behind the record
    await thread.stop()
    assert not failures
    assert pace.heard == 1
    assert taken is not None and taken.state is not None
    assert list(taken.state.decisions) == decided


def test_objects_of_a_re_read_are_excluded_from_garbage_collection_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learning_thread, "_SPARED_EVERY", 1)
    records = encoded(traffic(12))
    before = machine()
    for offset, value in enumerate(records[:30]):
        before.feed(offset, value, appended(value))
    after, kept = machine(), []
    after.restore(before.snapshot(), before.rows.live.rows(), {})
    while after.position < len(records):
        recovering, value = after.recovering, records[after.position]
        after.feed(after.position, value, appended(value))
        if recovering:
            spare_collector(after, after.position)
        kept.append(gc.get_freeze_count())
    assert kept[0] > 0 == kept[-1]
