"""Following topics for the life of a scorer; shared by both followers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_fixed

from streaming.scorer.topic_ids import TopicIds


class TopicReplacedError(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """A followed topic was deleted and created again."""


async def follow(
    options: Mapping[str, Any],
    read: Callable[[AIOKafkaConsumer], Coroutine[Any, Any, None]],
    failed: Callable[[str], None],
    *,
    ids: TopicIds,
    forget: Callable[[str], None],
    poll_ms: int,
    retry_s: float,
    log: logging.Logger,
    errors: type[Exception] = Exception,
) -> None:
    """Passes a started consumer (read_committed, no consumer group) to `read` until it is cancelled.

    The client itself waits for a broker that goes away. Any of `errors`, from which the client does not recover, is
    passed to `failed`, and `read` gets a new client after `retry_s`; it knows from where to continue. If a topic was
    deleted and created again, `forget` gets its name before, because it must be read from its beginning.
    """

    def note(attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome else None
        failed(f"{type(error).__name__}: {error}")
        log.warning("following the log failed (%s: %s); trying again in %.0f s", type(error).__name__, error, retry_s)

    retrying = AsyncRetrying(retry=retry_if_exception_type(errors), wait=wait_fixed(retry_s), before_sleep=note)
    await retrying(_follow_once, {**options, "fetch_max_wait_ms": poll_ms}, read, ids, forget)


async def _follow_once(
    options: Mapping[str, Any],
    read: Callable[[AIOKafkaConsumer], Coroutine[Any, Any, None]],
    ids: TopicIds,
    forget: Callable[[str], None],
) -> None:
    """Starts a consumer and passes it to `read`, until that is cancelled or a topic is replaced; then stops it."""
    consumer = AIOKafkaConsumer(
        **options,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        await _read_until_replaced(read(consumer), ids, forget)
    finally:
        await consumer.stop()


async def _read_until_replaced(
    reading: Coroutine[Any, Any, None], ids: TopicIds, forget: Callable[[str], None]
) -> None:
    """Awaits `reading`. Raises TopicReplacedError as soon as one of the topics is deleted and created again."""
    read, replaced = asyncio.ensure_future(reading), asyncio.ensure_future(ids.replaced())
    try:
        await asyncio.wait((read, replaced), return_when=asyncio.FIRST_COMPLETED)
        if replaced.done():
            forget(name := replaced.result())
            raise TopicReplacedError(f"topic {name!r} was deleted and created again; it is read from its beginning")
        await read
    finally:
        for task in (read, replaced):
            task.cancel()
        await asyncio.gather(read, replaced, return_exceptions=True)
