"""The records of one poll in the feedback lane, from their bytes to the records written for them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from kafka.errors import KafkaError

from features.store.online import StoreUnavailableError
from features.text import TextModelUnavailableError
from streaming.broker_clock import LOG_APPEND_TIME
from streaming.config import Config
from streaming.events import (
    DriftEvent,
    Event,
    FeedbackEvent,
    ImpressionEvent,
    ItemEvent,
    RefusedError,
    ServedFeedback,
    UserEvent,
    encode_traffic,
)
from streaming.events.announcements import announced
from streaming.events.decisions import encode_decision
from streaming.ingest.dead_letter_writer import DeadLetterWriter
from streaming.ingest.output import Output, RecordRefusedError
from streaming.ingest.reader import Polled
from streaming.ingest.routing import Routing
from streaming.monitoring import metrics
from streaming.retries import Retrier, StoppedError

AWAY = (StoreUnavailableError, TextModelUnavailableError)
"""Errors that mean waiting for a service; any other error over a record is that record's fault."""

log = logging.getLogger(__name__)


class ImpressionEncoder(Protocol):
    """Encodes an outside impression as a `traffic` record."""

    def encode(self, event: ImpressionEvent) -> bytes:
        """The bytes of the `traffic` record. Raises RefusedError."""


@dataclass(slots=True)
class Entry:
    """One record and the result of handling it."""

    record: Any
    event: Event | None = None
    partition: int = -1
    traffic: bytes | None = None
    refusal: RefusedError | None = None

    def refuse(self, error: Exception) -> None:
        """Turns the record into a dead letter, and drops its other result."""
        self.refusal = error if isinstance(error, RefusedError) else RefusedError.unforeseen(error)
        self.traffic = None


class Batch:
    """The records of one poll, read and routed when it is made. Only `represent` may wait for a service.

    Users and items are left to the other lane (`profile_lane`); records that cannot be decoded belong to this one. An
    error over one record refuses that record and no other.
    """

    def __init__(self, config: Config, routing: Routing, letters: DeadLetterWriter, polled: Polled, now: float) -> None:
        """`now` is broker time as far as known, seconds; it serves records without the broker's stamp."""
        self._traffic_topic, self._decisions_topic = config.topics.traffic, config.topics.decisions
        self._letters = letters
        self._now = now
        self._unreadable = polled.unreadable
        self._entries = [self._read(routing, record) for record in polled.records]

    def represent(self, external: ImpressionEncoder, retrier: Retrier) -> None:
        """Represents the impressions of other systems in order, from the profiles known by now.

        Waits if the feature store or the language model is unavailable. Raises StoppedError.
        """
        for entry in self._entries:
            if not isinstance(entry.event, ImpressionEvent) or entry.refusal is not None:
                continue
            encode = partial(external.encode, entry.event)
            try:
                entry.traffic = retrier.until_done("representing impressions", encode, transient=AWAY)
            except (StoppedError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - one impression must not hold up the others
                entry.refuse(error)

    def write(self, write: Callable[[Sequence[Output]], object]) -> None:
        """Writes traffic, announced drift and dead letters, in the order of the records.

        If Kafka accepts some records and not others, each is written alone, and the refused ones become dead letters.
        Raises errors of `write` that concern more than one record, such as OutputRefusedError and StoppedError, and
        RecordRefusedError if every one of several records fails in the same way without Kafka refusing it: that is a
        fault of this program and not of the records.
        """
        outputs = [output for entry in self._entries if (output := self._output(entry)) is not None]
        outputs += [self._letters.of_batch(batch, self._now) for batch in self._unreadable]
        try:
            write(outputs)
            return
        except RecordRefusedError as error:
            log.warning("%s; writing %d records one by one", error, len(outputs))
        refused = self._write_alone(write)
        for entry, fault in refused:
            entry.refuse(entry.refusal or fault)
            assert entry.refusal is not None
            write([self._letters.bare(entry.record, entry.refusal, self._now)])
        write([self._letters.of_batch(batch, self._now) for batch in self._unreadable])

    def announcements(self) -> list[tuple[int, DriftEvent]]:
        """Announced drift with its partition of `interactions`, in the order of the records."""
        return [
            (int(entry.record.partition), entry.event)
            for entry in self._entries
            if isinstance(entry.event, DriftEvent) and entry.refusal is None
        ]

    def newest(self) -> dict[int, float]:
        """Newest event time written to each partition of `traffic`, seconds since the epoch."""
        newest: dict[int, float] = {}
        for entry in self._entries:
            if entry.traffic is not None and entry.event is not None:
                newest[entry.partition] = max(newest.get(entry.partition, float("-inf")), entry.event.time)
        return newest

    def appended(self) -> dict[int, float]:
        """Append time, by the broker, of the last record of each partition of `interactions`, if the topic has it."""
        stamped = [entry.record for entry in self._entries if entry.record.timestamp_type == LOG_APPEND_TIME]
        return {record.partition: record.timestamp / 1_000 for record in stamped}

    def outcomes(self) -> list[str | None]:
        """The reason of each record's refusal; None if it was accepted or belongs to the other lane."""
        return [entry.refusal.reason if entry.refusal else None for entry in self._entries]

    def count(self) -> None:
        """Counts accepted and refused records."""
        taken = [entry.event for entry in self._entries if entry.refusal is None and entry.event is not None]
        for kind, number in Counter(map(kind_of, taken)).items():
            metrics.ingest.EVENTS_INGESTED.labels(event=kind).inc(number)
        refused = Counter(filter(None, self.outcomes()))
        refused["unreadable"] += len(self._unreadable)
        self._letters.count(+refused)

    def _read(self, routing: Routing, record: Any) -> Entry:
        """What is to be written for a record, or why it is refused. Profiles are left to the other lane."""
        entry = Entry(record)
        try:
            event = routing.decode(record.value)
            if isinstance(event, UserEvent | ItemEvent):
                return entry
            entry.event = event = routing.accept(event, appended_at(record, self._now))
            if isinstance(event, FeedbackEvent):
                entry.partition = routing.partition(event)
                served = ServedFeedback(event.request_id, event.item_id, event.time, event.kind)
                entry.traffic = encode_traffic(served)
            elif isinstance(event, ImpressionEvent):
                entry.partition = routing.partition(event)
        except Exception as error:  # noqa: BLE001 - one bad record must not keep later ones from being read
            entry.refuse(error)
        return entry

    def _output(self, entry: Entry) -> Output | None:
        if entry.refusal is not None:
            return self._letters.of(entry.record, entry.refusal, self._now)
        if entry.traffic is not None:
            return Output(self._traffic_topic, entry.traffic, entry.partition)
        if isinstance(entry.event, DriftEvent):
            return Output(self._decisions_topic, encode_decision(announced(entry.event)), 0)
        return None

    def _write_alone(self, write: Callable[[Sequence[Output]], object]) -> list[tuple[Entry, RecordRefusedError]]:
        """Writes each record alone and returns the refused ones. Raises RecordRefusedError as `write` says."""
        refused, tried = [], 0
        for entry in self._entries:
            output = self._output(entry)
            if output is None:
                continue
            tried += 1
            try:
                write([output])
            except RecordRefusedError as error:
                refused.append((entry, error))
        causes = [error.__cause__ for _, error in refused]
        if len(refused) == tried > 1 and len(set(map(type, causes))) == 1 and not isinstance(causes[0], KafkaError):
            raise refused[0][1]
        return refused


def appended_at(record: Any, now: float) -> float:
    """Append time of a record by the broker, seconds; `now` if its topic stores the senders' times.

    Stamps are truncated to milliseconds, so the end of the millisecond is returned: nothing in it happened later.
    """
    return record.timestamp / 1_000 + 0.001 if record.timestamp_type == LOG_APPEND_TIME else now


def kind_of(event: Event) -> str:
    """The value of the event's `event` key."""
    return str(event.__struct_config__.tag)
