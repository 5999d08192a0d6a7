"""Users and items in a lane of their own, so that no feedback waits while texts are encoded.

The lane is another consumer, in another consumer group, on another thread. It reads the same topic, takes the profiles
and leaves the other records to the feedback lane. So no record waits in memory, and its committed offset never passes a
profile that is not written (docs/decisions/0097).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from kafka.errors import KafkaError

from streaming.broker_clock import BrokerClock, steady_wall
from streaming.config import Config
from streaming.events import ItemEvent, RefusedError, UserEvent
from streaming.ingest.batch import AWAY, appended_at, kind_of
from streaming.ingest.dead_letter_writer import DeadLetterWriter
from streaming.ingest.kafka_health import KafkaHealth
from streaming.ingest.output import Output, RecordRefusedError, Writer
from streaming.ingest.profiles import LatestProfiles, ProfileStore, write_newer_items, write_newer_users
from streaming.ingest.reader import InteractionsReader, Polled
from streaming.ingest.routing import Routing
from streaming.monitoring import metrics
from streaming.retries import Retrier, StoppedError

log = logging.getLogger(__name__)

_P = TypeVar("_P", UserEvent, ItemEvent)

_WAIT_MS = 250
_LOOK_S = 1.0


@dataclass(slots=True)
class _Profile:
    """One record with a profile, and the result of handling it."""

    record: Any
    event: UserEvent | ItemEvent
    refusal: RefusedError | None = None
    attempts: int = 1

    def refuse(self, error: Exception, attempts: int = 1) -> None:
        self.refusal = error if isinstance(error, RefusedError) else RefusedError.unforeseen(error)
        self.attempts = attempts


class ProfileBatch:
    """The profiles of one poll."""

    def __init__(self, routing: Routing, letters: DeadLetterWriter, polled: Polled, now: float) -> None:
        """`now` is broker time as far as known, seconds."""
        self._letters = letters
        self._now = now
        self._profiles = [found for record in polled.records if (found := _read(routing, record, now)) is not None]

    def write(self, store: ProfileStore, retrier: Retrier) -> int:
        """Writes the profiles that are newer than the stored ones; returns how many it wrote.

        Waits for the store as long as needed. If the store answers but refuses the batch, each profile is tried alone,
        and those that fail are refused. Raises StoppedError.
        """
        latest = LatestProfiles()
        for profile in self._profiles:
            if profile.refusal is None:
                latest.add(profile.event)
        written = 0
        if latest.users:
            written += self._write(list(latest.users.values()), partial(write_newer_users, store), retrier)
        if latest.items:
            written += self._write(list(latest.items.values()), partial(write_newer_items, store), retrier)
        return written

    def write_letters(self, write: Callable[[Sequence[Output]], object]) -> None:
        """Writes the dead letters. Raises errors of `write` that concern more than one record."""
        for profile in self._profiles:
            if profile.refusal is None:
                continue
            try:
                write([self._letters.of(profile.record, profile.refusal, self._now, profile.attempts)])
            except RecordRefusedError:
                write([self._letters.bare(profile.record, profile.refusal, self._now)])

    def outcomes(self) -> list[str | None]:
        """The reason of each profile's refusal; None if it was accepted."""
        return [profile.refusal.reason if profile.refusal else None for profile in self._profiles]

    def count(self) -> None:
        """Counts accepted and refused profiles."""
        taken = Counter(kind_of(profile.event) for profile in self._profiles if profile.refusal is None)
        for kind, number in taken.items():
            metrics.ingest.EVENTS_INGESTED.labels(event=kind).inc(number)
        self._letters.count(Counter(filter(None, self.outcomes())))

    def _write(self, profiles: list[_P], write: Callable[[list[_P]], int], retrier: Retrier, attempt: int = 1) -> int:
        """Number of profiles written. If several together fail, each is tried alone, and bad ones are refused."""
        try:
            written = retrier.until_done("writing profiles", lambda: write(profiles), transient=AWAY)
            metrics.ingest.PROFILES_OUTDATED.inc(len(profiles) - written)
            return written
        except (StoppedError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - one profile must not hold up the others
            if len(profiles) > 1:  # the store does not say which one is at fault
                return sum(self._write([profile], write, retrier, attempt + 1) for profile in profiles)
            for found in self._profiles:
                if found.event is profiles[0]:
                    found.refuse(RefusedError("not_written", f"{type(error).__name__}: {error}"), attempt)
            return 0


def _read(routing: Routing, record: Any, now: float) -> _Profile | None:
    """The profile in a record; None if it holds none or cannot be decoded, which the feedback lane refuses."""
    try:
        event = routing.decode(record.value)
    except Exception:  # noqa: BLE001 - the feedback lane refuses records that cannot be decoded
        return None
    if not isinstance(event, UserEvent | ItemEvent):
        return None
    profile = _Profile(record, event)
    try:
        accepted = routing.accept(event, appended_at(record, now))
        assert isinstance(accepted, UserEvent | ItemEvent)
        profile.event = accepted
    except Exception as error:  # noqa: BLE001 - one bad record must not keep later ones from being read
        profile.refuse(error)
    return profile


class ProfileLane:
    """The thread of the profile lane."""

    def __init__(self, config: Config, routing: Routing, store: ProfileStore, clock: BrokerClock) -> None:
        self._config = config
        self._routing = routing
        self._store = store
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="profiles", daemon=True)
        self._letters = DeadLetterWriter(config)
        self._kafka = KafkaHealth(config)
        self._retrier = Retrier(self._stopping)
        self._changed = threading.Event()
        self._next_look = 0.0
        self.failure: Exception | None = None
        """The error that ended the thread; None while it runs."""

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; the next member reads again what is not written yet."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def changed(self) -> bool:
        """Whether profiles were written since the last call."""
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    def check(self) -> str | None:
        """The check for `/healthz`: whether Kafka answers this lane, and the feature store accepts profiles."""
        return self._retrier.check() or self._kafka.check()

    def _run(self) -> None:
        writer = Writer(self._config, self._stopping, self._kafka, self._clock)
        try:
            reader = InteractionsReader(self._config, self._config.profile_consumers, self._stopping)
            try:
                while not self._stopping.is_set():
                    self._turn(reader, writer)
            finally:
                writer.close()
                reader.close()
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - raised by the feedback lane, which reads it from here
            self.failure = error

    def _turn(self, reader: InteractionsReader, writer: Writer) -> None:
        polled = reader.poll(_WAIT_MS)
        if positions := polled.positions():
            batch = ProfileBatch(self._routing, self._letters, polled, self._clock.now(steady_wall()))
            if batch.write(self._store, self._retrier):
                self._changed.set()
            batch.write_letters(writer.write)
            reader.commit(positions)
            batch.count()
        if time.monotonic() >= self._next_look:
            self._look(reader)
            self._next_look = time.monotonic() + _LOOK_S

    def _look(self, reader: InteractionsReader) -> None:
        try:
            assigned = reader.own()
            show_lag("profiles", reader.positions(assigned), reader.ends(assigned))
        except KafkaError as error:
            self._kafka.failed(error)
            return
        self._kafka.answered()


def show_lag(lane: str, positions: dict[Any, int], ends: dict[Any, int]) -> None:
    """Sets the metric for the partitions of one lane."""
    for partition, position in positions.items():
        metrics.ingest.INGEST_LAG.labels(lane=lane, partition=partition.partition).set(ends[partition] - position)
