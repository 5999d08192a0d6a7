"""The records of one poll, from their bytes to what is written for them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from streaming.config import Config
from streaming.events import (
    DeadLetter,
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
from streaming.ingest.output import Output
from streaming.ingest.profiles import LatestProfiles, ProfileStore
from streaming.ingest.routing import Routing
from streaming.monitoring import metrics
from streaming.retries import Retrier
from streaming.topics import DEAD_LETTER_BYTES

log = logging.getLogger(__name__)

_P = TypeVar("_P", UserEvent, ItemEvent)

_PROFILE_ERRORS = (ValueError, TypeError)
"""What the feature store raises for a value it cannot hold; for its own failures it has other classes."""


class ImpressionEncoder(Protocol):
    """What turns an outside impression into its `traffic` bytes."""

    def encode(self, event: ImpressionEvent) -> bytes:
        """The impression as `traffic` holds it. Raises RefusedError."""

    def forget(self) -> None:
        """Profiles have changed: the next impression reads them anew."""


@dataclass(slots=True)
class Entry:
    """One record and what became of it."""

    record: Any
    event: Event | None = None
    partition: int = -1
    traffic: bytes | None = None
    refusal: RefusedError | None = None
    attempts: int = 1

    def refuse(self, refusal: RefusedError, attempts: int = 1) -> None:
        """Makes the record a dead letter and nothing else; `attempts` is how often it was tried."""
        self.refusal, self.attempts, self.traffic = refusal, attempts, None


class Batch:
    """The records of one poll. Made with all records read and routed; the steps that may wait are its methods.

    Their order is that of `Ingest._handle`: profiles, then impressions, which are represented from them.
    """

    def __init__(self, config: Config, routing: Routing, records: Sequence[Any], now: float) -> None:
        """`records` as kafka-python gives them; `now` is wall-clock time, seconds."""
        self._topics = config.topics
        self._now = now
        self._entries = [self._read(routing, record, now) for record in records]

    def write_profiles(self, store: ProfileStore, retrier: Retrier) -> None:
        """Writes users and items to the feature store, waiting for it as long as it takes.

        If the store is there and refuses the batch, each profile is tried alone and the ones at fault are refused.
        Raises StoppedError.
        """
        profiles = LatestProfiles()
        for entry in self._entries:
            if isinstance(entry.event, UserEvent | ItemEvent):
                profiles.add(entry.event)
        if profiles.users:
            self._write(list(profiles.users.values()), store.write_users, retrier)
        if profiles.items:
            self._write(list(profiles.items.values()), store.write_items, retrier)

    def represent(self, external: ImpressionEncoder, retrier: Retrier) -> None:
        """Represents the impressions of other systems, in their order and after the profiles. Raises StoppedError."""
        # The cached profiles would outlive those that were just written, of the same users and items.
        if any(isinstance(entry.event, UserEvent | ItemEvent) for entry in self._entries):
            external.forget()
        for entry in self._entries:
            if not isinstance(entry.event, ImpressionEvent) or entry.refusal is not None:
                continue
            event = entry.event

            try:
                entry.traffic = retrier.until_done(
                    "representing impressions", partial(external.encode, event), permanent=(RefusedError,)
                )
            except RefusedError as refusal:
                entry.refuse(refusal)

    def outputs(self) -> list[Output]:
        """Traffic and dead letters, in the order of the records."""
        return [output for entry in self._entries if (output := self._output(entry)) is not None]

    def announcements(self) -> list[tuple[int, DriftEvent]]:
        """Announced drift with the partition of `interactions` it stands in, in the order of the records."""
        return [
            (int(entry.record.partition), entry.event)
            for entry in self._entries
            if isinstance(entry.event, DriftEvent) and entry.refusal is None
        ]

    def newest(self) -> dict[int, float]:
        """Newest event time that goes to each partition of `traffic`, seconds since the epoch."""
        newest: dict[int, float] = {}
        for entry in self._entries:
            if entry.traffic is not None and entry.event is not None:
                newest[entry.partition] = max(newest.get(entry.partition, float("-inf")), entry.event.time)
        return newest

    def outcomes(self) -> list[str | None]:
        """Per record the reason of its refusal, None if it was taken."""
        return [entry.refusal.reason if entry.refusal else None for entry in self._entries]

    def count(self) -> None:
        """Counts what was taken and refused."""
        for kind, number in Counter(_kind(entry) for entry in self._entries if entry.refusal is None).items():
            metrics.EVENTS_INGESTED.labels(event=kind).inc(number)
        for reason, number in Counter(filter(None, self.outcomes())).items():
            metrics.DEAD_LETTERS.labels(reason=reason).inc(number)

    def _read(self, routing: Routing, record: Any, now: float) -> Entry:
        entry = Entry(record)
        try:
            event = entry.event = routing.read(record.value, now)
            if isinstance(event, FeedbackEvent):
                entry.partition = routing.partition(event)
                served = ServedFeedback(event.request_id, event.item_id, event.time, event.kind)
                entry.traffic = encode_traffic(served)
            elif isinstance(event, ImpressionEvent):
                entry.partition = routing.partition(event)
        except RefusedError as refusal:
            entry.refuse(refusal)
        return entry

    def _write(
        self, profiles: list[_P], write: Callable[[list[_P]], object], retrier: Retrier, attempt: int = 1
    ) -> None:
        try:
            retrier.until_done("writing profiles", lambda: write(profiles), permanent=_PROFILE_ERRORS)
        except _PROFILE_ERRORS as error:
            if len(profiles) > 1:  # which one is at fault, the store does not say
                for profile in profiles:
                    self._write([profile], write, retrier, attempt + 1)
                return
            refusal = RefusedError("not_written", f"{type(error).__name__}: {error}")
            for entry in self._entries:
                if entry.event is profiles[0]:
                    entry.refuse(refusal, attempt)

    def _output(self, entry: Entry) -> Output | None:
        if entry.refusal is not None:
            return self._letter(entry, entry.refusal)
        if entry.traffic is not None:
            return Output(self._topics.traffic, entry.traffic, entry.partition)
        return None

    def _letter(self, entry: Entry, refusal: RefusedError) -> Output:
        record = entry.record
        letter = DeadLetter(
            reason=refusal.reason,
            detail=refusal.detail,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            time=self._now,
            attempts=entry.attempts,
            value=record.value or b"",
        )
        data = msgspec.json.encode(letter)
        if len(data) > DEAD_LETTER_BYTES - 1_024:
            detail = f"{refusal.detail}; its {len(letter.value)} bytes are too many for a dead letter, read them there"
            data = msgspec.json.encode(msgspec.structs.replace(letter, detail=detail, value=b""))
        log.info("refused %s/%d@%d: %s", record.topic, record.partition, record.offset, refusal)
        return Output(self._topics.dead_letters, data, None, record.key, tuple(record.headers or ()))


def _kind(entry: Entry) -> str:
    tag = entry.event.__struct_config__.tag if entry.event is not None else None
    return str(tag)
