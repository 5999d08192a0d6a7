"""A backbone of one scene's examples alone: what an old backbone must be better than."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.pretrain import pretrain
from model.backbone.report import PretrainReport
from model.config import PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures

_STEPS_PER_PASS, _SMALLEST_BATCH = 16, 16
"""As in a fine-tuning."""


def from_scratch(
    examples: Examples,
    users: Sequence[UserFeatures],
    items: Sequence[ItemFeatures],
    old: tuple[FoundationBackbone, FeatureEncoder],
    config: PretrainConfig,
) -> tuple[FoundationBackbone, FeatureEncoder, PretrainReport]:
    """A new backbone of the fields and sizes of an `old` one, with one scene more, which all `examples` have.

    Raises ValueError as `pretrain` does.
    """
    backbone, like = old
    encoder = FeatureEncoder.fit(
        [users[n] for n in np.unique(examples.user)],
        [items[n] for n in np.unique(examples.item)],
        user_fields=[field.spec for field in like.user_fields],
        item_fields=[field.spec for field in like.item_fields],
        text_width=like.text_width,
    )
    scenes, region, period = backbone.shape.domain_sizes
    batch = min(config.batch_size, max(_SMALLEST_BATCH, len(examples) // _STEPS_PER_PASS))
    made, report = pretrain(
        examples, users, items, encoder, domain_sizes=(scenes + 1, region, period), backbone=backbone.config,
        config=config.model_copy(update={"batch_size": batch, "content_steps": 0}),
    )  # fmt: skip
    return made, encoder, report
