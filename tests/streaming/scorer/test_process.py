"""`driftline serve` as a process: real store, real broker, a small backbone; its start, its end, its clear errors."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from kafka import TopicPartition

from features.profiles import UserProfile
from features.store.feature_store import FeatureStore
from local.demo.settings import child_environment, free_ports, write_config
from model.backbone.checkpoint import BackboneRefused, save_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures
from streaming.clients import make_consumer
from streaming.config import Config
from streaming.events import ServedImpression, decode_traffic
from streaming.scorer.run import run_scorer
from tests.streaming.small_start import save_start

USER = "somebody"
ASK = {"user_id": USER, "candidates": ["a", "b", "c"], "domain": {"scene": "home", "period": "night"}, "top_k": 2}


def _save_small_backbone(config: Config) -> str:
    """Writes an untrained backbone where the scorer looks for it; its fingerprint."""
    torch.manual_seed(0)
    encoder = FeatureEncoder.fit(
        [UserFeatures("u", {"age": 30.0})],
        [ItemFeatures("a", {"year": 1999.0}, torch.zeros(6).numpy())],
        user_fields=config.features.user_fields,
        item_fields=config.features.item_fields,
        text_width=6,
    )
    sizes = BackboneConfig(width=8, id_width=4, sparse_width=4, text_width=6, content_width=4)
    backbone = FoundationBackbone(
        sizes, BackboneShape.of(encoder, config.domain_space().sizes), encoder.digest
    ).freeze()
    save_backbone(config.backbone_dir, backbone, encoder, config.input_schema(), {})
    save_start(config, backbone, encoder)
    return backbone.fingerprint


@contextmanager
def _serving(config: Config) -> Iterator[subprocess.Popen[bytes]]:
    config.run_dir.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("driftline")), "serve"]
    environment = child_environment(config, write_config(config))
    with (config.run_dir / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _on_port(config: Config, port: int, metrics_port: int = 0) -> Config:
    ports = {"port": port, "metrics_port": metrics_port}
    return config.model_copy(update={"scorer": config.scorer.model_copy(update=ports)})


@pytest.mark.slow
def test_a_scorer_becomes_ready_scores_and_delivers_its_impressions_before_it_ends(stream_config: Config) -> None:
    port, metrics_port = free_ports(2)
    config = _on_port(stream_config, port, metrics_port)
    fingerprint = _save_small_backbone(config)
    _write_profile(config, USER)
    with _serving(config) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        while not _ready(client):
            assert process.poll() is None, (config.run_dir / "serve.log").read_text()
            time.sleep(0.1)
        answer = client.post("/v1/score", json=ASK)
        assert answer.status_code == 200, answer.text
        metrics = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", trust_env=False).text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (config.run_dir / "serve.log").read_text()
    with make_consumer(config.kafka) as consumer:
        consumer.assign([TopicPartition(config.topics.traffic, 0)])
        records = (decode_traffic(record.value) for record in consumer)  # ticks too, by which it sets its clock
        impression = next(record for record in records if isinstance(record, ServedImpression))
    assert impression.fingerprint == fingerprint
    assert impression.items == [score["item_id"] for score in answer.json()["scores"]]
    missing = 'driftline_feature_defaults_total{reason="missing",view="item_profile"} 3.0'
    assert missing in metrics, "the warm-up's made-up items must not count"
    assert 'driftline_feature_found_total{view="user_profile"} 1.0' in metrics
    assert 'driftline_feature_filled_total{field="age",view="user_profile"} 1.0' in metrics


def _write_profile(config: Config, user_id: str) -> None:
    store = FeatureStore(config.features, config.run_dir)
    store.apply()
    store.write_users([UserProfile(user_id, 1.0, {"age": 30.0})])


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_without_a_backbone_a_scorer_ends_at_once_with_a_remedy_and_frees_its_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(BackboneRefused, match="pretrain a backbone first"):
        run_scorer(_on_port(Config(run_dir=tmp_path / "run"), port))
    socket.create_server(("127.0.0.1", port)).close()
