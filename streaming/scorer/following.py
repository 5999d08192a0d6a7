"""Following topics for the life of a scorer; shared by both followers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_fixed


async def follow(
    options: Mapping[str, Any],
    read: Callable[[AIOKafkaConsumer], Awaitable[None]],
    failed: Callable[[str], None],
    *,
    poll_ms: int,
    retry_s: float,
    log: logging.Logger,
    errors: type[Exception] = Exception,
) -> None:
    """Passes a started consumer (read_committed, no consumer group) to `read` until it is cancelled.

    The client itself waits for a broker that goes away. Any of `errors`, from which the client does not recover, is
    passed to `failed`, and `read` gets a new client after `retry_s`; it knows from where to continue.
    """

    def note(attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome else None
        failed(f"{type(error).__name__}: {error}")
        log.warning("following the log failed (%s: %s); trying again in %.0f s", type(error).__name__, error, retry_s)

    async def once() -> None:
        consumer = AIOKafkaConsumer(
            **options,
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=poll_ms,
        )
        try:
            await consumer.start()
            await read(consumer)
        finally:
            await consumer.stop()

    await AsyncRetrying(retry=retry_if_exception_type(errors), wait=wait_fixed(retry_s), before_sleep=note)(once)
