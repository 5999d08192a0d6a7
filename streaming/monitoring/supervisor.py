"""Supervises background tasks, so that none dies unnoticed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from streaming.monitoring import metrics

log = logging.getLogger(__name__)


def end_this_process() -> None:
    """Ends this process in the regular way, by sending SIGTERM to itself."""
    os.kill(os.getpid(), signal.SIGTERM)


class TaskSupervisor:
    """Background tasks of one process. A task that dies is counted, logged, and makes the process unhealthy.

    A task dies when it raises, or when it returns before `stopping()` was called. The first death calls `on_failure`,
    by default SIGTERM to this process: the regular shut-down runs, and the process returns `exit_code`.
    """

    def __init__(self, on_failure: Callable[[], None] = end_this_process) -> None:
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._failures: dict[str, str] = {}
        self._stopping = False

    @property
    def failures(self) -> dict[str, str]:
        """The cause of each dead task, by its name."""
        return dict(self._failures)

    @property
    def exit_code(self) -> int:
        """0, or 1 once a task has died."""
        return 1 if self._failures else 0

    def check(self) -> str | None:
        """The check for `/healthz`: names the dead tasks."""
        dead = "; ".join(f"{name}: {cause}" for name, cause in self._failures.items())
        return f"background task died: {dead}" if dead else None

    def stopping(self) -> None:
        """From now on tasks may end without counting as dead."""
        self._stopping = True

    def failed(self, name: str, error: BaseException | None) -> None:
        """Records that task `name`, which runs elsewhere, died of `error` (None: it returned too early)."""
        cause = "it ended too early" if error is None else f"{type(error).__name__}: {error}"
        metrics.every_process.TASK_FAILURES.labels(task=name).inc()
        log.critical("background task %s died, this process ends: %s", name, cause, exc_info=error)
        with self._lock:
            first = not self._failures
            self._failures.setdefault(name, cause)
        if first:
            self._on_failure()

    def thread(self, name: str, target: Callable[[], object], *, daemon: bool = True) -> threading.Thread:
        """Starts `target` on a supervised thread."""
        thread = threading.Thread(target=self._run, args=(name, target), name=name, daemon=daemon)
        thread.start()
        return thread

    def _run(self, name: str, target: Callable[[], object]) -> None:
        """Runs on the thread `name`. Its end counts as a death, except after `stopping`."""
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - every error that ends the thread must be reported
            self.failed(name, error)
        else:
            if not self._stopping:
                self.failed(name, None)

    def task(self, name: str, work: Coroutine[Any, Any, object], *, lasting: bool = True) -> asyncio.Task[object]:
        """Starts `work` as a supervised task of the running loop. Cancelling it is no death.

        With `lasting` False the task has an end, and only an error counts as a death.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(lambda done: self._task_done(name, done, lasting))
        return task

    def _task_done(self, name: str, task: asyncio.Task[object], lasting: bool) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None or (lasting and not self._stopping):
            self.failed(name, error)
