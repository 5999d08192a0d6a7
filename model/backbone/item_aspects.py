"""A check that the configured `backbone.item_aspects` can tell the items of a catalogue apart."""

from __future__ import annotations

from collections.abc import Sequence

from model.backbone.schema import BackboneRefused
from model.config import BackboneConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures

_MISSING = {"text": "no item has a text", "sparse": "no item field is declared (features.item_fields)"}


def ensure_distinguishable(config: BackboneConfig, encoder: FeatureEncoder, items: Sequence[ItemFeatures]) -> None:
    """Raises BackboneRefused if no configured aspect holds any data: every item would then look the same."""
    there = {"id": True, "text": any(item.text.any() for item in items), "sparse": bool(encoder.item_fields)}
    if not any(there[aspect] for aspect in config.item_aspects):
        why = " and ".join(_MISSING[aspect] for aspect in config.item_aspects)
        raise BackboneRefused(
            f"backbone.item_aspects is {', '.join(config.item_aspects)}, but {why}: every item would be the same to "
            "the backbone; name id too"
        )
