"""The backbone that a configuration names: every process opens it here, and checks it against its configuration."""

from __future__ import annotations

from model.backbone.checkpoint import LoadedBackbone, load_backbone
from streaming.config import Config


def open_backbone(config: Config) -> LoadedBackbone:
    """The backbone in `config.backbone_dir`, made by `backbone.factory` if that is set. Raises BackboneRefused."""
    return load_backbone(config.backbone_dir, config.input_schema(), config.backbone.factory)
