"""Makes the dead letter of a refused record: its origin, its bytes and the cure."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import msgspec

from streaming.config import Config
from streaming.events import CURES, DeadLetter, RefusedError
from streaming.ingest.output import Output
from streaming.ingest.reader import UnreadableBatch
from streaming.monitoring import metrics
from streaming.retries import Throttle
from streaming.topics import DEAD_LETTER_BYTES

log = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0
_MOST_KEPT = 16 * 1024
"""Largest size of key and headers that are kept in a letter, bytes."""


class DeadLetterWriter:
    """Makes the letters of one lane, counts them, and logs the most frequent reasons."""

    def __init__(self, config: Config) -> None:
        self._topic = config.topics.dead_letters
        self._throttle = Throttle(_LOG_EVERY_S)
        self._unlogged: Counter[str] = Counter()
        for reason in CURES:  # at zero, so that Prometheus sees the first one as an increase
            metrics.ingest.DEAD_LETTERS.labels(reason=reason)

    def of(self, record: Any, refusal: RefusedError, now: float, attempts: int = 1) -> Output:
        """The letter for a record of kafka-python; `now` is the time of the refusal, seconds."""
        value, detail = record.value or b"", refusal.detail
        key, headers = record.key, tuple(record.headers or ())
        kept = len(key or b"") + sum(len(name) + len(text or b"") for name, text in headers)
        if kept > _MOST_KEPT:
            detail += f"; its key and headers of {kept} bytes are too large for a dead letter, read them in the topic"
            key, headers = None, ()
        letter = DeadLetter(
            refusal.reason, detail, record.topic, record.partition, record.offset, now, attempts, value,
            CURES[refusal.reason],
        )  # fmt: skip
        data = msgspec.json.encode(letter)
        if len(data) > DEAD_LETTER_BYTES - _MOST_KEPT - 1_024:
            detail += f"; its {len(value)} bytes are too large for a dead letter, read them in the topic"
            data = msgspec.json.encode(msgspec.structs.replace(letter, detail=detail, value=b""))
        return Output(self._topic, data, None, key, headers)

    def of_batch(self, batch: UnreadableBatch, now: float) -> Output:
        """The letter for records that cannot be unpacked: their position, and the error."""
        detail = (
            f"records {batch.offset} to {batch.next_offset - 1} cannot be unpacked"
            f" ({type(batch.error).__name__}: {batch.error})"
        )
        letter = DeadLetter(
            "unreadable", detail, batch.topic, batch.partition, batch.offset, now, 1, b"", CURES["unreadable"]
        )
        return Output(self._topic, msgspec.json.encode(letter))

    def bare(self, record: Any, refusal: RefusedError, now: float) -> Output:
        """A letter without the record, for a record that Kafka refuses even in a letter."""
        detail = f"{refusal.detail}; Kafka refused the record even in a dead letter, read it in the topic"
        letter = DeadLetter(
            refusal.reason, detail, record.topic, record.partition, record.offset, now, 1, b"", CURES[refusal.reason]
        )
        return Output(self._topic, msgspec.json.encode(letter))

    def count(self, reasons: Counter[str]) -> None:
        """Counts written letters by reason."""
        for reason, number in reasons.items():
            metrics.ingest.DEAD_LETTERS.labels(reason=reason).inc(number)
        self._unlogged += reasons
        if self._unlogged and self._throttle.due():
            counts = ", ".join(f"{number} {reason}" for reason, number in self._unlogged.most_common())
            log.warning("refused and kept aside: %s; `driftline dead-letters list` shows them with the cure", counts)
            self._unlogged.clear()
