"""Keys that ask for inputs which nothing brings yet are refused at every door, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.backbone.checkpoint import save_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.pretrain import pretrain_backbone
from model.backbone.schema import BackboneRefused
from model.backbone.shape import BackboneShape
from model.config import PretrainConfig
from streaming.backbone import open_backbone
from streaming.config import Config
from tests.model.conftest import SCHEMA, SIZES, SMALL, World

UNFED: dict[str, dict[str, Any]] = {
    "backbone.query_text": {"query_text": True},
}


@pytest.mark.parametrize("key", UNFED)
def test_the_configuration_refuses_a_key_that_nothing_feeds(key: str) -> None:
    with pytest.raises(ValidationError, match=rf"{key}: .* yet"):
        Config.model_validate({"backbone": UNFED[key]})


@pytest.mark.parametrize("key", UNFED)
def test_pretraining_refuses_a_key_that_nothing_feeds(key: str, world: World) -> None:
    config = SMALL.model_copy(update=UNFED[key])
    with pytest.raises(BackboneRefused, match=key):
        pretrain_backbone(
            world.examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=config,
            config=PretrainConfig(),
        )  # fmt: skip


@pytest.mark.parametrize("key", UNFED)
def test_a_saved_backbone_that_waits_for_such_inputs_is_not_opened(key: str, world: World, tmp_path: Path) -> None:
    config = SMALL.model_copy(update=UNFED[key])
    shape = BackboneShape.of(world.encoder, SIZES)
    backbone = FoundationBackbone(config, shape, world.encoder.digest).freeze()
    save_backbone(tmp_path, backbone, world.encoder, SCHEMA, {})
    domains = {facet: tuple(values) for facet, values in SCHEMA.domains.items()}
    features = {"user_fields": SCHEMA.user_fields, "item_fields": SCHEMA.item_fields, "text_model": SCHEMA.text_model}
    declared = Config.model_validate({"backbone_path": tmp_path, "domains": domains, "features": features})
    with pytest.raises(BackboneRefused, match=key):
        open_backbone(declared)
