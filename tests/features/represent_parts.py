"""A store, a real untrained backbone and what represents requests from both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from features.config import FeatureConfig, LiveConfig
from features.live.features import LiveFeatures, LiveLayout
from features.live.layout import Crossing, Floats
from features.live.outcome import RequestOutcome
from features.profiles import ItemProfile, UserProfile
from features.represent import Representer
from features.represented import Represented
from features.store.feature_store import FeatureStore
from features.text import TextEncoder
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import ItemValues
from tests.features.conftest import Clock, Counting, Counts

HERE = Domain("home", "north", "night")
ITEMS = [f"i{n}" for n in range(12)]


@dataclass
class Parts:
    """All that a scorer or the ingest holds."""

    store: FeatureStore
    representer: Representer
    live: LiveFeatures
    clock: Clock


def outcome(shown: Represented, items: list[str], residual: Floats, time: float) -> RequestOutcome:
    """What the user did with what was shown: a click wherever the frozen model was too low."""
    click = (residual > 0).astype(np.float32)
    return RequestOutcome("u", HERE, items, shown.content.numpy(), shown.values, click, residual, time)


def fitted_encoder(store: FeatureStore) -> FeatureEncoder:
    """An encoder fitted to the user and the first ten items of the store."""
    users = [user for user in store.read_users(["u"]) if user]
    items = [item for item in store.read_items(ITEMS[:10]) if item]
    fields = store.config
    return FeatureEncoder.fit(
        users, items, user_fields=fields.user_fields, item_fields=fields.item_fields, text_width=384
    )


def make_parts(folder: Path, counts: Counts, text_encoder: TextEncoder) -> Parts:
    """The parts with one user and `ITEMS` in a store in `folder`."""
    store = FeatureStore(FeatureConfig(), folder, Counting(counts), text=text_encoder)
    store.apply()
    store.write_users([UserProfile("u", 1.0, {"age": 30.0, "gender": "F", "occupation": "artist"})])
    store.write_items([
        ItemProfile(item, 1.0, f"film {item}", {"genres": ["Drama"], "year": 1990.0 + n})
        for n, item in enumerate(ITEMS)
    ])  # fmt: skip
    space = DomainSpace({"scene": ["home"], "region": ["north"], "period": ["night"]})
    encoder = fitted_encoder(store)
    torch.manual_seed(3)
    backbone = FoundationBackbone(BackboneConfig(), BackboneShape.of(encoder, space.sizes), encoder.digest)
    torch.nn.init.normal_(backbone.content_map)
    backbone.freeze()
    config = LiveConfig(half_lives_s=(2.0, 100.0))
    layout = LiveLayout.of(config, backbone.content_width, Crossing.of(ItemValues(encoder), space))
    clock = Clock()
    return Parts(
        store, Representer(backbone, encoder, store, layout, space, now=clock), LiveFeatures(layout, config), clock
    )
