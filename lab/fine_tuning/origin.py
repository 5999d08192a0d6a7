"""The backbone that a new scene starts from: opened under the configuration it was made for, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from model.backbone.checkpoint import load_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.schema import BackboneRefused, InputSchema, read_card
from model.config import BackboneConfig
from model.encoding.features import FeatureEncoder
from streaming.backbone import check_files
from streaming.config import Config


class TransferRefused(BackboneRefused):
    """A backbone cannot be fine-tuned like that; the message names what is wrong and the cure."""


@dataclass(frozen=True)
class OldBackbone:
    """An old backbone, as fine-tuning takes it."""

    backbone: FoundationBackbone
    encoder: FeatureEncoder
    config: BackboneConfig
    click_rate: float
    """Click rate of the examples it was pretrained on."""
    lineage: list[dict[str, object]]
    """Its history: the cards' entries of earlier fine-tunings, oldest first."""


def ensure_comparable(backbone: BackboneConfig, unfit: Mapping[str, str]) -> None:
    """Raises TransferRefused, with the reason, for a key of `unfit` that is not at its default."""
    for key, why in unfit.items():
        value = getattr(backbone, key)
        if value != BackboneConfig.model_fields[key].default:
            raise TransferRefused(f"backbone.{key} is {value!r}, but {why}: leave it out for this comparison")


def open_origin(config: Config, folder: Path, scene: str) -> OldBackbone:
    """The backbone in `folder`, which `scene` is to be added to. `config` declares that scene, as the last.

    Raises TransferRefused, or BackboneRefused as for any backbone that cannot be opened.
    """
    card = read_card(folder)
    factory = config.backbone.factory or _text(card, "backbone", "config", "factory")
    if factory:
        raise TransferRefused(
            f"{folder}: fine-tuning knows the layers of the foundation model, and this is a backbone of {factory}: "
            "give a foundation backbone to --from, and leave backbone.factory empty"
        )
    check_files(folder)
    loaded = load_backbone(folder, _schema_without(config, card, folder, scene))
    assert isinstance(loaded.backbone, FoundationBackbone)
    rate = card.get("pretrain", {}).get("click_rate")
    if not isinstance(rate, float) or not math.isfinite(rate):
        raise TransferRefused(f"{folder}: its card tells no click rate (pretrain.click_rate): pretrain it again")
    return OldBackbone(loaded.backbone, loaded.encoder, loaded.config, rate, list(card.get("lineage", [])))


def _schema_without(config: Config, card: dict[str, object], folder: Path, scene: str) -> InputSchema:
    """The configured input schema without the new scene. Raises TransferRefused."""
    declared, schema = config.domains.scene, config.input_schema()
    known = _names(card)
    if scene in known:
        raise TransferRefused(
            f"{folder} knows the scene {scene!r} already (it has {', '.join(known)}): fine-tuning adds a new one"
        )
    if scene not in declared:
        raise TransferRefused(
            f"scene {scene!r} is not declared: add it to domains.scene as the last, "
            f"scene = [{', '.join(repr(value) for value in (*declared, scene))}]"
        )
    if declared[-1] != scene:
        raise TransferRefused(
            f"scene {scene!r} must be the last of domains.scene, for the others keep their numbers: "
            f"scene = [{', '.join(repr(value) for value in (*(v for v in declared if v != scene), scene))}]"
        )
    return replace(schema, domains={**schema.domains, "scene": declared[:-1]})


def _names(card: dict[str, object]) -> list[str]:
    try:
        return list(card["inputs"]["domains"]["scene"])  # type: ignore[index]
    except (KeyError, TypeError):
        return []  # a damaged card, which is reported when the backbone is opened


def _text(card: object, *keys: str) -> str:
    for key in keys:
        card = card.get(key, "") if isinstance(card, dict) else ""
    return str(card)
