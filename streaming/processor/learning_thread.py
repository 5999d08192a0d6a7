"""Runs one group's machine on a thread of its own, so that the event loop keeps its heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from features.live.features import LiveRow
from model.kernel.record import pack_kernel
from streaming.processor.kernel_log import Commit, rows_to_records
from streaming.processor.machine import GroupMachine, Learned
from streaming.processor.snapshots import encode_snapshot

_FULL_PAUSE_S = 0.002


@dataclass(frozen=True)
class Checkpoint:
    """A consistent cut through a group: what to commit, and where a successor would begin to read."""

    commit: Commit
    next_offset: int
    resume_offset: int


Item = tuple[int, bytes] | Future[Checkpoint | None]


def _answer(wish: Future[Checkpoint | None], checkpoint: Checkpoint | None) -> None:
    if wish.set_running_or_notify_cancel():
        wish.set_result(checkpoint)


class LearningThread:
    """Feeds records to a machine in their order and cuts checkpoints between two records.

    All calls come on the thread, where the machine stands still: `on_learned` and `on_rows` after every micro-batch,
    `on_cut` before every checkpoint that was asked for, `on_failure` when the machine raised.
    """

    def __init__(
        self,
        machine: GroupMachine,
        *,
        queue_records: int,
        on_learned: Callable[[Learned, float], None],
        on_rows: Callable[[Sequence[LiveRow]], None],
        on_cut: Callable[[int], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.machine = machine
        self._queue: queue.Queue[Item | None] = queue.Queue(maxsize=queue_records)
        self._on_learned, self._on_rows, self._on_cut, self._on_failure = on_learned, on_rows, on_cut, on_failure
        self._rows: dict[tuple[str, str], LiveRow] = {}
        self._committed_position = -1
        self._committed_version = 0
        self._thread = threading.Thread(target=self._run, name=f"learner-{machine.group}", daemon=True)
        self._ending = False

    def start(self) -> None:
        """Begins to work through the queue."""
        self._committed_version = self.machine.version
        self._thread.start()

    async def put(self, offset: int, value: bytes) -> None:
        """Hands over a record; waits while the queue is full, which pauses the reading."""
        await self._put((offset, value))

    async def checkpoint(self) -> Checkpoint | None:
        """A cut behind the records handed over so far; None if there is nothing new, or the thread has ended.

        A cut that was taken must be committed before the next one: it holds the rows that changed since the last.
        """
        wish: Future[Checkpoint | None] = Future()
        await self._put(wish)
        return await asyncio.wrap_future(wish)

    async def _put(self, item: Item) -> None:
        while not self._ending:
            try:
                return self._queue.put_nowait(item)
            except queue.Full:
                await asyncio.sleep(_FULL_PAUSE_S)
        if isinstance(item, Future):
            _answer(item, None)
        return None

    async def stop(self) -> Checkpoint | None:
        """Ends after the record in hand, drops the rest of the queue (the log has it), and gives the last cut."""
        self._ending = True
        self._drain()
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            await asyncio.to_thread(self._thread.join)
        return self._cut()

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, Future):
                    _answer(item, None)

    def _run(self) -> None:
        torch.set_num_threads(1)
        try:
            while not self._ending:
                item = self._queue.get()
                if item is None:
                    return
                if isinstance(item, Future):
                    self._on_cut(self._queue.qsize())
                    _answer(item, self._cut())
                else:
                    self._feed(*item)
        except BaseException as error:  # noqa: BLE001 - reported: the process ends by it
            self._ending = True
            self._on_failure(error)
        finally:
            self._drain()

    def _feed(self, offset: int, value: bytes) -> None:
        began = time.perf_counter()
        learned = self.machine.feed(offset, value)
        if not learned:
            return
        seconds = (time.perf_counter() - began) / len(learned)
        rows = self.machine.live.take_changed()
        self._rows.update({(row.kind, row.key): row for row in rows})
        self._on_rows(rows)
        for one in learned:
            self._on_learned(one, seconds)

    def _cut(self) -> Checkpoint | None:
        machine = self.machine
        if machine.recovering or machine.position in (0, self._committed_position):
            return None
        snapshot = machine.snapshot()
        published = machine.published
        fresh = published is not None and published.info.version > self._committed_version
        kernel = pack_kernel(published.kernel, published.info) if fresh and published is not None else None
        rows, self._rows = list(self._rows.values()), {}
        self._committed_position, self._committed_version = machine.position, machine.version
        commit = Commit(kernel, encode_snapshot(snapshot), rows_to_records(machine.group, rows))
        return Checkpoint(commit, snapshot.next_offset, snapshot.resume_offset)
