"""Impressions that another system scored, on the real broker, store and backbone."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from streaming.config import Config, IngestConfig
from streaming.dead_letters import replay
from streaming.events import ImpressionEvent, ServedImpression, encode_event
from streaming.ingest import external_impressions
from tests.streaming.ingest.running_ingest import click, eventually, running


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A small pretrained backbone."""
    from features.profiles import ItemProfile, UserProfile
    from lab.pretraining import pretrained_backbone
    from lab.streams.logged.movielens import MovieLens, Rating
    from lab.streams.logged.movielens_stream import movielens_stream
    from lab.streams.recording import Recording
    from model.config import PretrainConfig

    folder = tmp_path_factory.mktemp("backbone")
    (cache_dir / "text").mkdir(parents=True, exist_ok=True)
    (folder / "text").symlink_to(cache_dir / "text")
    data = MovieLens(
        users=[UserProfile(f"u{n}", 0.0, {"age": 20.0 + n}) for n in range(5)],
        items=[ItemProfile(f"i{n}", 0.0, "", {"year": 1990.0 + n}) for n in range(7)],
        ratings=[Rating(float(t), f"u{t % 5}", f"i{t % 7}", 5.0 if t % 3 else 1.0) for t in range(200)],
        regions={f"u{n}": f"zip{n}" for n in range(5)},
    )
    config = Config(cache_dir=folder, pretrain=PretrainConfig(epochs=1, batch_size=32))
    return pretrained_backbone(config, Recording(movielens_stream(data), "a small shop"), Console(quiet=True))


def test_without_a_backbone_an_impression_is_dead_lettered_and_its_replay_has_frozen_scores(
    stream_config: Config, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab.pretraining import install_backbone
    from streaming.backbone import open_backbone

    ingest_config = IngestConfig(group_id=stream_config.ingest.group_id, metrics_port=0)
    config = stream_config.model_copy(update={"ingest": ingest_config})
    monkeypatch.setattr(external_impressions, "_TRY_EVERY_S", 0.0)
    with running(config) as ingest:
        now = time.time()
        shown = ImpressionEvent("elsewhere-1", now, "u1", ["i1", "unknown", "i3"])
        ingest.send(encode_event(shown), click("i1", request_id="elsewhere-1", domain=shown.domain))
        (letter,) = eventually("a letter", ingest.letters)
        assert letter.reason == "not_represented" and str(config.backbone_dir) in letter.detail
        eventually("the click does not wait for it", lambda: ingest.feedback() == ["i1"])
        install_backbone(backbone, config.backbone_dir)
        assert replay(config, reason="not_represented").sent == 1
        (served,) = eventually(
            "the impression is logged", lambda: [e for e in ingest.traffic() if isinstance(e, ServedImpression)]
        )
        eventually("all are committed", lambda: ingest.committed() == 3)
    loaded = open_backbone(config).backbone
    assert (served.request_id, served.time, served.user_id, served.items) == ("elsewhere-1", now, "u1", shown.items)
    assert (served.fingerprint, served.kernel_version) == (loaded.fingerprint, 0)
    assert served.array("x").shape == (3, loaded.width)
    assert served.array("content").shape == (3, loaded.content_width)
    assert served.live_logit == served.frozen_logit
    assert np.isfinite(served.array("frozen_logit")).all() and served.array("live").shape[0] == 3
