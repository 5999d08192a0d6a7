"""What a representer keeps between requests, for how long, and of which text encoder."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
import torch

from features.config import FeatureConfig
from features.live.layout import Floats
from features.profiles import ItemProfile, UserProfile
from features.queries import QueryTexts
from features.text import TextEncoder
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures
from tests.features.represent_parts import HERE, Parts


def test_profiles_are_cached_for_their_lifetime_and_then_read_again(parts: Parts) -> None:
    old = parts.representer.represent("u", ["i0"], HERE, 10.0).x
    parts.store.write_users([UserProfile("u", 2.0, {"gender": "F"})])
    parts.store.write_items([ItemProfile("i0", 2.0, "another film", {"genres": ["Drama"]})])
    assert torch.equal(parts.representer.represent("u", ["i0"], HERE, 10.0).x, old)
    parts.clock.now = 6.0
    newer = parts.representer.represent("u", ["i0"], HERE, 10.0)
    assert not torch.equal(newer.x, old)
    parts.clock.now = 61.0
    newest = parts.representer.represent("u", ["i0"], HERE, 10.0)
    assert not torch.equal(newest.content, newer.content)


def test_a_new_item_is_known_soon_although_it_was_requested_before(parts: Parts) -> None:
    unknown = parts.representer.represent("u", ["new"], HERE, 10.0).content
    parts.store.write_items([ItemProfile("new", 2.0, "a new film", {"genres": ["Drama"]})])
    parts.clock.now = 6.0
    assert not torch.equal(parts.representer.represent("u", ["new"], HERE, 10.0).content, unknown)
    unknown = parts.representer.represent("u", ["newer"], HERE, 10.0).content
    parts.store.write_items([ItemProfile("newer", 2.0, "a newer film", {"genres": ["Drama"]})])
    parts.representer.forget()
    assert not torch.equal(parts.representer.represent("u", ["newer"], HERE, 10.0).content, unknown)


def test_text_vectors_of_another_model_are_ignored_and_logged(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def narrow(ids: list[str], now: float | None = None) -> list[ItemFeatures]:
        return [ItemFeatures(key, {}, np.ones(7, dtype=np.float32)) for key in ids]

    monkeypatch.setattr(parts.store, "read_items", narrow)
    represented = parts.representer.represent("u", ["a", "b"], HERE, 10.0)
    assert torch.isfinite(represented.x).all()
    assert caplog.text.count("have width 7") == 1


def test_a_querys_text_is_encoded_once(text_encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FeatureEncoder.fit([], [], user_fields=(), item_fields=(), text_width=text_encoder.width)
    queries = QueryTexts(encoder, FeatureConfig(), by_text=True)
    calls: list[str] = []

    def encode(texts: list[str]) -> Floats:
        calls.extend(texts)
        return text_encoder.encode(texts)

    monkeypatch.setattr(queries._text, "encode", encode)
    first, again, other = (queries.encode(text) for text in ("war films", "war films", "peace"))
    assert first is again and calls == ["war films", "peace"]
    assert np.linalg.norm(first.text) == pytest.approx(1.0, rel=1e-3)
    assert not np.array_equal(first.text, other.text)


def test_the_reported_size_of_a_cache_is_its_memory_use(parts: Parts) -> None:
    items = [f"stranger {number}" for number in range(3_000)]
    representer = parts.representer
    representer.represent("u", ["warm"], HERE, 0.0)
    representer.forget()
    gc.collect()
    tracemalloc.start()
    try:
        for start in range(0, len(items), 100):
            representer._profiles.items(items[start : start + 100])
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert representer._profiles._unknown.bytes == pytest.approx(traced, rel=0.25)
