"""The scorer's producer, replaced by a new one when the library cannot repair it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from tenacity import before_sleep_log, retry, retry_if_exception_type, wait_fixed

_RETRY_S = 1.0
_STOP_S = 5.0

log = logging.getLogger(__name__)


class RestartingProducer:
    """An idempotent producer (acks=all) that survives broker restarts and fatal errors of the library
    (docs/decisions/0044).

    The library itself retries what can be retried. Errors that it cannot repair (sequence numbers that do not match, a
    dead sender task) end the producer, and the next `get` starts another one.
    """

    def __init__(self, options: Mapping[str, Any], *, max_bytes: int) -> None:
        """`options` are aiokafka's connection options, `max_bytes` the largest record."""
        self._options = dict(options)
        self._max_bytes = max_bytes
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    async def get(self) -> AIOKafkaProducer:
        """The started producer. Waits for the broker as long as needed. Raises RuntimeError after `stop`."""
        if self._producer is not None:
            return self._producer
        async with self._lock:
            if self._producer is None:
                self._producer = await self._start()
        return self._producer

    def running(self) -> AIOKafkaProducer | None:
        """The producer if it is started; does not wait."""
        return self._producer

    async def replace(self, broken: AIOKafkaProducer) -> None:
        """Discards `broken`, if it is still in use."""
        async with self._lock:
            if self._producer is not broken:
                return
            self._producer = None
        log.warning("the producer cannot be repaired: a new one is started")
        await _stop(broken)

    async def stop(self) -> None:
        """Stops the producer; unacknowledged records get five seconds."""
        self._closed = True
        async with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    @retry(
        retry=retry_if_exception_type(KafkaError),
        wait=wait_fixed(_RETRY_S),
        before_sleep=before_sleep_log(log, logging.WARNING),
    )
    async def _start(self) -> AIOKafkaProducer:
        """Raises RuntimeError after `stop`, and KafkaError, after which no half-started producer is left."""
        if self._closed:
            raise RuntimeError("the producer has been stopped")
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=256 * 1024,
            max_request_size=self._max_bytes,
        )
        try:
            await producer.start()
        except KafkaError:
            await _stop(producer)
            raise
        return producer


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stops a producer within seconds; the library itself would wait for an absent broker without limit."""
    stopping = asyncio.create_task(producer.stop())
    done, _ = await asyncio.wait([stopping], timeout=_STOP_S)
    if not done:
        stopping.cancel()
        # Cancelling `stop` leaves the library's sender task alive, which has no public way to end without a flush.
        ending = asyncio.create_task(producer._sender.close())
        await asyncio.wait([ending], timeout=_STOP_S)
        await producer.client.close()
    await asyncio.gather(stopping, return_exceptions=True)
