"""Ingest on the real broker and the real feature store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition

from model.encoding.domain import Domain
from streaming.clients import make_consumer, make_producer
from streaming.config import Config, GroupConfig, IngestConfig, JoinConfig
from streaming.events import (
    DeadLetter,
    FeedbackEvent,
    ItemEvent,
    Progress,
    ServedFeedback,
    Tick,
    Traffic,
    UserEvent,
    decode_traffic,
    encode_event,
    encode_traffic,
)
from streaming.ingest import run_ingest
from streaming.ingest.reader import InteractionsReader
from streaming.topics import ensure_topics

PATIENCE_S = 120.0


def eventually(what: str, holds: Callable[[], Any]) -> Any:
    """Waits until `holds` gives something true, and gives it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if outcome := holds():
            return outcome
        time.sleep(0.05)
    pytest.fail(f"never happened: {what}")


class Topic:
    """All records of a topic, read from its beginning again and again."""

    def __init__(self, config: Config, name: str) -> None:
        self._consumer = make_consumer(config.kafka)
        partitions = self._consumer.partitions_for_topic(name)
        assert partitions is not None
        self._consumer.assign([TopicPartition(name, p) for p in partitions])
        self.records: list[Any] = []

    def __call__(self) -> list[Any]:
        for records in self._consumer.poll(timeout_ms=100).values():
            self.records.extend(records)
        return self.records


class Running:
    """One ingest on a thread, and what it writes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stop = threading.Event()
        self.exit_code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self._traffic = Topic(config, config.topics.traffic)
        self._letters = Topic(config, config.topics.dead_letters)

    def _run(self) -> None:
        self.exit_code = run_ingest(self.config, self.stop)

    def send(self, *values: bytes | None) -> None:
        producer = make_producer(self.config.kafka)
        for value in values:
            producer.send(self.config.topics.interactions, value, key=b"k", headers=[("from", b"test")])
        producer.flush()
        producer.close()

    def traffic(self) -> list[Traffic]:
        return [decode_traffic(record.value) for record in self._traffic()]

    def feedback(self) -> list[str]:
        return [event.item_id for event in self.traffic() if isinstance(event, ServedFeedback)]

    def ticks(self) -> list[float]:
        return [event.time for event in self.traffic() if isinstance(event, Tick)]

    def read_up_to(self) -> float:
        """The time that marks claim for the slowest partition; 0 until they cover all."""
        newest: dict[int, float] = {}
        for mark in self.traffic():
            if isinstance(mark, Progress):
                newest |= {k: max(read, newest.get(k, 0.0)) for k, read in mark.read.items()}
        return min(newest.values()) if len(newest) == self.config.topics.interactions_partitions else 0.0

    def letters(self) -> list[DeadLetter]:
        return [msgspec.json.decode(record.value, type=DeadLetter) for record in self._letters()]

    def committed(self) -> int:
        names, group = self.config.topics, self.config.ingest_consumers
        consumer = make_consumer(self.config.kafka, group_id=group)
        try:
            partitions = [TopicPartition(names.interactions, p) for p in range(names.interactions_partitions)]
            return sum(consumer.committed(partition) or 0 for partition in partitions)
        finally:
            consumer.close(autocommit=False)


def damaged(_: bytes) -> bytes:
    raise RuntimeError("damaged")


def send_batch(config: Config, codec: str) -> list[int]:
    """Three clicks in one batch in partition 0; gives their offsets."""
    with make_producer(config.kafka, compression_type=codec, linger_ms=500) as producer:
        topic = config.topics.interactions
        sent = [producer.send(topic, click(f"{codec} {number}"), partition=0) for number in range(3)]
        producer.flush()
    return [future.get(timeout=0).offset for future in sent]


@contextmanager
def running(config: Config) -> Iterator[Running]:
    ensure_topics(config)
    ingest = Running(config)
    ingest.thread.start()
    try:
        yield ingest
    finally:
        ingest.stop.set()
        ingest.thread.join(PATIENCE_S)
        assert not ingest.thread.is_alive()


def click(item: str, **changes: Any) -> bytes:
    values: dict[str, Any] = {"request_id": "main.r1", "item_id": item, "time": time.time(), **changes}
    return encode_event(FeedbackEvent(**values))


@pytest.fixture
def config(stream_config: Config) -> Config:
    ingest = stream_config.ingest.model_copy(update={"idle_tick_s": 0.2})
    return stream_config.model_copy(update={"ingest": ingest, "join": JoinConfig(window_s=0.2, lateness_s=0.1)})


def test_feedback_profiles_and_ticks_are_routed_to_their_destinations(config: Config) -> None:
    from features.store.feature_store import FeatureStore

    with running(config) as ingest:
        now = time.time()
        ingest.send(
            encode_event(UserEvent("u1", now, {"age": 31.0, "gender": "F"})),
            encode_event(ItemEvent("i1", now, "", {"genres": ["Comedy"], "year": 1994.0})),
            click("i1", time=now),
        )
        eventually("the feedback is routed", lambda: ingest.feedback() == ["i1"])
        store = FeatureStore(config.features, config.run_dir)
        user = eventually("the user is stored", lambda: store.read_users(["u1"])[0])
        item = eventually("the item is stored", lambda: store.read_items(["i1"])[0])
        assert user is not None and dict(user.fields) == {"age": 31.0, "gender": "F"}
        assert item is not None and item.fields["year"] == 1994.0
        bound = now + 2 * (0.2 + 0.1) + 5.0
        eventually("event time is moved on beyond the window", lambda: max(ingest.ticks(), default=0) > now + 0.3)
        ticks = ingest.ticks()
        assert ticks == sorted(set(ticks)) and max(ticks) <= bound
    assert ingest.exit_code == 0


def test_every_invalid_record_becomes_a_complete_dead_letter_and_valid_records_continue(config: Config) -> None:
    bad = {
        b"{broken": "not_json",
        b"\xff\xfe": "not_json",
        b'{"event": "purchase", "time": 1}': "unknown_event",
        b'{"event": "feedback", "request_id": "main.r"}': "bad_shape",
        click("i", time=time.time() + 90_000): "future",
        click(""): "bad_id",
        click("i", request_id="elsewhere.1"): "no_group",
        b"": "empty",
    }
    with running(config) as ingest:
        ingest.send(
            *(value for pair in zip(bad, (click(f"good{i}") for i in range(len(bad))), strict=True) for value in pair)
        )
        ingest.send(None)
        letters = eventually("all letters", lambda: ingest.letters() if len(ingest.letters()) > len(bad) else None)
        eventually("all good ones", lambda: len(ingest.feedback()) == len(bad))
        assert sorted((letter.value, letter.reason) for letter in letters) == sorted([*bad.items(), (b"", "empty")])
        assert all(letter.topic == config.topics.interactions and letter.attempts == 1 for letter in letters)
        assert len({(letter.partition, letter.offset) for letter in letters}) == len(letters)
        record = ingest._letters.records[0]
        assert record.key == b"k" and ("from", b"test") in list(record.headers)
        eventually("all committed", lambda: ingest.committed() == 2 * len(bad) + 1)


def test_each_group_has_its_partition_by_request_id_first_and_domain_next(config: Config) -> None:
    groups = (GroupConfig(name="home", scene=("home",)), GroupConfig(name="rest"))
    with running(config.model_copy(update={"groups": groups})) as ingest:
        ingest.send(
            click("a", request_id="rest.1", domain=Domain(scene="home")),
            click("b", request_id="foreign", domain=Domain(scene="home")),
            click("c", request_id="home.2"),
            click("d", request_id="foreign", domain=Domain(scene="shop")),
        )
        eventually("all four", lambda: len(ingest.feedback()) == 4)
        partitions = {
            event.item_id: record.partition
            for record in ingest._traffic.records
            if isinstance(event := decode_traffic(record.value), ServedFeedback)
        }
    assert partitions == {"a": 1, "b": 0, "c": 0, "d": 1}


def test_a_duplicate_record_is_routed_twice_and_only_the_join_removes_it(config: Config) -> None:
    with running(config) as ingest:
        value = click("i1")
        ingest.send(value, value)
        eventually("both", lambda: ingest.feedback() == ["i1", "i1"])
        assert ingest.letters() == []


def test_feedback_after_many_refused_records_is_routed(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with running(config) as ingest:
        ingest.send(*(click("i", request_id="nobody.1") for _ in range(1_200)), click("good"))
        eventually("the good one is routed", lambda: ingest.feedback() == ["good"])
        eventually("all letters", lambda: len(ingest.letters()) == 1_200)
        assert ingest.thread.is_alive()
        eventually("the log says what to look at", lambda: "driftline dead-letters list" in caplog.text)
    assert ingest.exit_code == 0


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
def test_a_batch_is_read_in_every_compression_codec(config: Config, codec: str) -> None:
    with running(config) as ingest:
        send_batch(config, codec)
        eventually("all three are routed", lambda: ingest.feedback() == [f"{codec} {number}" for number in range(3)])
        assert ingest.letters() == []


def test_a_compressed_record_with_a_huge_key_is_dead_lettered_without_affecting_others(config: Config) -> None:
    with running(config) as ingest:
        producer = make_producer(config.kafka, compression_type="gzip", max_request_size=64 * 1024 * 1024)
        topic = config.topics.interactions
        producer.send(topic, click("huge key"), key=b"k" * 20_000_000, partition=0)
        producer.send(topic, b"junk", key=b"k" * 20_000_000, partition=0)
        producer.send(topic, b'{"event": "item"' + b" " * 20_000_000, partition=0)
        producer.close()
        ingest.send(click("good"))
        eventually("both clicks are routed", lambda: sorted(ingest.feedback()) == ["good", "huge key"])
        eventually("two letters", lambda: {letter.reason for letter in ingest.letters()} == {"not_json", "too_large"})
        (junk,) = (letter for letter in ingest.letters() if letter.reason == "not_json")
        assert junk.value == b"junk" and "key and headers of 20000000 bytes" in junk.detail and junk.cure
    assert ingest.exit_code == 0


def test_a_batch_that_cannot_be_decompressed_is_skipped_and_reported_by_its_offsets(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka.record.default_records.lz4_decode", damaged)
    with running(config) as ingest:
        ingest.send(click("before"))
        eventually("it is routed", lambda: ingest.feedback() == ["before"])
        spoilt, *_ = send_batch(config, "lz4")
        ingest.send(click("after"))
        eventually("what stands behind it is routed", lambda: ingest.feedback() == ["before", "after"])
        (letter,) = eventually("one letter", ingest.letters)
        assert (letter.reason, letter.partition, letter.offset) == ("unreadable", 0, spoilt)
        assert f"records {spoilt} to {spoilt + 2}" in letter.detail and "codec" in letter.cure
        eventually("all is committed", lambda: ingest.committed() == 5)
    with running(config) as again:
        again.send(click("later"))
        eventually("nothing is read twice", lambda: again.feedback() == ["before", "after", "later"])
        eventually("there is still one letter", again.letters)
        assert len(again.letters()) == 1


def test_clicks_and_marks_do_not_wait_for_slow_text_encoding_and_no_profile_is_lost(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from features.store.feature_store import FeatureStore
    from features.text import TextEncoder

    encoded, encode = threading.Event(), TextEncoder.encode

    def slow(encoder: TextEncoder, texts: Any, progress: Any = None) -> Any:
        assert encoded.wait(PATIENCE_S)
        return encode(encoder, texts, progress)

    monkeypatch.setattr(TextEncoder, "encode", slow)
    store = FeatureStore(config.features, config.run_dir)
    with running(config) as ingest:
        try:
            ingest.send(*(encode_event(ItemEvent(f"i{n}", time.time())) for n in range(1_500)), click("behind them"))
            eventually("the click is routed", lambda: ingest.feedback() == ["behind them"])
            sent = ingest._traffic.records[-1].timestamp / 1_000
            eventually("marks pass it", lambda: ingest.read_up_to() > sent)
            assert store.read_items(["i0"]) == [None]
        finally:
            encoded.set()
        eventually("the last item is stored", lambda: store.read_items(["i1499"])[0])
    assert ingest.exit_code == 0


def test_an_older_profile_does_not_replace_a_newer_one_in_the_real_store(config: Config) -> None:
    from features.store.feature_store import FeatureStore

    store, now = FeatureStore(config.features, config.run_dir), time.time()
    store.apply()
    with running(config) as ingest:
        ingest.send(encode_event(UserEvent("u", now, {"age": 40.0})))
        eventually("the newer is stored", lambda: store.read_users(["u"])[0])
        ingest.send(encode_event(UserEvent("u", now - 60.0, {"age": 20.0})), encode_event(UserEvent("v", now)))
        eventually("what came behind the older is stored", lambda: store.read_users(["v"])[0])
    (user,) = store.read_users(["u"])
    assert user is not None and user.fields["age"] == 40.0


def test_feedback_with_a_future_time_is_accepted_as_of_now(config: Config) -> None:
    with running(config) as ingest:
        ahead = time.time() + 61.0
        ingest.send(click("a", time=ahead))
        (served,) = eventually("it is routed", lambda: [e for e in ingest.traffic() if isinstance(e, ServedFeedback)])
        assert served.time < ahead - 1.0
        assert ingest.letters() == []


def test_ticks_follow_traffic_of_other_writers_however_old_it_is(config: Config) -> None:
    recorded = time.time() - 10_000
    with running(config) as ingest:
        producer = make_producer(config.kafka)
        producer.send(config.topics.traffic, encode_traffic(ServedFeedback("main.r", "i", recorded)), partition=0)
        producer.flush()
        eventually("the window ends", lambda: max(ingest.ticks(), default=0.0) > recorded + 0.3)
        assert min(ingest.ticks()) > recorded
        assert max(ingest.ticks()) <= recorded + 2 * (0.2 + 0.1) + 5.0
        producer.close()


def test_the_partitions_are_known_before_the_first_join(config: Config) -> None:
    ensure_topics(config)
    reader = InteractionsReader(config, config.ingest_consumers, threading.Event())
    try:
        known = reader.consumer._cluster.partitions_for_topic(config.topics.interactions)
    finally:
        reader.close()
    assert known == set(range(config.topics.interactions_partitions))


def test_a_second_ingest_continues_where_the_first_stopped(config: Config) -> None:
    with running(config) as first:
        first.send(click("a"))
        eventually("the first", lambda: first.feedback() == ["a"])
    with running(config) as second:
        second.send(click("b"))
        eventually("the second", lambda: second.feedback() == ["a", "b"])


def test_ingest_on_a_metrics_port_in_use_reports_it_and_ends(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    import socket

    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen()
        ingest = IngestConfig(group_id=config.ingest.group_id, metrics_port=sock.getsockname()[1])
        assert run_ingest(config.model_copy(update={"ingest": ingest})) == 1
    assert "metrics_port" in caplog.text
