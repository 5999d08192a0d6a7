"""Signals that end the demo, so that what it started is ended first."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked the demo to end. A KeyboardInterrupt, because event loops let only that pass."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        """As shells have it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, an ending signal raises Interrupted in the main thread."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handled(interrupt):
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
