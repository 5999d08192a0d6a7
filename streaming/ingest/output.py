"""Ingest's writes to Kafka: a whole batch, repeated until it is acknowledged."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    AuthorizationError,
    InvalidRecordError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)
from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_exception_type, wait_fixed

from streaming.broker_clock import BrokerClock, steady_wall
from streaming.clients import make_producer
from streaming.config import Config
from streaming.ingest.kafka_health import KafkaHealth
from streaming.retries import StoppedError, Throttle, stoppable_sleep

log = logging.getLogger(__name__)

_FLUSH_S = 1.0
_RETRY_S = 1.0
_LOG_EVERY_S = 3.0
_MAX_BLOCK_MS = 2_000
"""Longest wait of one record for a topic's metadata, during which the process does not notice that it should end."""

_OF_ALL = (
    AuthorizationError,
    InvalidTopicError,
    PolicyViolationError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)
"""Errors that affect every record."""
_OF_ONE = (InvalidRecordError, MessageSizeTooLargeError, RecordListTooLargeError)
"""Errors that affect one record only. A new producer mends all other errors, including sequence numbers that no longer
match after a crash of the broker."""

Headers = Sequence[tuple[str, bytes]]


class OutputRefusedError(Exception):
    """Kafka refuses what ingest writes, and retrying would not help."""


class RecordRefusedError(Exception):
    """A record of the batch cannot be written, but others may be. The cause is a KafkaError if Kafka refused it."""


@dataclass(frozen=True)
class Output:
    """One record to write."""

    topic: str
    value: bytes
    partition: int | None = None
    key: bytes | None = None
    headers: Headers = ()


class Writer:
    """An idempotent producer that survives broker restarts; it writes one batch at a time."""

    def __init__(self, config: Config, stopping: threading.Event, kafka: KafkaHealth, clock: BrokerClock) -> None:
        """`kafka` is notified of every write that fails, takes long or succeeds.

        `clock` is told when records of `traffic` were sent, appended and acknowledged.
        """
        self._config = config.kafka
        self._traffic = config.topics.traffic
        self._clock = clock
        self._sleep = stoppable_sleep(stopping)
        self._kafka = kafka
        self._producer: KafkaProducer | None = None

    def write(self, outputs: Sequence[Output]) -> list[int]:
        """Writes all records and returns their offsets after every one is acknowledged.

        Waits while the broker is away. After a failure the whole batch is sent again, so records may be duplicated.
        Raises OutputRefusedError, RecordRefusedError (some records may then be written) or StoppedError. Errors of this
        program, or for lack of memory, are passed on, so that they do not turn the stream into dead letters.
        """
        if not outputs:
            return []
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_fixed(_RETRY_S),
            sleep=self._sleep,
            before_sleep=lambda state: self._start_over(state, len(outputs)),
        )
        try:
            return retrying(self._send, outputs)
        except _OF_ALL as error:
            raise OutputRefusedError(
                f"Kafka refused a record for {sorted({output.topic for output in outputs})}"
                f" ({type(error).__name__}: {error}); check the rights of the user and the topic's limits."
                " Nothing was committed: ingest goes on with the same records when it is started again"
            ) from error
        except _OF_ONE as error:
            self.close(0)
            raise _refused(error) from error
        except RecordRefusedError:
            self.close(0)
            raise

    def close(self, timeout_s: float = 5.0) -> None:
        """Closes the producer."""
        if self._producer is not None:
            with contextlib.suppress(KafkaError):
                self._producer.close(timeout=timeout_s)
            self._producer = None

    def _start_over(self, state: RetryCallState, records: int) -> None:
        """Makes a new producer send the whole batch, because a failed one may have sent only some records."""
        error = state.outcome.exception() if state.outcome is not None else None
        log.warning("writing %d records failed (%s); sending them again", records, error)
        self._kafka.failed(error)
        self.close(0)

    def _send(self, outputs: Sequence[Output]) -> list[int]:
        """Offsets of the outputs, once the broker has all of them; its answers also tell the broker's clock."""
        if self._producer is None:
            self._producer = make_producer(self._config, max_block_ms=_MAX_BLOCK_MS)
        producer = self._producer
        began = steady_wall()
        own_ms = int(began * 1_000)  # in a topic with senders' times, the stamp is ours and teaches the clock nothing
        sent = [_send_one(producer, output, own_ms) for output in outputs]
        self._flush(producer)
        written = [future.get(timeout=0) for future in sent]
        self._kafka.answered()
        for metadata in written:
            if metadata.topic == self._traffic:
                self._clock.acknowledged(began, steady_wall(), metadata.timestamp / 1_000)
        return [metadata.offset for metadata in written]

    def _flush(self, producer: KafkaProducer) -> None:
        """Waits until all sent records are acknowledged or failed, because sending again earlier would duplicate
        them."""
        began = time.monotonic()
        throttle = Throttle(_LOG_EVERY_S, at_once=False)

        def note(_: RetryCallState) -> None:
            if throttle.due():
                self._kafka.failed(f"the last batch has waited for {time.monotonic() - began:.0f} s")

        retrying = Retrying(retry=retry_if_exception_type(KafkaTimeoutError), sleep=self._sleep, before_sleep=note)
        try:
            retrying(producer.flush, timeout=_FLUSH_S)
        except StoppedError:
            self.close(0)
            raise


def _refused(error: Exception) -> RecordRefusedError:
    return RecordRefusedError(f"a record cannot be written ({type(error).__name__}: {error})")


def _send_one(producer: KafkaProducer, out: Output, own_ms: int) -> Any:
    try:
        return producer.send(out.topic, out.value, out.key, list(out.headers), out.partition, own_ms)
    except (KafkaError, MemoryError):
        raise
    except Exception as error:
        raise _refused(error) from error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, KafkaError) and not isinstance(error, _OF_ALL + _OF_ONE)
