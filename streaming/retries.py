"""Retrying until success, in the same way everywhere (with tenacity).

A retry reports what it waits for, in the log and in `/healthz`, and ends at once when the process is told to stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

log = logging.getLogger(__name__)

T = TypeVar("T")


class StoppedError(Exception):
    """The process was told to stop while it waited. Nothing was committed, so nothing is lost."""


class Throttle:
    """Limits something, such as a log message, to once in `every_s` seconds."""

    def __init__(self, every_s: float, *, at_once: bool = True) -> None:
        """With `at_once` False the first one must wait, too."""
        self._every_s = every_s
        self._last = float("-inf") if at_once else time.monotonic()

    def due(self) -> bool:
        """Whether the time is over; if so, it starts again."""
        now = time.monotonic()
        if now - self._last < self._every_s:
            return False
        self._last = now
        return True


def stoppable_sleep(stopping: threading.Event) -> Callable[[float], None]:
    """A sleep for tenacity that raises StoppedError as soon as `stopping` is set."""

    def sleep(seconds: float) -> None:
        if stopping.wait(seconds):
            raise StoppedError

    return sleep


class Retrier:
    """Runs a step until it succeeds, with growing pauses. One step at a time."""

    def __init__(self, stopping: threading.Event, *, first_s: float = 0.2, longest_s: float = 10.0) -> None:
        """Pauses start at `first_s`, double, and are at most `longest_s`."""
        self._sleep = stoppable_sleep(stopping)
        self._wait = wait_exponential(multiplier=first_s, max=longest_s)
        self._problem: str | None = None

    def until_done(
        self, purpose: str, step: Callable[[], T], *, transient: tuple[type[Exception], ...] = (Exception,)
    ) -> T:
        """Returns the result of `step`. After a `transient` error, which is logged, the step is tried again.

        Raises any other error, and StoppedError when the process is told to stop between two attempts.
        """

        def passes(error: BaseException) -> bool:
            return isinstance(error, transient) and not isinstance(error, StoppedError)

        note = partial(self._note, purpose)
        retrying = Retrying(retry=retry_if_exception(passes), wait=self._wait, sleep=self._sleep, before_sleep=note)
        try:
            result = retrying(step)
        except StoppedError:
            raise
        except Exception:
            self._problem = None
            raise
        self._problem = None
        return result

    def _note(self, purpose: str, state: RetryCallState) -> None:
        """Logs the error of an attempt, and keeps it for `check`."""
        assert state.outcome is not None
        error = state.outcome.exception()
        waited = state.seconds_since_start or 0.0
        self._problem = f"{purpose} failing for {waited:.0f} s: {type(error).__name__}: {error}"
        log.warning("%s; trying again in %.1f s, nothing is skipped", self._problem, state.upcoming_sleep)

    def check(self) -> str | None:
        """The check for `/healthz`: what is being retried; None if nothing is."""
        return self._problem
