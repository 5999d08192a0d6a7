"""What ingest writes to Kafka: all of a batch, or it says so and tries again."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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

from streaming.clients import make_producer
from streaming.config import KafkaConfig

log = logging.getLogger(__name__)

_FLUSH_S = 1.0
_SAY_EVERY_S = 3.0

_HOPELESS = (
    AuthorizationError,
    InvalidRecordError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)
"""All else, sequence numbers out of step after a crash of the broker included, a new producer mends."""

Headers = Sequence[tuple[str, bytes]]


class OutputRefusedError(Exception):
    """Kafka refuses what ingest writes, and trying again would not help."""


@dataclass(frozen=True)
class Output:
    """One record to write."""

    topic: str
    value: bytes
    partition: int | None = None
    key: bytes | None = None
    headers: Headers = ()


class StoppedError(Exception):
    """The process was asked to end while it waited; nothing was committed, so nothing is lost."""


class Writer:
    """An idempotent producer that outlives broker restarts; one batch at a time."""

    def __init__(self, config: KafkaConfig, stopping: Callable[[], bool]) -> None:
        self._config = config
        self._stopping = stopping
        self._producer: KafkaProducer | None = None

    def write(self, outputs: Sequence[Output]) -> list[int]:
        """Writes all of them and gives their offsets once every one is acknowledged.

        Waits while the broker is away; after a failure the whole batch is sent again, so records may stand twice.
        Raises OutputRefusedError or StoppedError.
        """
        if not outputs:
            return []
        while True:
            try:
                return self._try(outputs)
            except KafkaError as error:
                if isinstance(error, _HOPELESS):
                    raise OutputRefusedError(
                        f"Kafka refused a record for {sorted({output.topic for output in outputs})}"
                        f" ({type(error).__name__}: {error}); check the rights of the user and the topic's limits."
                        " Nothing was committed: ingest goes on with the same records when it is started again"
                    ) from error
                log.warning("writing %d records failed (%s); sending them again", len(outputs), error)
                self.close(0)
                self._wait(1.0)

    def close(self, timeout_s: float = 5.0) -> None:
        """Lets the producer go."""
        if self._producer is not None:
            with contextlib.suppress(KafkaError):
                self._producer.close(timeout=timeout_s)
            self._producer = None

    def _try(self, outputs: Sequence[Output]) -> list[int]:
        if self._producer is None:
            self._producer = make_producer(self._config)
        producer = self._producer
        sent = [producer.send(out.topic, out.value, out.key, list(out.headers), out.partition) for out in outputs]
        away_s = self._flush(producer)
        offsets = [future.get(timeout=0).offset for future in sent]
        if away_s:
            log.warning("Kafka is back after %.0f s", away_s)
        return offsets

    def _flush(self, producer: KafkaProducer) -> float:
        """Waits for all that was sent; gives how long if that was worth a word, else 0."""
        began = said = time.monotonic()
        while True:
            try:
                producer.flush(timeout=_FLUSH_S)
                return time.monotonic() - began if said > began else 0.0
            except KafkaTimeoutError:
                now = time.monotonic()
                if now - said >= _SAY_EVERY_S:
                    said = now
                    log.warning(
                        "Kafka on %s has not taken the last batch for %.0f s", self._config.bootstrap, now - began
                    )
            if self._stopping():
                self.close(0)
                raise StoppedError

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)
        if self._stopping():
            raise StoppedError
