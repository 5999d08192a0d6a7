"""The topics: what each holds decides its partitions, retention and compaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from streaming.clients import MAX_REQUEST_BYTES, make_admin
from streaming.config import Config
from streaming.kernel_log.keys import MAX_RECORD_BYTES

log = logging.getLogger(__name__)

INTERACTION_BYTES = 1024 * 1024
"""Largest outside event."""

DEAD_LETTER_BYTES = 2 * INTERACTION_BYTES
"""A dead letter holds the whole record in base64, four thirds of it, and its origin."""


class TopicMismatch(Exception):
    """A topic exists with another number of partitions than the kernel groups need."""


class TopicsFailed(Exception):
    """The cluster refused to create a topic."""


@dataclass(frozen=True)
class Topic:
    """What a topic is created with."""

    name: str
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)
    fixed: bool = True
    """Whether the partitions carry a meaning, so that an existing topic must have exactly as many."""


_COMPACTED = {
    "cleanup.policy": "compact",
    "max.message.bytes": str(MAX_RECORD_BYTES),
    # A snapshot is some hundred kilobytes and written every second: an owner that starts reads what compaction left.
    "segment.bytes": str(16 * 1024 * 1024),
    "segment.ms": "60000",
    "min.cleanable.dirty.ratio": "0.3",
}


def topics(config: Config) -> tuple[Topic, ...]:
    """Every topic of this configuration; `traffic`, `kernels` and `state` have one partition per kernel group."""
    names, groups = config.topics, len(config.groups)
    hours = int(names.traffic_retention_h * 3_600_000)
    return (
        Topic(
            names.interactions,
            names.interactions_partitions,
            {"max.message.bytes": str(INTERACTION_BYTES)},
            fixed=False,
        ),
        Topic(names.traffic, groups, {"max.message.bytes": str(MAX_REQUEST_BYTES), "retention.ms": str(hours)}),
        Topic(names.kernels, groups, _COMPACTED),
        Topic(names.state, groups, _COMPACTED),
        Topic(names.dead_letters, 1, {"max.message.bytes": str(DEAD_LETTER_BYTES)}, fixed=False),
    )


def ensure_topics(config: Config) -> list[str]:
    """Creates the topics that are missing and gives their names; safe to call from several processes at once.

    Raises TopicMismatch for a topic whose partitions do not match the kernel groups, TopicsFailed if the cluster
    refuses.
    """
    wanted = topics(config)
    with make_admin(config.kafka) as admin:
        existing = _partitions(admin.describe_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        for topic in missing:
            _create(admin, topic, config.kafka.replication_factor)
        existing = _partitions(admin.describe_topics([topic.name for topic in wanted]))
    for topic in wanted:
        _check(topic, existing.get(topic.name, 0))
    return [topic.name for topic in missing]


def _partitions(described: list[dict[str, object]]) -> dict[str, int]:
    counted = {}
    for topic in described:
        partitions = topic["partitions"]
        assert isinstance(partitions, list)
        counted[str(topic["name"])] = len(partitions)
    return counted


def _create(admin: KafkaAdminClient, topic: Topic, replicas: int) -> None:
    settings = {"num_partitions": topic.partitions, "replication_factor": replicas, "configs": dict(topic.settings)}
    try:
        admin.create_topics({topic.name: settings}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        admin.wait_for_topics([topic.name])  # another process was quicker
    except KafkaError as error:
        raise TopicsFailed(
            f"Kafka did not create topic {topic.name!r} ({error}); check the rights of the user and"
            f" kafka.replication_factor = {replicas} against the number of brokers"
        ) from error


def _check(topic: Topic, found: int) -> None:
    if found == topic.partitions:
        return
    if topic.fixed:
        raise TopicMismatch(
            f"topic {topic.name!r} has {found} partitions, {topic.partitions} kernel groups are configured, and each"
            " group is one partition; name other topics in the section `topics`, or configure as many groups"
        )
    log.info("topic %s has %d partitions (configured: %d); taken as it is", topic.name, found, topic.partitions)
