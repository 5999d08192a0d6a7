"""Every process compares the backbone's card with its configuration when it starts, before it waits for anything."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from local.demo.collect import backbone_fingerprint
from local.demo.settings import free_ports
from model.backbone.checkpoint import BackboneRefused, save_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.own import OwnBackbone, make_module
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.features import FeatureEncoder, ItemFeatures, UserFeatures
from streaming.backbone import open_backbone
from streaming.config import Config
from streaming.ingest import run_ingest
from streaming.scorer.run import run_scorer


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration with a small backbone that was made for it."""
    (port,) = free_ports(1)
    own = Config.model_validate({"run_dir": tmp_path, "scorer": {"port": port}, "ingest": {"metrics_port": 0}})
    encoder = FeatureEncoder.fit(
        [UserFeatures("u", {"age": 30.0})],
        [ItemFeatures("a", {"year": 1999.0}, np.zeros(6, dtype=np.float32))],
        user_fields=own.features.user_fields,
        item_fields=own.features.item_fields,
        text_width=6,
    )
    sizes = BackboneConfig(width=8, id_width=4, sparse_width=4, text_width=6, content_width=4)
    shape = BackboneShape.of(encoder, own.domain_space().sizes)
    backbone = FoundationBackbone(sizes, shape, encoder.digest).freeze()
    save_backbone(own.backbone_dir, backbone, encoder, own.input_schema(), {})
    return own


@pytest.fixture
def changed(config: Config) -> Config:
    """The same with a scene that was added after pretraining."""
    scenes = config.domains.model_copy(update={"scene": ("home", "kids")})
    return config.model_copy(update={"domains": scenes})


REFUSAL = r"domains\.scene has 'kids', which pretraining did not know: take the change back, or pretrain again"


def test_the_configuration_of_the_pretraining_opens_it(config: Config) -> None:
    assert open_backbone(config).backbone.fingerprint == backbone_fingerprint(config)


def test_a_kernel_behind_the_trunk_is_refused_for_a_backbone_without_one(tmp_path: Path, config: Config) -> None:
    source = """
from torch import nn


class Own(nn.Module):
    def __init__(self, text_width):
        super().__init__()
        self.net, self.out = nn.Linear(text_width, 4), nn.Linear(4, 1)

    def represent(self, batch):
        return self.net(batch.text)

    def predict(self, x, domain):
        return self.out(x)


def make(config, shape):
    return Own(config.text_width)
"""
    (tmp_path / "own.py").write_text(source)
    factory = f"{tmp_path / 'own.py'}:make"
    backbone = config.backbone.model_copy(update={"factory": factory, "text_width": 6})
    encoder = FeatureEncoder.fit(
        [], [], user_fields=config.features.user_fields, item_fields=config.features.item_fields, text_width=6
    )
    shape = BackboneShape.of(encoder, config.domain_space().sizes)
    module = OwnBackbone(make_module(backbone, shape), backbone, shape, encoder)
    save_backbone(config.backbone_dir, module, encoder, config.input_schema(), {})
    for plug in ("after", "both"):
        kernel = config.kernel.model_copy(update={"plug": plug})
        with pytest.raises(BackboneRefused, match=rf"kernel\.plug is '{plug}'.*set it to \"before\""):
            open_backbone(config.model_copy(update={"backbone": backbone, "kernel": kernel}))
    assert open_backbone(config.model_copy(update={"backbone": backbone})).trunk_width is None


def test_processor_and_demo_refuse_it_by_the_key(changed: Config) -> None:
    for opened in (open_backbone, backbone_fingerprint):
        with pytest.raises(BackboneRefused, match=REFUSAL):
            opened(changed)


def test_the_scorer_refuses_it_by_the_key(changed: Config) -> None:
    with pytest.raises(BackboneRefused, match=REFUSAL):
        run_scorer(changed)


def test_ingest_refuses_it_by_the_key_although_it_needs_no_backbone_yet(
    changed: Config, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        assert run_ingest(changed) == 1
    assert "domains.scene has 'kids', which pretraining did not know" in caplog.text
