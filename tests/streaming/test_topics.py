"""Topics on the real broker."""

from __future__ import annotations

import pytest

from streaming.clients import make_admin
from streaming.config import Config, GroupConfig
from streaming.topics import TopicMismatch, ensure_topics


def test_missing_topics_are_created_once_and_a_second_call_changes_nothing(stream_config: Config) -> None:
    created = ensure_topics(stream_config)
    assert len(created) == 5
    assert ensure_topics(stream_config) == []


def test_the_topics_of_a_group_have_one_partition_per_group(stream_config: Config) -> None:
    config = stream_config.model_copy(update={"groups": (GroupConfig(name="a"), GroupConfig(name="b"))})
    ensure_topics(config)
    with make_admin(config.kafka) as admin:
        names = config.topics
        found = {t["name"]: len(t["partitions"]) for t in admin.describe_topics([names.traffic, names.kernels])}
    assert found == {names.traffic: 2, names.kernels: 2}


def test_a_topic_with_another_number_of_partitions_is_refused_by_name(stream_config: Config) -> None:
    ensure_topics(stream_config)
    more = stream_config.model_copy(update={"groups": (GroupConfig(name="a"), GroupConfig(name="b"))})
    with pytest.raises(TopicMismatch, match=f"{more.topics.traffic}.*has 1 partitions.*2 kernel groups"):
        ensure_topics(more)


def test_more_partitions_of_the_outside_topic_are_taken_as_they_are(stream_config: Config) -> None:
    ensure_topics(stream_config)
    topics = stream_config.topics.model_copy(update={"interactions_partitions": 7})
    assert ensure_topics(stream_config.model_copy(update={"topics": topics})) == []
