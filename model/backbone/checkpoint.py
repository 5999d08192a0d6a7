"""Backbones on disk: tensors, encoder and card in a folder. Everything is checked before anything is used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.backbone.custom import CustomBackbone, make_module
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone
from model.backbone.methods.method import SceneEntry
from model.backbone.methods.scenes import BackboneWithScenes, make_with_scenes
from model.backbone.probe import probe_batch
from model.backbone.schema import CARD, DAMAGED, FORMAT, BackboneRefused, InputSchema, check_card, read_json
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.container import ContainerError, check_shapes, pack, unpack
from model.encoding.features import FeatureEncoder
from model.whole_files import write_whole

__all__ = ["BackboneRefused", "LoadedBackbone", "load_backbone", "save_backbone"]

_TENSORS, _ENCODER = "backbone.safetensors", "encoder.json"
_PARAMETER, _PROBE = "module.", "probe."
_TOLERANCE = 1e-3
"""Allowed difference, as a share of the largest value, between what a custom backbone answers on this machine and what
it answered when it was pretrained, perhaps on another one."""


@dataclass(frozen=True)
class LoadedBackbone:
    """A frozen backbone with the encoder it was trained with."""

    backbone: FrozenBackbone
    encoder: FeatureEncoder
    config: BackboneConfig
    """What it was pretrained with."""
    card: dict[str, Any]
    """Configuration, input schema, vocabulary hash, data window, metrics, fingerprint."""


def save_backbone(
    path: Path, backbone: FrozenBackbone, encoder: FeatureEncoder, schema: InputSchema, card: Mapping[str, Any]
) -> None:
    """Writes the folder `path`: tensors, encoder and card. Files appear whole or not at all; the card comes last.

    `card` may hold any JSON (metrics, data window); the descriptions of the backbone and of its inputs are added. A
    custom backbone is loaded once from the files just written, so that one which keeps something outside of parameters
    and buffers is refused here and not in a serving process. Raises BackboneRefused.
    """
    if not isinstance(backbone, FoundationBackbone | CustomBackbone):
        raise BackboneRefused(f"a {type(backbone).__name__} cannot be saved: name what makes it in backbone.factory")
    if encoder.digest != backbone.encoder_digest:
        raise BackboneRefused("this encoder is not the one the backbone was trained with")
    if schema.space.sizes != backbone.shape.domain_sizes:
        raise BackboneRefused(
            f"the facets have {schema.space.sizes} values, the backbone was trained for {backbone.shape.domain_sizes}"
        )
    full = {
        **card,
        "format": FORMAT,
        "fingerprint": backbone.fingerprint,
        "encoder_digest": encoder.digest,
        "inputs": schema.to_json(),
        "backbone": {
            "config": backbone.config.model_dump(),
            "shape": backbone.shape.to_json(),
            "scenes": [entry.to_json() for entry in _entries(backbone)],
        },
    }
    tensors = _custom_tensors(backbone, encoder) if isinstance(backbone, CustomBackbone) else backbone.state_dict()
    path.mkdir(parents=True, exist_ok=True)
    (path / CARD).unlink(missing_ok=True)
    write_whole(path / _TENSORS, pack(tensors, {"fingerprint": backbone.fingerprint}))
    write_whole(path / _ENCODER, json.dumps(encoder.to_json()).encode())
    write_whole(path / CARD, json.dumps(full, indent=2, sort_keys=True).encode())
    if isinstance(backbone, CustomBackbone):
        try:
            load_backbone(path, schema, backbone.config.factory)
        except BackboneRefused:
            (path / CARD).unlink(missing_ok=True)
            raise


def load_backbone(path: Path, schema: InputSchema, factory: str = "") -> LoadedBackbone:
    """Opens the frozen backbone of a folder. Every process and the lab use this function and no other.

    `schema` is what the configuration declares, `factory` its `backbone.factory`. Raises BackboneRefused if a file is
    missing, foreign, torn or changed, if the backbone was made for other inputs, or by another factory.
    """
    card = check_card(path, schema)
    encoder_json = read_json(path / _ENCODER)
    try:
        encoder = FeatureEncoder.from_json(encoder_json)
        config = BackboneConfig(**card["backbone"]["config"])
        shape = BackboneShape.from_json(card["backbone"]["shape"])
        if encoder.digest != card["encoder_digest"]:
            raise BackboneRefused(f"{path}: the vocabularies were changed after pretraining")
        _check_kind(path, config, factory)
        tensors, _ = unpack((path / _TENSORS).read_bytes())
        if factory:
            backbone: CustomBackbone | FoundationBackbone = _custom(config, shape, encoder, tensors, factory)
        else:
            entries = [SceneEntry.from_json(entry) for entry in card["backbone"].get("scenes", [])]
            backbone = _foundation(config, shape, encoder, tensors, entries)
    except BackboneRefused:
        raise
    except Exception as error:  # a damaged file fails wherever its value is first used
        raise BackboneRefused(f"{path}: {type(error).__name__}: {error}: {DAMAGED}") from error
    if backbone.fingerprint != card.get("fingerprint"):
        raise BackboneRefused(
            f"{path}: fingerprint {backbone.fingerprint[:12]} is not the card's: the files do not belong together"
            + (f", or {factory} makes another module than at pretraining" if factory else "")
        )
    return LoadedBackbone(backbone, encoder, config, card)


def _check_kind(path: Path, config: BackboneConfig, factory: str) -> None:
    """Raises BackboneRefused unless configuration and card name the same factory.

    The code to run comes from the configuration alone, because a copied folder must not choose it.
    """
    if config.factory and not factory:
        raise BackboneRefused(
            f"{path} holds a backbone of {config.factory}: set backbone.factory for every process, or pretrain again"
        )
    if factory and not config.factory:
        raise BackboneRefused(
            f"backbone.factory is {factory}, but {path} holds the foundation model: pretrain again, or leave it empty"
        )


def _entries(backbone: FrozenBackbone) -> Sequence[SceneEntry]:
    """The scenes that have parameters of their own."""
    return backbone.entries if isinstance(backbone, BackboneWithScenes) else ()


def _foundation(
    config: BackboneConfig,
    shape: BackboneShape,
    encoder: FeatureEncoder,
    tensors: dict[str, Tensor],
    entries: Sequence[SceneEntry],
) -> FoundationBackbone:
    """Our own architecture with the stored parameters. Raises ContainerError if they do not fit."""
    backbone = make_with_scenes(config, shape, encoder.digest, entries)
    check_shapes(tensors, backbone.state_dict())
    backbone.load_state_dict(tensors)
    return backbone.freeze()


def _custom(
    config: BackboneConfig, shape: BackboneShape, encoder: FeatureEncoder, tensors: dict[str, Tensor], factory: str
) -> CustomBackbone:
    """Your own module with the stored parameters. Raises BackboneRefused unless it answers as it did at pretraining."""
    config = config.model_copy(update={"factory": factory})
    with torch.random.fork_rng(devices=[]):  # the random start of the parameters is overwritten
        module = make_module(config, shape)
    parameters = {name.removeprefix(_PARAMETER): t for name, t in tensors.items() if name.startswith(_PARAMETER)}
    try:
        check_shapes(parameters, {name: t for name, t in module.state_dict().items() if isinstance(t, Tensor)})
    except ContainerError as error:
        raise BackboneRefused(f"{factory} makes another module than at pretraining: {error}; pretrain again") from error
    try:
        module.load_state_dict(parameters)
    except Exception as error:
        raise BackboneRefused(f"{factory}: load_state_dict() fails: {type(error).__name__}: {error}") from error
    backbone = CustomBackbone(module, config, shape, encoder)
    for name, value in _answers(backbone, encoder).items():
        if not _close(value, tensors[name]):
            raise BackboneRefused(
                f"{factory}: {name.removeprefix(_PROBE)}() gives other values than at pretraining for the same "
                "parameters: was the code changed, does it read a file or the clock, or does it learn something that "
                "is no parameter or buffer? Pretrain again"
            )
    return backbone


def _custom_tensors(backbone: CustomBackbone, encoder: FeatureEncoder) -> dict[str, Tensor]:
    """Parameters and buffers of the module, with its answers to the probe: the code itself is not saved, so its
    answers are what tells a changed one."""
    parameters = {f"{_PARAMETER}{name}": tensor for name, tensor in backbone.module.state_dict().items()}
    return parameters | _answers(backbone, encoder)


@torch.no_grad()
def _answers(backbone: CustomBackbone, encoder: FeatureEncoder) -> dict[str, Tensor]:
    probe = probe_batch(encoder, backbone.shape.domain_sizes, backbone.config)
    x = backbone.represent(probe)
    answers = {"represent": x, "predict": backbone.predict(x, probe.domain), "content": backbone.content(probe)}
    return {f"{_PROBE}{name}": value for name, value in answers.items()}


def _close(answer: Tensor, saved: Tensor) -> bool:
    return answer.shape == saved.shape and torch.allclose(
        answer, saved, rtol=0, atol=_TOLERANCE * max(float(saved.abs().max()), _TOLERANCE)
    )
