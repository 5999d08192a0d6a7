"""Writes the replay's events to Kafka: profiles before the play, clicks during it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError

from lab.streams.recording import Profiles
from streaming.clients import make_admin, make_producer
from streaming.config import Config
from streaming.events import DriftEvent, Event, FeedbackEvent, ItemEvent, UserEvent, encode_event

Progress = Callable[[int, int], None]
"""Called with records done and records in all."""

_POLL_S = 0.1
_FLUSH_S = 120.0


class IngestSilentError(Exception):
    """Ingest does not read the written events; the message says how far it got and the cure."""


class PublishFailedError(Exception):
    """Kafka refused some records; the message says how many and why."""


class Publisher:
    """Writes outside events to `interactions` and never blocks the play; failures are counted by cause."""

    def __init__(self, config: Config) -> None:
        """Raises kafka.errors.KafkaError if the topic's metadata cannot be had."""
        self._topic = config.topics.interactions
        self._producer: KafkaProducer = make_producer(config.kafka)
        self._producer.partitions_for(self._topic)  # the first send would wait for it in the middle of the play
        self.failed: Counter[str] = Counter()

    def send(self, event: FeedbackEvent | DriftEvent) -> None:
        """Writes one click, keyed by its request, or one announcement, keyed by its name."""
        self.publish(event.request_id if isinstance(event, FeedbackEvent) else event.name, event)

    def publish(self, key: str, event: Event) -> None:
        """Writes one event under `key`."""
        sent = self._producer.send(self._topic, key=key.encode(), value=encode_event(event))
        sent.add_errback(self._count)

    def flush(self) -> None:
        """Waits until everything is acknowledged. Raises PublishFailedError if Kafka did not take all of it."""
        try:
            self._producer.flush(timeout=_FLUSH_S)
        except KafkaError as error:
            raise PublishFailedError(
                f"Kafka did not acknowledge all events within {_FLUSH_S:.0f} s: {error}"
            ) from error
        if self.failed:
            causes = ", ".join(f"{cause} {count:,}" for cause, count in self.failed.items())
            raise PublishFailedError(f"Kafka did not take {self.failed.total():,} events: {causes}")

    def close(self) -> None:
        """Frees the connections without waiting for what is not acknowledged: `flush` first."""
        self._producer.close(timeout=1.0)

    def _count(self, error: Any) -> None:
        self.failed[type(error).__name__] += 1


def publish_profiles(publisher: Publisher, data: Profiles, progress: Progress | None = None) -> int:
    """Writes the catalogue and every user's profile as of now; returns how many events that made.

    Items go first: they take longest, their texts are encoded.
    """
    now = time.time()
    events: list[tuple[str, Event]] = [
        (item.item_id, ItemEvent(item.item_id, now, item.text, dict(item.fields))) for item in data.items
    ]
    events += [(user.user_id, UserEvent(user.user_id, now, dict(user.fields))) for user in data.users]
    for done, (key, event) in enumerate(events, 1):
        publisher.publish(key, event)
        if progress is not None and done % 100 == 0:
            progress(done, len(events))
    publisher.flush()
    if progress is not None:
        progress(len(events), len(events))
    return len(events)


def ingest_lag(admin: KafkaAdminClient, config: Config) -> int | None:
    """Records of `interactions` that ingest's slower lane has not committed; None while the cluster does not know."""
    try:
        return _ingest_lag(admin, config)
    except KafkaError as error:
        if not error.retriable:
            raise
        return None  # no coordinator yet, or the broker is away: asked again later


def _ingest_lag(admin: KafkaAdminClient, config: Config) -> int:
    topic, groups = config.topics.interactions, (config.ingest_consumers, config.profile_consumers)
    described = admin.describe_topics([topic])[0]["partitions"]
    partitions = [TopicPartition(topic, int(partition["partition_index"])) for partition in described]
    ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    begins = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    lags: list[int] = []
    for group in groups:
        committed = admin.list_group_offsets({group: partitions})[group]
        stored = {p: committed[p].offset for p in partitions if p in committed and committed[p].offset >= 0}
        lags.append(sum(max(0, ends[p].offset - stored.get(p, begins[p].offset)) for p in partitions))
    return max(lags)


def wait_for_ingest(config: Config, *, timeout_s: float, progress: Progress | None = None) -> None:
    """Waits until ingest has committed everything in `interactions`.

    `progress` is called with the records read since the call and those that were unread then. Raises IngestSilentError
    if nothing moves for `timeout_s` seconds.
    """
    behind = least = 0
    moved = time.monotonic()
    with make_admin(config.kafka) as admin:
        while (lag := ingest_lag(admin, config)) != 0:
            if lag is not None and (lag < least or not least):
                least, moved = lag, time.monotonic()
            behind = max(behind, lag or 0)
            if progress is not None:
                progress(behind - (least if lag is None else lag), behind)
            if time.monotonic() - moved > timeout_s:
                raise IngestSilentError(
                    f"ingest has not read {behind if lag is None else lag:,} records of {config.topics.interactions} "
                    f"for {timeout_s:.0f} s; does `driftline ingest` run on this cluster?"
                )
            time.sleep(_POLL_S)
    if progress is not None:
        progress(behind, behind)
