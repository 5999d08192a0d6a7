"""Requests played straight into Kafka, on the real broker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import direct_play
from benchmarks.direct_play import Prepared, play_directly, prepare
from lab.streams.request import Request
from model.encoding.domain import Domain
from streaming.clients import make_consumer
from streaming.config import Config
from streaming.events import FeedbackEvent, ServedImpression, decode_event, decode_traffic
from streaming.topics import ensure_topics
from tests.streaming.scorer.scoring_parts import MadeUpFeatures, make_backbone


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


def _opened(monkeypatch: pytest.MonkeyPatch, texts: MadeUpFeatures, **backbone: Any) -> None:
    made = make_backbone(**backbone)
    opened = SimpleNamespace(backbone=made, encoder=None, layout=None, queries=lambda config: texts)
    monkeypatch.setattr(direct_play, "open_backbone", lambda config: opened)
    monkeypatch.setattr(direct_play, "FeatureStore", lambda config, folder: None)
    texts.backbone = made  # type: ignore[attr-defined]
    monkeypatch.setattr(direct_play, "Representer", lambda *parts, queries: queries)


def test_a_request_is_represented_with_its_query(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = MadeUpFeatures(make_backbone(), reads_queries=True)
    _opened(monkeypatch, texts)
    config = Config(run_dir=tmp_path)
    asked = [Request(0.0, "u", Domain(), ("a", "b"), (True, False), query=query) for query in ("war films", "")]
    searched, plain = prepare(config, asked)
    assert texts.asked == ["war films"]
    assert searched.impression.x != plain.impression.x


def test_a_backbone_with_a_conversion_task_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    _opened(monkeypatch, MadeUpFeatures(make_backbone()), tasks="ctr_ctcvr")
    with pytest.raises(ValueError, match=r"sends no conversions.*backbone\.tasks"):
        prepare(Config(), [])
