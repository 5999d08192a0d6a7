"""The Kafka shell of ingest: poll, write traffic and dead letters, commit, and mark how far it has read.

Offsets are committed after Kafka has acknowledged everything made of the records, so nothing is lost. After a crash
records are handled twice, which the join tolerates (docs/decisions/0013). Profiles have a lane of their own.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from kafka.errors import KafkaError

from model.backbone.schema import CARD, BackboneRefused, check_card
from streaming.broker_clock import BrokerClock, steady_wall
from streaming.clients import BrokerRefused, BrokerUnreachable, TlsFileError, quiet_client_logs, wait_for_broker
from streaming.config import Config
from streaming.ingest.batch import Batch, ImpressionEncoder, kind_of
from streaming.ingest.dead_letter_writer import DeadLetterWriter
from streaming.ingest.drift_gauge import DriftGauge
from streaming.ingest.external_impressions import ExternalImpressions
from streaming.ingest.kafka_health import KafkaHealth
from streaming.ingest.output import OutputRefusedError, Writer
from streaming.ingest.profile_lane import ProfileLane, show_lag
from streaming.ingest.progress import ReadProgress
from streaming.ingest.reader import InteractionsReader, Polled
from streaming.ingest.routing import Routing
from streaming.ingest.ticker import Ticker
from streaming.listening import CannotListenError
from streaming.monitoring import metrics
from streaming.monitoring.feature_counts import FeatureCounts
from streaming.monitoring.health import Check, HealthServer
from streaming.retries import Retrier, StoppedError
from streaming.topics import TopicMismatch, TopicsFailed, ensure_topics

if TYPE_CHECKING:
    from features.store.feature_store import FeatureStore

log = logging.getLogger(__name__)

_EXPLAINED = (
    BackboneRefused,
    BrokerRefused,
    BrokerUnreachable,
    CannotListenError,
    OutputRefusedError,
    TlsFileError,
    TopicMismatch,
    TopicsFailed,
)
"""Errors whose message is complete, so they are logged without a traceback."""


def run_ingest(config: Config, stopping: threading.Event | None = None) -> int:
    """Ingests until SIGTERM, SIGINT or `stopping`; returns the exit code, 1 after an error, which is logged."""
    stopping = stopping or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
    try:
        Ingest(config, stopping).run()
    except StoppedError:
        return 0
    except _EXPLAINED as error:
        log.critical("ingest ends: %s", error)
        return 1
    except Exception:
        log.exception("ingest ends: unexpected error")
        metrics.every_process.TASK_FAILURES.labels(task="ingest").inc()
        return 1
    return 0


class Ingest:
    """One member of the consumer group."""

    def __init__(self, config: Config, stopping: threading.Event) -> None:
        self._config = config
        self._stopping = stopping
        self._clock = BrokerClock()
        self._routing = Routing(
            config,
            metrics.features.FEATURE_DEFAULTS.labels(view="domain", reason="undeclared").inc,
            lambda event: metrics.ingest.CLOCK_CORRECTED.labels(event=kind_of(event)).inc(),
        )
        self._retrier = Retrier(stopping)
        self._letters = DeadLetterWriter(config)
        self._kafka = KafkaHealth(config)
        self._writer = Writer(config, stopping, self._kafka, self._clock)
        self._ticker = Ticker(config, self._writer, self._clock)
        self._progress = ReadProgress()
        self._drift = DriftGauge(config.ingest.drift_hours * 3_600)
        self._lane: ProfileLane | None = None
        self._state: str | None = "waiting for Kafka"
        self._next_look = 0.0
        self._shown: set[int] = set()
        self._began = steady_wall()
        metrics.every_process.CLOCK_OFFSET.set_function(lambda: self._clock.offset_s)

    def run(self) -> None:
        """Ingests until it is told to stop. Raises the error that ends it."""
        quiet_client_logs()
        config = self._config
        with HealthServer(config.ingest.metrics_host, config.ingest.metrics_port, self._checks(), section="ingest"):
            self._check_backbone()
            wait_for_broker(config.kafka, log, self._stopping)
            ensure_topics(config)
            self._state = "opening the feature store"
            store = self._open_store()
            external = ExternalImpressions(config, store)
            reader = InteractionsReader(config, config.ingest_consumers, self._stopping)
            lane = self._lane = ProfileLane(config, self._routing, store, self._clock)
            self._state = None
            log.info("ingesting %s as %s", config.topics.interactions, config.ingest_consumers)
            try:
                lane.start()
                while not self._stopping.is_set():
                    self._turn(reader, external, lane)
            finally:
                lane.close()
                self._ticker.close()
                self._writer.close()
                reader.close()
        log.info("ingest has ended as ordered")

    def _checks(self) -> dict[str, Check]:
        return {
            "start": lambda: self._state,
            "kafka": self._kafka.check,
            "impressions": self._retrier.check,
            "profiles": lambda: self._lane.check() if self._lane is not None else None,
        }

    def _check_backbone(self) -> None:
        """Checks the backbone's card only, so that without other systems' impressions neither backbone nor PyTorch is
        needed."""
        if (self._config.backbone_dir / CARD).is_file():
            check_card(self._config.backbone_dir, self._config.input_schema())

    def _open_store(self) -> FeatureStore:
        from features.store.feature_store import FeatureStore
        from features.text import TextEncoder

        features = self._config.features
        text = TextEncoder(features.text_model, self._config.cache_dir, features.max_text)
        store = FeatureStore(features, self._config.run_dir, FeatureCounts(), text=text)
        self._retrier.until_done("feature store: set-up", store.apply)
        return store

    def _turn(self, reader: InteractionsReader, external: ExternalImpressions, lane: ProfileLane) -> None:
        if lane.failure is not None:
            raise lane.failure
        wait_ms = int(min(0.25, self._config.ingest.idle_tick_s / 2) * 1_000)
        polled = reader.poll(wait_ms)
        if polled.records or polled.unreadable:
            if lane.changed():
                external.forget()
            self._handle(reader, external, polled)
        if time.monotonic() >= self._next_look:
            self._look(reader)
            self._next_look = time.monotonic() + self._config.ingest.idle_tick_s / 2

    def _handle(self, reader: InteractionsReader, external: ImpressionEncoder, polled: Polled) -> None:
        batch = Batch(self._config, self._routing, self._letters, polled, self._clock.now(steady_wall()))
        batch.represent(external, self._retrier)
        batch.write(self._writer.write)
        # After the writes, so that no record is committed whose results are missing; a crash repeats records.
        reader.commit(polled.positions())
        for partition, appended in batch.appended().items():
            self._progress.handled(partition, appended)
        batch.count()
        for partition, event in batch.announcements():
            self._drift.take(partition, event)
        for partition, newest in batch.newest().items():
            self._ticker.routed(partition, newest)

    def _look(self, reader: InteractionsReader) -> None:
        """Asks Kafka for the ends of the topics: for the lag, for ticks and marks, and to see that Kafka answers."""
        try:
            assigned = reader.own()
            # Read before asking: everything appended until this time is before the ends in the answer.
            asked_at = self._clock.earliest(steady_wall())
            ends = reader.ends([*self._ticker.partitions, *assigned])
            positions = reader.positions(assigned)
        except KafkaError as error:
            self._kafka.failed(error)
            return
        self._kafka.answered()
        numbers = {partition.partition for partition in assigned}
        self._drift.show(self._clock.now(steady_wall()), numbers)
        show_lag("feedback", positions, ends)
        self._progress.own(numbers)
        for partition, position in positions.items():
            self._progress.looked(partition.partition, position, ends[partition], asked_at)
        self._show_age(numbers)
        self._ticker.look(ends, ticks=0 in numbers)  # only the owner of partition 0 ticks (docs/decisions/0012)
        self._ticker.mark(self._progress.claims(), numbers, reader.partitions())

    def _show_age(self, assigned: Collection[int]) -> None:
        """Makes the age a function of the scrape time, so that it grows even if this loop stands still."""
        for partition in self._shown - set(assigned):
            metrics.ingest.INGEST_PROGRESS_AGE.remove(str(partition))
        self._shown = set(assigned)
        for partition in assigned:
            metrics.ingest.INGEST_PROGRESS_AGE.labels(partition=partition).set_function(partial(self._age, partition))

    def _age(self, partition: int) -> float:
        read = self._progress.claims().get(partition, self._began)
        return self._clock.now(steady_wall()) - read
