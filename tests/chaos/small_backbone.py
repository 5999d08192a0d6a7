"""A small backbone that is right: users click as its frozen logits say, so a kernel can only do harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from model.backbone.checkpoint import save_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures
from streaming.config import Config
from tests.streaming.small_start import save_start

USERS = tuple(f"u{number}" for number in range(60))
ITEMS = tuple(f"i{number}" for number in range(150))
_TEXT_WIDTH, _WIDTH = 6, 8
_NO_TEXT = np.zeros(_TEXT_WIDTH, dtype=np.float32)
LOGIT_MEAN, LOGIT_SPREAD = -1.0, 1.3
"""Of the frozen arm over all users and items: about three of ten items shown are clicked, and users differ."""


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def save_small_backbone(config: Config) -> None:
    """Writes an untrained backbone of known users and items where the processes look for it."""
    encoder = FeatureEncoder.fit(
        [UserFeatures(user, {"age": 20.0 + index}) for index, user in enumerate(USERS)],
        [
            ItemFeatures(item, {"year": 1950.0 + index}, torch.zeros(_TEXT_WIDTH).numpy())
            for index, item in enumerate(ITEMS)
        ],
        user_fields=config.features.user_fields,
        item_fields=config.features.item_fields,
        text_width=_TEXT_WIDTH,
    )
    sizes = BackboneConfig(
        tasks=config.backbone.tasks,
        width=_WIDTH,
        id_width=4,
        sparse_width=4,
        text_width=_TEXT_WIDTH,
        content_width=4,
        target_statistics=False,
    )
    with _seeded(0):
        backbone = FoundationBackbone(sizes, BackboneShape.of(encoder, config.domain_space().sizes), encoder.digest)
        _spread(backbone, encoder, config)
    backbone.freeze()
    save_backbone(config.backbone_dir, backbone, encoder, config.input_schema(), {})
    save_start(config, backbone, encoder)


@torch.no_grad()
def _spread(backbone: FoundationBackbone, encoder: FeatureEncoder, config: Config) -> None:
    """Gives the click logits the mean and spread above."""
    assert backbone.item_table is not None
    for table in (backbone.user_table, backbone.item_table):
        table.weight.normal_(std=1.0)
    facets = config.domain_space().encode(next(iter(config.domain_space().domains())))
    items = [encoder.encode_item(ItemFeatures(item, {}, _NO_TEXT)) for item in ITEMS]
    logits = []
    for user in USERS:
        batch = encoder.batch(encoder.encode_user(UserFeatures(user, {})), items, facets)
        logits.append(backbone.eval().predict(backbone.represent(batch), batch.domain)[:, 0])
    every = torch.cat(logits)
    last = backbone.towers.nets[0][-1]  # type: ignore[index]
    scale = LOGIT_SPREAD / every.std()
    last.weight.mul_(scale)
    last.bias.sub_(every.mean()).mul_(scale).add_(LOGIT_MEAN)
