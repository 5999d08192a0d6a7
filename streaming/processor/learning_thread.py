"""Runs one group's machine on a thread of its own, so that the event loop keeps its heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch

from features.live.features import LiveRow
from streaming.events.decisions import Decision
from streaming.events.status import GroupStatus
from streaming.group.learned import Learned, PublishedKernel
from streaming.group.machine import GroupMachine
from streaming.processor.commit import Cut, CutState, SnapshotPace
from streaming.processor.drift_metrics import count_decision

_SPARED_EVERY = 4_096
_FULL_PAUSE_S = 0.002

CutRequest = Future[Cut | None]
Item = tuple[int, bytes | None, float] | CutRequest


def spare_collector(machine: GroupMachine, offset: int) -> None:
    """Exempts the objects that a re-read makes from garbage collection until the re-read ends.

    They are many and none of them is garbage, so scanning them repeatedly would take longer than making them
    (docs/decisions/0146).
    """
    if not machine.recovering:
        gc.unfreeze()
    elif offset % _SPARED_EVERY == 0:
        gc.freeze()


class LearningThread:
    """Feeds records to a machine in order, and takes cuts between two records.

    `published_version` is the newest version in the kernel log. A machine that learns records again publishes no
    version up to it, so that scorers never go back.

    All callbacks run on this thread while the machine stands still: `on_learned` and `on_rows` after every micro-batch,
    `on_cut` before every requested cut, `on_failure` when the machine raised, and `status` every `status_seconds` while
    records come.
    """

    def __init__(
        self,
        machine: GroupMachine,
        *,
        queue_records: int,
        pace: SnapshotPace,
        published_version: int,
        status_seconds: float,
        status: Callable[[], GroupStatus],
        on_learned: Callable[[Learned, float], None],
        on_rows: Callable[[Sequence[LiveRow]], None],
        on_cut: Callable[[int], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.machine = machine
        self._pace = pace
        self._queue: queue.Queue[Item | None] = queue.Queue(maxsize=queue_records)
        self._on_learned, self._on_rows, self._on_cut, self._on_failure = on_learned, on_rows, on_cut, on_failure
        self._rows: dict[tuple[str, str], LiveRow] = {}
        self._decisions: list[Decision] = []
        self._status_seconds, self._take_status = status_seconds, status
        self._status: GroupStatus | None = None
        self._looked_at = -math.inf
        self._cut_position = -1
        self._cut_version = max(published_version, machine.publisher.version)
        self._thread = threading.Thread(target=self._run, name=f"learner-{machine.group}", daemon=True)
        self._ending = False
        self._ended = False
        self._failed = False

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    async def put(self, offset: int, value: bytes | None, appended: float) -> None:
        """Adds a record to the queue; `appended` is its append time at the broker, seconds.

        Waits while the queue is full, which pauses the reading.
        """
        await self._put((offset, value, appended))

    async def cut(self, *, whole: bool) -> Cut | None:
        """Takes a whole cut after all records added so far, or after the last one fed if the thread has ended.

        With `whole` False, returns the newest kernel and status at once, or None if neither is new. A whole cut is None
        if nothing is new, or if the machine raised, because its half-changed state must not be stored. A cut that was
        taken must be committed before the next one, because it holds the rows changed since the last.
        """
        if not whole:
            kernel, status = self._fresh_kernel(), self._fresh_status()
            return Cut(kernel, None, status) if kernel is not None or status is not None else None
        if self._ended:
            return self._take_cut()
        request: CutRequest = Future()
        await self._put(request)
        return await asyncio.wrap_future(request)

    async def _put(self, item: Item) -> None:
        while not self._ending:
            try:
                return self._queue.put_nowait(item)
            except queue.Full:
                await asyncio.sleep(_FULL_PAUSE_S)
        self._refuse(item)
        return None

    async def stop(self) -> None:
        """Ends after the present record and drops the rest of the queue, which the log still has."""
        self._ending = True
        self._drain()
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            await asyncio.to_thread(self._thread.join)
        self._ended = True

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._refuse(self._queue.get_nowait())

    @staticmethod
    def _refuse(item: Item | None) -> None:
        if isinstance(item, Future) and item.set_running_or_notify_cancel():
            item.set_result(None)

    def _run(self) -> None:
        torch.set_num_threads(1)
        try:
            while not self._ending:
                item = self._queue.get()
                if item is None:
                    return
                if isinstance(item, Future):
                    self._answer(item)
                else:
                    self._feed(*item)
        except BaseException as error:  # noqa: BLE001 - reported, which ends the process
            self._ending = self._failed = True
            self._on_failure(error)
        finally:
            gc.unfreeze()
            self._drain()

    def _answer(self, request: CutRequest) -> None:
        if request.set_running_or_notify_cancel():  # a cut without a receiver would lose the rows in it
            self._on_cut(self._queue.qsize())
            request.set_result(self._take_cut())

    def _feed(self, offset: int, value: bytes | None, appended: float) -> None:
        began = time.perf_counter()
        recovering = self.machine.recovering
        learned = self.machine.feed(offset, value, appended)
        if recovering:
            spare_collector(self.machine, offset)
        self._pace.learned(time.perf_counter() - began)
        decided = self.machine.take_decisions()
        self._decisions.extend(decided)
        for decision in decided:
            count_decision(decision)
            self._pace.decided()
        self._look()
        if not learned:
            return
        seconds = (time.perf_counter() - began) / len(learned)
        self._take_rows()
        for result in learned:
            self._on_learned(result, seconds)

    def _look(self) -> None:
        if time.monotonic() - self._looked_at >= self._status_seconds and not self.machine.recovering:
            self._status, self._looked_at = self._take_status(), time.monotonic()

    def _fresh_status(self) -> GroupStatus | None:
        status, self._status = self._status, None
        return status

    def _take_rows(self) -> None:
        rows = self.machine.rows.take_changed()
        self._rows.update({(row.kind, row.key): row for row in rows})
        self._on_rows(rows)

    def _take_cut(self) -> Cut | None:
        machine = self.machine
        if self._failed or machine.recovering or machine.position in (0, self._cut_position):
            return None
        self._take_rows()  # rows changed by corrections after the last micro-batch
        rows, self._rows = list(self._rows.values()), {}
        decisions, self._decisions = self._decisions, []
        closed = machine.take_closed()  # before the snapshot, which holds the number of segments
        kept, snapshot = machine.take_checkpoints(), machine.snapshot()
        state = CutState(snapshot, rows, machine.rows_offset, machine.first_keys, closed, decisions, kept)
        self._cut_position = machine.position
        self._pace.cut()
        return Cut(self._fresh_kernel(), state, self._fresh_status())

    def _fresh_kernel(self) -> PublishedKernel | None:
        """The newest kernel if no cut has it yet. Cuts are requested one after the other, never from two threads."""
        published = self.machine.publisher.published
        if published is None or published.info.version <= self._cut_version:
            return None
        self._cut_version = published.info.version
        return published
