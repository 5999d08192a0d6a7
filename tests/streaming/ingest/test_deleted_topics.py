"""Topics deleted while ingest runs: it reports which, and continues once they exist again."""

from __future__ import annotations

import threading

import pytest

from streaming.clients import make_admin, make_producer, missing_topics
from streaming.config import Config
from streaming.ingest.kafka_health import KafkaHealth
from streaming.ingest.reader import InteractionsReader
from streaming.ingest.service import Ingest
from streaming.topics import ensure_topics
from tests.streaming.ingest.running_ingest import Topic, click, eventually, running


def delete(config: Config, name: str) -> None:
    with make_admin(config.kafka) as admin:
        admin.delete_topics([name])
    eventually("it is gone", lambda: missing_topics(config.kafka, [name]) == [name])


def send(config: Config, *values: bytes) -> None:
    """All of one key, so that they lie in one partition."""
    with make_producer(config.kafka) as producer:
        for value in values:
            producer.send(config.topics.interactions, value, key=b"k")


@pytest.mark.parametrize("topic", ["interactions", "traffic", "dead_letters"])
def test_a_deleted_topic_is_reported_with_a_remedy_and_ingest_continues_once_it_is_recreated(
    stream_config: Config, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = getattr(stream_config.topics, topic)
    gone = f"has no topic '{name}' any more"
    with running(stream_config) as ingest:
        ingest.send(click("before"), b"junk")
        eventually("both are handled", lambda: ingest.committed() == 2)
        delete(stream_config, name)
        if topic != "interactions":
            ingest.send(click("meanwhile"), b"more junk")
        eventually("the log names the topic and the cure", lambda: gone in caplog.text)
        assert "driftline setup" in caplog.text
        ensure_topics(stream_config)
        ingest._traffic = Topic(stream_config, stream_config.topics.traffic)
        ingest._letters = Topic(stream_config, stream_config.topics.dead_letters)
        ingest.send(click("after"), b"last junk")
        eventually("the click is routed", lambda: "after" in ingest.feedback())
        eventually("the letter is written", lambda: b"last junk" in [letter.value for letter in ingest.letters()])
        eventually("Kafka counts as back", lambda: "Kafka is back" in caplog.text)
        if topic != "interactions":
            assert "meanwhile" in ingest.feedback()
    assert ingest.exit_code == 0


def test_a_recreated_topic_is_read_from_its_beginning_despite_a_valid_old_position(
    stream_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_topics(stream_config)
    name = stream_config.topics.interactions
    reader = InteractionsReader(stream_config, stream_config.ingest_consumers, threading.Event())
    read: list[bytes] = []

    def has_read(*values: bytes) -> bool:
        read.extend(record.value for record in reader.poll(100).records)
        return set(values) <= set(read)

    send(stream_config, b"old 1", b"old 2")
    eventually("both are read", lambda: has_read(b"old 1", b"old 2"))
    delete(stream_config, name)
    ensure_topics(stream_config)
    send(stream_config, b"new 1", b"new 2", b"new 3")
    eventually("all of the new topic is read", lambda: has_read(b"new 1", b"new 2", b"new 3"))
    assert "was deleted and created again" in caplog.text
    reader.close()


def test_a_member_without_partitions_is_healthy(stream_config: Config) -> None:
    with running(stream_config):
        spares = [Ingest(stream_config, threading.Event()) for _ in range(stream_config.topics.interactions_partitions)]
        made_at = [spare._kafka._answered for spare in spares]
        threads = [threading.Thread(target=spare.run) for spare in spares]
        for thread in threads:
            thread.start()
        try:
            eventually(
                "each has an answer",
                lambda: all(spare._kafka._answered > at for spare, at in zip(spares, made_at, strict=True)),
            )
            assert [spare._kafka.check() for spare in spares] == [None] * len(spares)
        finally:
            for spare, thread in zip(spares, threads, strict=True):
                spare._stopping.set()
                thread.join(60)


def test_health_reports_the_missing_topic_at_once(stream_config: Config) -> None:
    ensure_topics(stream_config)
    kafka = KafkaHealth(stream_config)
    delete(stream_config, stream_config.topics.traffic)
    assert kafka.check() is None
    kafka.failed("no leader")
    assert f"no topic '{stream_config.topics.traffic}'" in str(kafka.check())
    ensure_topics(stream_config)
    kafka.answered()
    assert kafka.check() is None
