"""Schedules requests: a large one is scored in slices, between which small ones are served (docs/decisions/0102)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

from streaming.scorer.schema import RequestRefused

T = TypeVar("T")

_ROUNDS = 5
"""Rounds of the event loop that a small request needs: accept, connect, read, decode, score."""


class RequestScheduler:
    """Runs work in slices on the event loop: work of several slices one after the other, work of one slice at once.

    Two large requests at a time would only delay each other, and each small one would wait for a slice of both.
    """

    def __init__(self, max_waiting: int) -> None:
        """`max_waiting`: candidates of large requests that may wait."""
        self._max_waiting = max_waiting
        self._waiting = 0
        self._one = asyncio.Lock()

    async def run(self, slices: Generator[None, None, T], size: int) -> T:
        """The result of `slices`, which score `size` candidates in all. Raises RequestRefused (503)."""
        try:
            next(slices)  # a single slice ends here; several pause before the first
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        if self._waiting and self._waiting + size > self._max_waiting:
            raise RequestRefused(
                "busy", f"{self._waiting} candidates of large requests wait: send this one again in a second", 503
            )
        self._waiting += size
        try:
            async with self._one:
                return await _to_the_end(slices)
        finally:
            self._waiting -= size


async def _to_the_end(slices: Generator[None, None, T]) -> T:
    while True:
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        try:
            next(slices)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
