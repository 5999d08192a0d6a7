"""Text vectors: the same text, the same vector, whatever the text."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from features.text import DEFAULT_MODEL, TextEncoder, TextModelUnavailableError


class CountingNetwork:
    """Replaces the language model and counts the texts it gets."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        self.asked += texts
        return np.array([[float(len(text)), 1.0, 0.5] for text in texts])

    def get_embedding_dimension(self) -> int:
        return 3


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> CountingNetwork:
    counting = CountingNetwork()
    monkeypatch.setattr(TextEncoder, "_load", lambda _self: counting)
    return counting


def test_similar_titles_are_nearer_than_dissimilar_titles(text_encoder: TextEncoder) -> None:
    vectors = text_encoder.encode(["Star Wars", "The Empire Strikes Back, a Star Wars film", "Sense and Sensibility"])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-4)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_a_text_is_computed_once_and_then_read_from_the_disk(tmp_path: Path, network: CountingNetwork) -> None:
    first = TextEncoder(cache_dir=tmp_path).encode(["a", "bb", "a"])
    again = TextEncoder(cache_dir=tmp_path).encode(["bb", "a"])
    assert sorted(network.asked) == ["a", "bb"]
    assert first[[1, 0]].tobytes() == again.tobytes()
    assert TextEncoder(cache_dir=tmp_path).width == 3


def test_models_do_not_share_vectors(tmp_path: Path, network: CountingNetwork) -> None:
    TextEncoder(cache_dir=tmp_path).encode(["a"])
    TextEncoder("some-other-model", cache_dir=tmp_path).encode(["a"])
    assert network.asked == ["a", "a"]


def test_an_empty_or_blank_text_is_a_zero_vector_without_calling_the_model(network: CountingNetwork) -> None:
    assert not TextEncoder().encode(["", "  \n"]).any()
    assert network.asked == []
    assert TextEncoder().encode([]).shape == (0, 3)


def test_a_long_text_is_cut_and_counted(network: CountingNetwork) -> None:
    encoder = TextEncoder(max_text=10)
    encoder.encode(["x" * 100_000, "short"])
    assert sorted(map(len, network.asked)) == [5, 10]
    assert encoder.cut == 1


def test_unusual_characters_are_encoded_by_the_real_model(text_encoder: TextEncoder) -> None:
    vectors = text_encoder.encode(["\ud800", "\x00", "🎬" * 50, "日本語のタイトル"])
    assert np.isfinite(vectors).all()


def test_progress_counts_what_was_not_cached(tmp_path: Path, network: CountingNetwork) -> None:
    encoder = TextEncoder(cache_dir=tmp_path)
    encoder.encode(["a"])
    seen: list[tuple[int, int]] = []
    encoder.encode([f"text {n}" for n in range(300)] + ["a"], lambda done, total: seen.append((done, total)))
    assert seen == [(256, 300), (300, 300)]
    assert len(network.asked) == 301


def test_a_broken_cache_is_logged_and_not_used(
    tmp_path: Path, network: CountingNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    TextEncoder(cache_dir=tmp_path).encode(["a"])
    (broken,) = (tmp_path / "text").glob("*.sqlite")
    for path in (tmp_path / "text").iterdir():
        path.write_bytes(b"rubbish" * 1_000)
    with caplog.at_level(logging.WARNING):
        assert TextEncoder(cache_dir=tmp_path).encode(["a"]).any()
    assert str(broken) in caplog.text
    assert "delete it" in caplog.text
    assert network.asked == ["a", "a"]


@pytest.mark.slow
def test_a_missing_model_is_reported_with_its_name_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TextModelUnavailableError, match=f"(?s)no-such-model.*{DEFAULT_MODEL}"):
        TextEncoder(str(tmp_path / "no-such-model")).encode(["a"])
