"""Ingest on the real broker and the real feature store."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from model.encoding.domain import Domain
from streaming.clients import make_producer
from streaming.config import Config, GroupConfig, IngestConfig
from streaming.events import (
    ItemEvent,
    ServedFeedback,
    UserEvent,
    decode_traffic,
    encode_event,
    encode_traffic,
)
from streaming.ingest import run_ingest
from streaming.ingest.reader import InteractionsReader
from streaming.topics import ensure_topics
from tests.streaming.ingest.running_ingest import PATIENCE_S, click, eventually, running


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
