"""Encodes new queries on a thread, one after the other: the event loop answers other requests meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from model.encoding.query import EncodedQuery
from streaming.scorer.daemon_thread import in_daemon_thread
from streaming.scorer.schema import RequestRefused

MOST_WAITING = 200
"""New queries that may wait. Each takes some ten milliseconds, so the last of them waits for seconds."""


class QueryReader:
    """Encodes one query at a time; requests with the same new query share one encoding."""

    def __init__(self, encode: Callable[[str], EncodedQuery | None]) -> None:
        """`encode` may be slow; it is never called concurrently."""
        self._encode = encode
        self._running: dict[str, asyncio.Task[EncodedQuery | None]] = {}
        self._one = asyncio.Lock()

    async def read(self, query: str) -> EncodedQuery | None:
        """The encoded query. Raises RequestRefused (503) if too many queries wait, and what `encode` raises."""
        task = self._running.get(query)
        if task is None:
            if len(self._running) >= MOST_WAITING:
                raise RequestRefused(
                    "busy", f"{len(self._running)} new queries wait: send this one again in a second", 503
                )
            task = self._running[query] = asyncio.create_task(self._on_thread(query))
        return await asyncio.shield(task)  # a client that disconnects must not cancel it for others

    async def _on_thread(self, query: str) -> EncodedQuery | None:
        try:
            async with self._one:
                return await in_daemon_thread(lambda: self._encode(query))
        finally:
            del self._running[query]
