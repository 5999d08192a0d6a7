"""Requests played straight into Kafka, on the real broker."""

from __future__ import annotations

import numpy as np

from benchmarks.direct_play import Prepared, play_directly
from model.encoding.domain import Domain
from streaming.clients import make_consumer
from streaming.config import Config
from streaming.events import FeedbackEvent, ServedImpression, decode_event, decode_traffic
from streaming.topics import ensure_topics


def prepared(user: str, items: list[str], *clicked: str) -> Prepared:
    logits = np.zeros(len(items), dtype="<f4").tobytes()
    served = ServedImpression("", 0.0, user, Domain(), items, "print", 0, "live", b"", b"", b"", b"", logits, logits)
    return Prepared(0, "main", served, clicked)


def read(config: Config, topic: str, count: int) -> list[bytes]:
    values: list[bytes] = []
    with make_consumer(config.kafka, topic) as consumer:
        while len(values) < count:
            values += [record.value for part in consumer.poll(timeout_ms=500).values() for record in part]
    return values


def test_impressions_go_to_their_group_and_clicks_to_ingest_under_the_same_request(stream_config: Config) -> None:
    ensure_topics(stream_config)
    played = play_directly(stream_config, [prepared("a", ["i1", "i2"], "i2"), prepared("b", ["i3"])])
    assert (played.requests, played.items, played.clicks) == (2, 3, 1)
    first, second = (decode_traffic(value) for value in read(stream_config, stream_config.topics.traffic, 2))
    click = decode_event(read(stream_config, stream_config.topics.interactions, 1)[0])
    assert isinstance(first, ServedImpression)
    assert isinstance(second, ServedImpression)
    assert isinstance(click, FeedbackEvent)
    assert (click.request_id, click.item_id) == (first.request_id, "i2")
    assert first.request_id.startswith("main.")
    assert first.request_id != second.request_id
    assert played.began_at <= first.time <= second.time
