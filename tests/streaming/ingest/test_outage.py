"""A broker outage in the middle of the stream loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from local.broker import LocalBroker
from local.demo.settings import child_environment, write_config
from local.watchdog import Watchdog
from streaming.clients import make_producer, quiet_client_logs
from streaming.config import Config, IngestConfig, KafkaConfig, TopicConfig
from streaming.events import FeedbackEvent, Progress, ServedFeedback, decode_event, decode_traffic
from streaming.topics import ensure_topics
from tests.streaming.ingest.running_ingest import Running, Topic, click, eventually, running

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, watchdog: Watchdog) -> Iterator[LocalBroker]:
    quiet_client_logs()
    kafka = LocalBroker(tmp_path_factory.mktemp("kafka"), cache_dir, watchdog=watchdog)
    kafka.start()
    yield kafka
    if kafka.running():
        kafka.stop()


@pytest.fixture
def config(tmp_path: Path, own_broker: LocalBroker, unique_topics: TopicConfig) -> Config:
    return Config(
        run_dir=tmp_path / "run",
        kafka=KafkaConfig(bootstrap=own_broker.address),
        topics=unique_topics,
        ingest=IngestConfig(metrics_port=0, max_poll=50, group_id=unique_topics.interactions),
    )


def ingest_process(config: Config) -> subprocess.Popen[bytes]:
    config.run_dir.mkdir(exist_ok=True)
    slow = config.model_copy(update={"ingest": config.ingest.model_copy(update={"max_poll": 5})})
    code = (
        "from streaming.config import load_config; from streaming.ingest import run_ingest; run_ingest(load_config())"
    )
    return subprocess.Popen([sys.executable, "-c", code], env=child_environment(slow, write_config(slow)))


def test_killing_and_restarting_the_broker_loses_nothing(
    config: Config, own_broker: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    with running(config) as ingest:
        ingest.send(*(click(f"a{n}") for n in range(300)))
        eventually("the stream has begun", ingest.feedback)
        own_broker.kill()
        away = ("has not answered for", "has not taken the last batch for")  # as it was reading, or writing
        eventually("ingest says that the broker is away", lambda: any(words in caplog.text for words in away))
        own_broker.start()
        ingest.send(*(click(f"b{n}") for n in range(50)), b"junk")
        wanted = {f"a{n}" for n in range(300)} | {f"b{n}" for n in range(50)}
        eventually("everything is routed", lambda: wanted <= set(ingest.feedback()))
        eventually("the dead letter too", ingest.letters)
        eventually("everything is committed", lambda: ingest.committed() == 351)
    assert ingest.exit_code == 0
    assert "Kafka is back" in caplog.text


def test_killing_ingest_loses_nothing_for_its_successor(config: Config) -> None:
    ensure_topics(config)
    sender = Running(config)
    process = ingest_process(config)
    try:
        sender.send(*(click(f"a{n}") for n in range(2_000)))
        eventually("the stream has begun", sender.feedback)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert sender.committed() < 2_000
    with running(config) as ingest:
        wanted = {f"a{n}" for n in range(2_000)}
        eventually("the rest is routed", lambda: wanted <= set(ingest.feedback()))


def test_progress_marks_never_claim_unwritten_records_however_often_ingest_is_killed(config: Config) -> None:
    ensure_topics(config)
    sender = Running(config)
    done = threading.Event()
    sent: list[str] = []

    def click_on() -> None:
        producer = make_producer(config.kafka)
        while not done.wait(0.02):
            sent.append(f"c{len(sent)}")
            producer.send(config.topics.interactions, click(sent[-1]), key=sent[-1].encode())
        producer.close()

    clicking = threading.Thread(target=click_on)
    clicking.start()
    try:
        for _ in range(2):
            seen, marked = len(sender.feedback()), len(marks(sender))
            process = ingest_process(config)
            try:
                eventually("it routes", partial(routed_beyond, sender, seen + 50))
                eventually("it marks", partial(marked_beyond, sender, marked + 5))
            finally:
                process.kill()
                process.wait()
            time.sleep(1.0)
    finally:
        done.set()
        clicking.join()
    with running(config) as ingest:
        eventually("everything is routed", lambda: set(sent) <= set(ingest.feedback()))
        end = max(record.timestamp for record in ingest._traffic.records) / 1_000
        eventually("marks pass the end", lambda: ingest.read_up_to() > end)
        check_marks(config, ingest)


def routed_beyond(sender: Running, number: int) -> bool:
    return len(sender.feedback()) > number


def marked_beyond(sender: Running, number: int) -> bool:
    return len(marks(sender)) > number


def marks(ingest: Running) -> list[Progress]:
    return [record for record in ingest.traffic() if isinstance(record, Progress) and record.read]


def check_marks(config: Config, ingest: Running) -> None:
    """Checks with the broker's timestamps that the records claimed by a mark precede it."""
    interactions = Topic(config, config.topics.interactions)
    eventually("all are read", lambda: len(interactions()) >= len(set(ingest.feedback())))
    appended = {
        (event.item_id, record.partition): record.timestamp / 1_000
        for record in interactions.records
        if isinstance(event := decode_event(record.value), FeedbackEvent)
    }
    written: set[str] = set()
    checked = 0
    for record in ingest._traffic.records:
        written_event = decode_traffic(record.value)
        if isinstance(written_event, ServedFeedback):
            written.add(written_event.item_id)
        elif isinstance(written_event, Progress):
            checked += 1
            read = written_event.read
            late = [item for (item, k), at in appended.items() if at < read.get(k, 0.0) and item not in written]
            assert not late, (read, late)
    assert checked > 10


def test_ingest_without_a_broker_reports_what_it_waits_for_and_ends_with_a_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from streaming.ingest import run_ingest

    config = Config(
        run_dir=tmp_path,
        kafka=KafkaConfig(bootstrap="127.0.0.1:1", startup_wait_s=0.3),
        ingest=IngestConfig(metrics_port=0),
    )
    assert run_ingest(config) == 1
    assert "waiting for Kafka on 127.0.0.1:1" in caplog.text and "driftline broker start" in caplog.text
