"""Topics on the real broker."""

from __future__ import annotations

import uuid

import pytest

from streaming.clients import make_admin, make_producer
from streaming.config import Config, GroupConfig, KafkaConfig
from streaming.topics import TopicMismatch, ensure_topics, topics


def test_missing_topics_are_created_once_and_a_second_call_changes_nothing(stream_config: Config) -> None:
    created = ensure_topics(stream_config)
    assert len(created) == len(stream_config.topics.names())
    assert ensure_topics(stream_config) == []


def test_internal_topics_have_one_partition_per_group(stream_config: Config) -> None:
    config = stream_config.model_copy(update={"groups": (GroupConfig(name="a"), GroupConfig(name="b"))})
    ensure_topics(config)
    with make_admin(config.kafka) as admin:
        names = config.topics
        counts = {t["name"]: len(t["partitions"]) for t in admin.describe_topics([names.traffic, names.kernels])}
    assert counts == {names.traffic: 2, names.kernels: 2}


def test_a_topic_with_another_number_of_partitions_is_refused_by_name(stream_config: Config) -> None:
    ensure_topics(stream_config)
    more = stream_config.model_copy(update={"groups": (GroupConfig(name="a"), GroupConfig(name="b"))})
    with pytest.raises(TopicMismatch, match=f"{more.topics.traffic}.*has 1 partitions.*2 kernel groups"):
        ensure_topics(more)


def test_more_partitions_of_the_external_topic_are_accepted(stream_config: Config) -> None:
    ensure_topics(stream_config)
    names = stream_config.topics.model_copy(update={"interactions_partitions": 7})
    assert ensure_topics(stream_config.model_copy(update={"topics": names})) == []


def test_created_topics_meet_every_requirement(stream_config: Config, caplog: pytest.LogCaptureFixture) -> None:
    ensure_topics(stream_config)
    ensure_topics(stream_config)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


BY_HAND = [
    ("kernels", "cleanup.policy", "delete", "must have compact"),
    ("kernels", "cleanup.policy", "compact,delete", "must have compact"),
    ("kernels", "max.message.bytes", "1048588", "must have at least 8388608"),
    ("state", "cleanup.policy", "delete", "must have compact"),
    ("state", "max.message.bytes", "1048588", "must have at least 8388608"),
    ("traffic", "cleanup.policy", "compact", "must have delete"),
    ("traffic", "retention.ms", "3600000", "must have at least 172800000"),
    ("traffic", "retention.bytes", "1000000", "must have -1"),
    ("traffic", "message.timestamp.type", "CreateTime", "must have LogAppendTime"),
    ("traffic", "max.message.bytes", "1048588", "must have at least 8388608"),
    ("interactions", "max.message.bytes", "1000", "must have at least 1048576"),
    ("interactions", "message.timestamp.type", "CreateTime", "must have LogAppendTime"),
    ("interactions", "cleanup.policy", "compact", "must have delete"),
    ("dead_letters", "max.message.bytes", "1048588", "must have at least 2097152"),
]


def test_a_manually_created_topic_is_warned_of_with_setting_value_and_the_correcting_command(
    stream_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    for topic, setting, value, wanted in BY_HAND:
        caplog.clear()
        config = renamed(stream_config)
        name = getattr(config.topics, topic)
        with make_admin(config.kafka) as admin:
            made = {"num_partitions": 2 if topic == "interactions" else 1, "replication_factor": 1}
            needed = {s: d.value for t in topics(config) if t.name == name for s, d in t.demands.items()}
            admin.create_topics({name: {**made, "configs": {**needed, setting: value}}}, wait_for_metadata=True)
        ensure_topics(config)
        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert f"topic {name} has {setting} = {value} and {wanted}" in warning
        assert f"--entity-name {name} --add-config {setting}=" in warning


def test_a_topic_with_longer_retention_than_configured_is_accepted(
    stream_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    broker_time = {"message.timestamp.type": "LogAppendTime"}
    more = {"retention.ms": "-1", "max.message.bytes": str(16 * 1024 * 1024), **broker_time}
    with make_admin(stream_config.kafka) as admin:
        made = {"num_partitions": 1, "replication_factor": 1, "configs": more}
        admin.create_topics({stream_config.topics.traffic: made}, wait_for_metadata=True)
    ensure_topics(stream_config)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_topic_with_fewer_replicas_than_configured_is_warned_of(
    stream_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_topics(stream_config)
    three = stream_config.model_copy(update={"kafka": stream_config.kafka.model_copy(update={"replication_factor": 3})})
    ensure_topics(three)
    name = three.topics.state
    warnings = [record.getMessage() for record in caplog.records if f"topic {name} has" in record.getMessage()]
    assert any("on 1 of the kafka.replication_factor = 3 brokers" in warning for warning in warnings)
    assert any("min.insync.replicas = 1 and must have at least 2" in warning for warning in warnings)


@pytest.mark.parametrize(("replicas", "wanted"), [(1, None), (2, None), (3, "2"), (5, "2")])
def test_with_three_replicas_two_brokers_must_acknowledge(replicas: int, wanted: str | None) -> None:
    config = Config(kafka=KafkaConfig(replication_factor=replicas))
    for topic in topics(config):
        demand = topic.demands.get("min.insync.replicas")
        assert (None if demand is None else demand.value) == wanted


def test_settings_that_lose_records_or_stop_with_one_dead_broker_do_not_meet_the_demands() -> None:
    for topic in topics(Config(kafka=KafkaConfig(replication_factor=3))):
        insync = topic.demands["min.insync.replicas"]
        assert [insync.met_by(value) for value in ("1", "2", "3", "-1")] == [False, True, False, False]
        assert insync.wanted == "at least 2 and at most 2"
        assert not topic.demands["unclean.leader.election.enable"].met_by("true")
    assert topics(Config(kafka=KafkaConfig(replication_factor=5)))[0].demands["min.insync.replicas"].met_by("4")


def test_the_time_of_a_record_is_that_of_the_broker(stream_config: Config) -> None:
    ensure_topics(stream_config)
    with make_producer(stream_config.kafka) as producer:
        for topic in (stream_config.topics.traffic, stream_config.topics.interactions):
            sent = producer.send(topic, b"x", partition=0, timestamp_ms=1_000).get(timeout=30)
            assert sent.timestamp > 1_700_000_000_000


def renamed(config: Config) -> Config:
    """The configuration with topics that do not exist."""
    prefix = uuid.uuid4().hex[:8]
    new = {key: f"{prefix}-{name}" for key, name in config.topics.names().items()}
    return config.model_copy(update={"topics": config.topics.model_copy(update=new)})
