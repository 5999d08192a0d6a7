"""The Kafka shell of ingest: poll, profiles to Feast, traffic and dead letters to Kafka, and only then the commit.

Offsets are committed after the feature store and Kafka have taken everything that came of the records, so nothing is
lost; after a crash records are handled twice, which the store and the join do not mind (docs/decisions/0013).
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition
from kafka.errors import AuthorizationError, KafkaError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata

from model.backbone.schema import CARD, BackboneRefused, check_card
from streaming.clients import (
    BrokerRefused,
    BrokerUnreachable,
    TlsFileError,
    end_offsets,
    make_consumer,
    quiet_client_logs,
    wait_for_broker,
)
from streaming.config import Config
from streaming.ingest.batch import Batch, ImpressionEncoder
from streaming.ingest.drift_gauge import DriftGauge
from streaming.ingest.external_impressions import ExternalImpressions
from streaming.ingest.kafka_watch import KafkaWatch
from streaming.ingest.output import OutputRefusedError, Writer
from streaming.ingest.refusals import RefusalWindow, TooManyRefusedError
from streaming.ingest.routing import Routing
from streaming.ingest.ticker import Ticker
from streaming.monitoring import metrics
from streaming.monitoring.health import HealthServer, PortTakenError
from streaming.retries import Retrier, StoppedError
from streaming.topics import TopicMismatch, TopicsFailed, ensure_topics

if TYPE_CHECKING:
    from features.store.feature_store import FeatureStore

log = logging.getLogger(__name__)

_EXPLAINED = (
    BackboneRefused,
    BrokerRefused,
    BrokerUnreachable,
    OutputRefusedError,
    PortTakenError,
    TlsFileError,
    TooManyRefusedError,
    TopicMismatch,
    TopicsFailed,
)
"""Errors whose message says it all: logged without a traceback."""

_LOOK_MS = 1_000
_MAX_POLL_INTERVAL_MS = 15 * 60 * 1_000
"""A feature store that is down this long costs the membership, and then some records are handled twice."""


def run_ingest(config: Config, stopping: threading.Event | None = None) -> int:
    """Ingests until SIGTERM, SIGINT or `stopping`; gives the exit code, 1 after an error that the log names."""
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
        log.exception("ingest ends: it met an error it does not know")
        metrics.TASK_FAILURES.labels(task="ingest").inc()
        return 1
    return 0


class Ingest:
    """One member of the consumer group."""

    def __init__(self, config: Config, stopping: threading.Event) -> None:
        self._config = config
        self._stopping = stopping
        self._routing = Routing(config, metrics.FEATURE_DEFAULTS.labels(view="domain", reason="undeclared").inc)
        self._retrier = Retrier(stopping)
        self._refusals = RefusalWindow(config.ingest.dead_letter_window, config.ingest.dead_letter_ratio)
        self._watch = KafkaWatch(config)
        self._writer = Writer(config, stopping, self._watch)
        self._ticker = Ticker(config, self._writer)
        self._drift = DriftGauge(config.ingest.drift_hours * 3_600)
        self._state: str | None = "waiting for Kafka"
        self._next_look = 0.0

    def run(self) -> None:
        """Ingests until it is asked to end. Raises what ends it."""
        quiet_client_logs()
        config = self._config
        checks = {"start": lambda: self._state, "kafka": self._watch.check, "feature store": self._retrier.check}
        with HealthServer(config.ingest.metrics_host, config.ingest.metrics_port, checks):
            self._check_backbone()
            wait_for_broker(config.kafka, log, self._stopping)
            ensure_topics(config)
            self._state = "opening the feature store"
            store = self._open_store()
            external = ExternalImpressions(config, store)
            consumer = self._open_consumer()
            self._state = None
            log.info("ingesting %s as %s", config.topics.interactions, config.ingest_consumers)
            try:
                while not self._stopping.is_set():
                    self._turn(consumer, store, external)
            finally:
                self._ticker.close()
                self._writer.close()
                consumer.close(autocommit=False, timeout_ms=5_000)
        log.info("ingest has ended in order")

    def _check_backbone(self) -> None:
        """Its card alone: an ingest that sees no impression of another system needs neither backbone nor PyTorch."""
        if (self._config.backbone_dir / CARD).is_file():
            check_card(self._config.backbone_dir, self._config.input_schema())

    def _open_store(self) -> FeatureStore:
        from features.store.feature_store import FeatureStore
        from features.text import TextEncoder

        features = self._config.features
        text = TextEncoder(features.text_model, self._config.cache_dir, features.max_text)
        store = FeatureStore(features, self._config.run_dir, _count_default, text=text)
        self._retrier.until_done("feature store: set-up", store.apply)
        return store

    def _open_consumer(self) -> Any:
        config = self._config
        consumer = make_consumer(
            config.kafka,
            config.topics.interactions,
            group_id=config.ingest_consumers,
            max_poll_records=config.ingest.max_poll,
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            session_timeout_ms=10_000,
        )
        # A leader that first joins without knowing the topic's partitions joins again as soon as it does, and
        # kafka-python 3.0 forgets a join that it began for that reason and that outlives one short poll: the member
        # would stay without partitions, and say nothing. So the partitions are asked for before the first join.
        consumer.topics()
        return consumer

    def _turn(self, consumer: Any, store: FeatureStore, external: ImpressionEncoder) -> None:
        wait_ms = int(min(0.25, self._config.ingest.idle_tick_s / 2) * 1_000)
        try:
            polled = consumer.poll(timeout_ms=wait_ms)
        except AuthorizationError:
            raise
        except KafkaError as error:
            log.warning("reading %s failed (%s); trying again", self._config.topics.interactions, error)
            self._stopping.wait(1.0)
            return
        if polled:
            self._handle(consumer, store, external, [record for records in polled.values() for record in records])
        if time.monotonic() >= self._next_look:
            self._look(consumer)
            self._next_look = time.monotonic() + self._config.ingest.idle_tick_s / 2

    def _handle(self, consumer: Any, store: FeatureStore, external: ImpressionEncoder, records: Sequence[Any]) -> None:
        batch = Batch(self._config, self._routing, records, time.time())
        batch.write_profiles(store, self._retrier)
        batch.represent(external, self._retrier)
        self._writer.write(batch.outputs())
        # Only now: after a crash records are handled twice, but none is committed that did not go where it belongs.
        self._commit(consumer, records)
        batch.count()
        for partition, event in batch.announcements():
            self._drift.take(partition, event)
        for partition, newest in batch.newest().items():
            self._ticker.routed(partition, newest)
        for reason in batch.outcomes():
            self._refusals.note(reason)

    def _commit(self, consumer: Any, records: Iterable[Any]) -> None:
        read = {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
        offsets = {partition: OffsetAndMetadata(offset, "") for partition, offset in read.items()}
        try:
            consumer.commit(offsets, 5_000)
        except KafkaError as error:
            # The next commit covers these records; if the partitions moved on, their new owner handles them again.
            log.warning("committing %d partitions failed (%s); going on", len(offsets), error)

    def _look(self, consumer: Any) -> None:
        """Asks Kafka how far the topics reach: for the lag, for the ticks, and to know that Kafka is there at all."""
        own = consumer.assignment()
        self._drift.show(time.time(), {partition.partition for partition in own})
        try:
            ends = end_offsets(consumer, self._ticker.partitions, _LOOK_MS)
            if own:
                self._lag(consumer, own, end_offsets(consumer, own, _LOOK_MS))
            elif not consumer.partitions_for_topic(self._config.topics.interactions):
                # A deleted topic takes our partitions away without an error. Asking for it also refreshes what the
                # consumer knows of it, so that it goes on soon after the topic was made again.
                raise UnknownTopicOrPartitionError(f"{self._config.topics.interactions} has no partitions")
        except KafkaError as error:
            self._watch.failed(error)
            return
        self._watch.answered()
        if TopicPartition(self._config.topics.interactions, 0) in own:  # one member ticks (docs/decisions/0012)
            self._ticker.look(ends)

    def _lag(self, consumer: Any, own: Iterable[TopicPartition], ends: Mapping[TopicPartition, int]) -> None:
        for partition in own:
            position = consumer.position(partition, timeout_ms=_LOOK_MS)
            if position is not None:
                metrics.INGEST_LAG.labels(partition=partition.partition).set(ends[partition] - position)


def _count_default(view: str, reason: str, number: int) -> None:
    metrics.FEATURE_DEFAULTS.labels(view=view, reason=reason).inc(number)
