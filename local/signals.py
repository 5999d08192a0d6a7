"""Signals that end a command, so that what it started is ended first."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLEAN_UP_S = 2.0
"""Seconds after a signal in which further ones do not cut off what it has begun to end."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end. A KeyboardInterrupt, because event loops let only that pass."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number
        """As shells have it."""


_last: int | None = None
_last_at = 0.0


def end_in_order() -> None:
    """From now on an ending signal raises Interrupted in the main thread, so that SIGTERM ends children too.

    A second signal lets what is being ended end, unless that takes longer than `CLEAN_UP_S`: then it ends the process
    at once. A signal that is ignored (nohup, a job in the background of a shell) stays ignored.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def end_at_once() -> None:
    """From now on a signal that raised Interrupted ends the process at once, without a word."""
    for number in ENDING:
        if signal.getsignal(number) in {_interrupt, _end}:
            signal.signal(number, signal.SIG_DFL)


def forget_signals() -> None:
    """Forgets a signal that has been dealt with, so that the process's next command is not taken as interrupted."""
    global _last  # noqa: PLW0603 - as in `_interrupt`
    _last = None


def ending_signal(error: BaseException) -> int | None:
    """Number of the signal that is behind `error`; None if none has come.

    A library may replace the interruption by an error of its own, as the readers of pandas do.
    """
    if isinstance(error, Interrupted):
        return error.number
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else _last


def _interrupt(number: int, _frame: FrameType | None) -> None:
    global _last, _last_at
    _last, _last_at = number, time.monotonic()
    for other in ENDING:
        if signal.getsignal(other) is _interrupt:
            signal.signal(other, _end)
    raise Interrupted(number)


def _end(number: int, _frame: FrameType | None) -> None:
    if time.monotonic() - _last_at < CLEAN_UP_S:
        return
    os.write(2, b"interrupted again: `driftline` has ended at once\n")
    os._exit(128 + number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, an ending signal raises Interrupted in the main thread."""

    with _handled(_interrupt):
        yield


@contextmanager
def hurried(hurry: Callable[[], None]) -> Iterator[None]:
    """Within it, an ending signal calls `hurry` and interrupts nothing: what is being ended is ended."""
    with _handled(lambda _number, _frame: hurry()):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in ENDING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
