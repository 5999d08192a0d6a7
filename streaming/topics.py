"""The topics with their partitions, retention and compaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError

from streaming.clients import make_admin
from streaming.config import Config
from streaming.record_sizes import MAX_RECORD_BYTES, ORDER_BYTES

log = logging.getLogger(__name__)

INTERACTION_BYTES = 1024 * 1024
"""Largest outside event."""

_REPLICAS_TO_SPARE = 3
"""From this number of replicas, two must acknowledge a record, so that one broker may be away."""

DEAD_LETTER_BYTES = 2 * INTERACTION_BYTES
"""Largest dead letter: the record in base64, which is a third larger, and its origin."""

DECISION_BYTES = INTERACTION_BYTES
"""Largest decision, with its evidence."""

STATUS_BYTES = INTERACTION_BYTES
"""Largest status of a group; with 64 domains a status has about 60 kB."""

_RE_READ = "recovery re-reads records that are deleted by then"


class TopicMismatch(Exception):
    """A topic exists with another number of partitions than the kernel groups need."""


class TopicsFailed(Exception):
    """The cluster refused to create a topic."""


@dataclass(frozen=True)
class Topic:
    """The settings with which a topic is created, and which an existing one is compared with."""

    name: str
    partitions: int
    demands: Mapping[str, Demand]
    """Settings without which records would be refused or lost; each start warns about missing ones."""
    tuning: Mapping[str, str] = field(default_factory=dict)
    """Settings that only improve performance."""
    fixed: bool = True
    """Whether partitions have a meaning, so that an existing topic must have exactly this number."""


@dataclass(frozen=True)
class Demand:
    """One setting that a topic must have."""

    value: str
    why: str
    """The consequence of another value."""
    at_least: bool = False
    """Whether larger numbers are allowed; -1 means no limit."""
    at_most: int | None = None
    """The largest of them, if there is one."""

    @property
    def wanted(self) -> str:
        """The demand in words."""
        most = "" if self.at_most is None else f" and at most {self.at_most}"
        return f"at least {self.value}{most}" if self.at_least else self.value

    def met_by(self, value: str) -> bool:
        """Whether this value satisfies the demand."""
        if self.at_least and value.removeprefix("-").isdigit():
            if self.at_most is not None:
                return int(self.value) <= int(value) <= self.at_most
            return int(value) == -1 or int(value) >= int(self.value)
        return value == self.value


_COMPACTION = {
    # Snapshots are some hundred kilobytes and frequent, and a starting owner reads everything not compacted yet.
    "segment.bytes": str(16 * 1024 * 1024),
    "segment.ms": "60000",
    "min.cleanable.dirty.ratio": "0.3",
}


_BROKER_TIME = {
    "message.timestamp.type": Demand(
        "LogAppendTime",
        "records carry the time their senders claim, and then one clock that is wrong moves event time for everybody",
    )
}


def topics(config: Config) -> tuple[Topic, ...]:
    """Every topic of this configuration; topics that a group writes have one partition per kernel group."""
    names, groups = config.topics, len(config.groups)
    safe = _acknowledged_twice(config.kafka.replication_factor)
    compacted = safe | _compacted(MAX_RECORD_BYTES)
    interactions = safe | _kept(INTERACTION_BYTES) | _BROKER_TIME
    traffic = safe | _kept(MAX_RECORD_BYTES, _ms(names.traffic_retention_h), _RE_READ) | _BROKER_TIME
    history = safe | _kept(MAX_RECORD_BYTES, _ms(names.history_retention_h), "no kernel to show")
    decisions = safe | _kept(DECISION_BYTES, _ms(names.decisions_retention_h), "the audit has a hole")
    status = safe | _kept(STATUS_BYTES, _ms(names.status_retention_h), "the page forgets how it went")
    return (
        Topic(names.interactions, names.interactions_partitions, interactions, fixed=False),
        Topic(names.traffic, groups, traffic),
        Topic(names.kernels, groups, compacted, _COMPACTION),
        Topic(names.state, groups, compacted, _COMPACTION),
        Topic(names.dead_letters, 1, safe | _kept(DEAD_LETTER_BYTES), fixed=False),
        Topic(names.history, groups, history),
        Topic(names.control, 1, safe | _compacted(ORDER_BYTES)),
        Topic(names.decisions, 1, decisions),
        Topic(names.status, 1, status),
    )


def _acknowledged_twice(replicas: int) -> dict[str, Demand]:
    if replicas < _REPLICAS_TO_SPARE:  # with two replicas, one dead broker would stop every write
        return {}
    most = replicas - 1
    few = f"what fewer brokers have acknowledged is gone with them, and with more than {most} one dead broker stops all"
    behind = "a broker that was behind may lead, and then acknowledged records are gone"
    return {
        "min.insync.replicas": Demand("2", few, at_least=True, at_most=most),
        "unclean.leader.election.enable": Demand("false", behind),
    }


def _ms(hours: float) -> int:
    return round(hours * 3_600_000)


def _compacted(largest: int) -> dict[str, Demand]:
    why = "any other policy deletes kernels, state and orders by age, or never thins them"
    return {"cleanup.policy": Demand("compact", why), "max.message.bytes": _largest(largest)}


def _largest(size: int) -> Demand:
    return Demand(str(size), "larger records are refused by the broker", at_least=True)


def _kept(largest: int, retention_ms: int | None = None, too_early: str = "") -> dict[str, Demand]:
    demands = {
        "cleanup.policy": Demand("delete", "compaction removes every record but the newest of a key"),
        "max.message.bytes": _largest(largest),
    }
    if retention_ms is not None:
        demands["retention.ms"] = Demand(str(retention_ms), too_early, at_least=True)
        demands["retention.bytes"] = Demand("-1", too_early)
    return demands


def ensure_topics(config: Config) -> list[str]:
    """Creates missing topics and returns their names; several processes may call it at once.

    Logs a warning for each setting of an existing topic that would lose or refuse records, with the command that mends
    it. Raises TopicMismatch for a topic whose partitions do not match the kernel groups, TopicsFailed if the cluster
    refuses to create one.
    """
    wanted, replicas = topics(config), config.kafka.replication_factor
    with make_admin(config.kafka) as admin:
        existing = _replicas(admin.describe_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        for topic in missing:
            _create(admin, topic, replicas)
        existing = _replicas(admin.describe_topics([topic.name for topic in wanted]))
        warn_of_settings(admin, wanted, config.kafka.bootstrap)
    for topic in wanted:
        partitions = existing.get(topic.name, [])
        _check(topic, len(partitions))
        if min(partitions, default=replicas) < replicas:
            log.warning(
                "topic %s has partitions on %d of the kafka.replication_factor = %d brokers: what is lost with them is"
                " lost; move them with `kafka-reassign-partitions.sh --bootstrap-server %s`, or change the key",
                topic.name, min(partitions), replicas, config.kafka.bootstrap,
            )  # fmt: skip
    return [topic.name for topic in missing]


def _replicas(described: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Number of replicas of each partition, by topic."""
    return {
        str(topic["name"]): [len(partition["replica_nodes"]) for partition in topic["partitions"]]
        for topic in described
    }


def _create(admin: KafkaAdminClient, topic: Topic, replicas: int) -> None:
    configs = {name: demand.value for name, demand in topic.demands.items()} | dict(topic.tuning)
    settings = {"num_partitions": topic.partitions, "replication_factor": replicas, "configs": configs}
    try:
        admin.create_topics({topic.name: settings}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        admin.wait_for_topics([topic.name])  # another process has created it
    except KafkaError as error:
        raise TopicsFailed(
            f"Kafka did not create topic {topic.name!r} ({error}); check the rights of the user and"
            f" kafka.replication_factor = {replicas} against the number of brokers"
        ) from error


def warn_of_settings(admin: KafkaAdminClient, wanted: Sequence[Topic], bootstrap: str) -> None:
    """Logs a warning for each demand that a topic on the cluster does not meet."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in wanted]
    try:
        described = admin.describe_configs(resources, config_filter="all")["topic"]
    except KafkaError as error:
        # A cluster's owner may withhold the right to describe settings, which is no reason not to start.
        log.warning(
            "the settings of the topics cannot be checked (%s); docs/operations.md lists what they must be", error
        )
        return
    for topic in wanted:
        for name, demand in topic.demands.items():
            value = str(described.get(topic.name, {}).get(name, {}).get("value", demand.value))
            if not demand.met_by(value):
                log.warning(
                    "topic %s has %s = %s and must have %s: %s; mend it with `kafka-configs.sh --bootstrap-server %s"
                    " --alter --entity-type topics --entity-name %s --add-config %s=%s`",
                    topic.name, name, value, demand.wanted, demand.why,
                    bootstrap, topic.name, name, demand.value,
                )  # fmt: skip


def _check(topic: Topic, partitions: int) -> None:
    if partitions == topic.partitions:
        return
    if topic.fixed:
        raise TopicMismatch(
            f"topic {topic.name!r} has {partitions} partitions, {topic.partitions} kernel groups are configured, and"
            " each group is one partition; name other topics in the section `topics`, or configure as many groups"
        )
    log.info("topic %s has %d partitions (configured: %d); taken as it is", topic.name, partitions, topic.partitions)
