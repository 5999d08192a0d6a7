"""Backbones on disk and kernels on the wire. Everything is checked before anything is used."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.backbone import BackboneShape, FoundationBackbone, fingerprint
from model.config import BackboneConfig, KernelConfig
from model.container import ContainerError, check_shapes, pack, unpack
from model.features import FeatureEncoder
from model.kernel import Kernel

__all__ = [
    "BackboneRefused",
    "KernelInfo",
    "KernelRefused",
    "LoadedBackbone",
    "fingerprint",
    "load_backbone",
    "pack_kernel",
    "save_backbone",
    "unpack_kernel",
]

FORMAT = 1
_TENSORS, _ENCODER, _CARD = "backbone.safetensors", "encoder.json", "card.json"


class BackboneRefused(Exception):
    """A saved backbone cannot be used; the message names what is wrong and the cure."""


class KernelRefused(Exception):
    """A kernel cannot be used."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        """One of fingerprint, shapes, contents, size, garbage."""


@dataclass(frozen=True)
class LoadedBackbone:
    """A frozen backbone with the encoder it was trained with."""

    backbone: FoundationBackbone
    encoder: FeatureEncoder
    card: dict[str, Any]
    """Configuration, vocabulary hash, data window, metrics, fingerprint."""


@dataclass(frozen=True)
class KernelInfo:
    """What travels with a kernel."""

    group: str
    version: int
    """0 is the identity; each published kernel is one more."""
    backbone_fingerprint: str
    newest_event_time: float
    """Event time of the newest example the kernel has learned from, seconds."""
    examples: int
    """Examples learned since birth."""


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
    _write(path / _TENSORS, pack(backbone.state_dict(), {"fingerprint": backbone.fingerprint}))
    _write(path / _ENCODER, json.dumps(encoder.to_json()).encode())
    _write(path / _CARD, json.dumps(full, indent=2, sort_keys=True).encode())


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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


def pack_kernel(kernel: Kernel, info: KernelInfo) -> bytes:
    """A kernel as bytes; equal kernels give equal bytes."""
    return pack(kernel.state_dict(), {"format": FORMAT, "kind": "kernel", **asdict(info)})


def unpack_kernel(
    data: bytes,
    *,
    fingerprint: str,
    config: KernelConfig,
    width: int,
    live_width: int,
    domain_sizes: tuple[int, int, int],
    trunk_width: int | None = None,
    max_bytes: int = 16 * 1024 * 1024,
) -> tuple[Kernel, KernelInfo]:
    """A new kernel, ready to answer (evaluation mode, no gradients). Raises KernelRefused; all is checked first."""
    if len(data) > max_bytes:
        raise KernelRefused("size", f"{len(data)} bytes, more than the {max_bytes} allowed")
    try:
        tensors, metadata = unpack(data)
    except ContainerError as error:
        reason = "contents" if "non-finite" in str(error) else "garbage"
        raise KernelRefused(reason, str(error)) from error
    try:
        if metadata.pop("kind") != "kernel" or metadata.pop("format") != FORMAT:
            raise KernelRefused("garbage", "not a kernel of this format")
        info = KernelInfo(**metadata)
    except (KeyError, TypeError) as error:
        raise KernelRefused("garbage", f"metadata: {error}") from error
    if info.backbone_fingerprint != fingerprint:
        raise KernelRefused(
            "fingerprint", f"made for backbone {str(info.backbone_fingerprint)[:12]}, this one is {fingerprint[:12]}"
        )
    kernel = Kernel(config, width=width, live_width=live_width, domain_sizes=domain_sizes, trunk_width=trunk_width)
    try:
        check_shapes(tensors, kernel.state_dict())
    except ContainerError as error:
        raise KernelRefused("shapes", str(error)) from error
    kernel.load_state_dict(tensors)
    kernel.requires_grad_(False).eval()
    return kernel, info
