"""Backbones on disk. Everything is checked before anything is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.backbone.foundation import BackboneShape, FoundationBackbone
from model.config import BackboneConfig
from model.container import ContainerError, check_shapes, pack, unpack
from model.encoding.features import FeatureEncoder
from model.whole_files import write_whole

FORMAT = 1
_TENSORS, _ENCODER, _CARD = "backbone.safetensors", "encoder.json", "card.json"


class BackboneRefused(Exception):
    """A saved backbone cannot be used; the message names what is wrong and the cure."""


@dataclass(frozen=True)
class LoadedBackbone:
    """A frozen backbone with the encoder it was trained with."""

    backbone: FoundationBackbone
    encoder: FeatureEncoder
    card: dict[str, Any]
    """Configuration, vocabulary hash, data window, metrics, fingerprint."""


def save_backbone(path: Path, backbone: FoundationBackbone, encoder: FeatureEncoder, card: Mapping[str, Any]) -> None:
    """Writes the folder `path`: tensors, encoder and card. Files appear whole or not at all; the card comes last.

    `card` may hold anything JSON (metrics, data window); the description of the backbone is added.
    """
    if encoder.digest != backbone.encoder_digest:
        raise BackboneRefused("this encoder is not the one the backbone was trained with")
    path.mkdir(parents=True, exist_ok=True)
    full = {
        **card,
        "format": FORMAT,
        "fingerprint": backbone.fingerprint,
        "encoder_digest": encoder.digest,
        "backbone": backbone.description(),
    }
    (path / _CARD).unlink(missing_ok=True)
    write_whole(path / _TENSORS, pack(backbone.state_dict(), {"fingerprint": backbone.fingerprint}))
    write_whole(path / _ENCODER, json.dumps(encoder.to_json()).encode())
    write_whole(path / _CARD, json.dumps(full, indent=2, sort_keys=True).encode())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BackboneRefused(f"no file {path}: pretrain a backbone first, or point to the folder of one") from None
    except (OSError, ValueError) as error:
        raise BackboneRefused(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise BackboneRefused(f"{path}: not a JSON object")
    return data


def load_backbone(path: Path) -> LoadedBackbone:
    """The frozen backbone of a folder. Raises BackboneRefused if a file is missing, foreign, torn or changed."""
    card, encoder_json = _read_json(path / _CARD), _read_json(path / _ENCODER)
    if card.get("format") != FORMAT:
        raise BackboneRefused(f"{path}: format {card.get('format')!r}, this version reads {FORMAT}")
    try:
        encoder = FeatureEncoder.from_json(encoder_json)
        description = card["backbone"]
        config = BackboneConfig(**description["config"])
        shape = BackboneShape.from_json(description["shape"])
        if encoder.digest != card["encoder_digest"]:
            raise BackboneRefused(f"{path}: the vocabularies were changed after pretraining")
        backbone = FoundationBackbone(config, shape, encoder.digest)
        tensors, _ = unpack((path / _TENSORS).read_bytes())
        check_shapes(tensors, backbone.state_dict())
    except (KeyError, TypeError, ValidationError, ContainerError, OSError) as error:
        raise BackboneRefused(f"{path}: {type(error).__name__}: {error}") from error
    backbone.load_state_dict(tensors)
    backbone.freeze()
    if backbone.fingerprint != card.get("fingerprint"):
        raise BackboneRefused(
            f"{path}: fingerprint {backbone.fingerprint[:12]} is not the card's: the files do not belong together"
        )
    return LoadedBackbone(backbone, encoder, card)
