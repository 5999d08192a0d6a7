"""The backbone that a configuration names: every process opens it here, and checks it against its configuration."""

from __future__ import annotations

from model.backbone.checkpoint import BackboneRefused, LoadedBackbone, load_backbone
from streaming.config import Config


def open_backbone(config: Config) -> LoadedBackbone:
    """The backbone in `config.backbone_dir`, made by `backbone.factory` if that is set.

    Raises BackboneRefused, also where the kernel of `config` cannot sit on it.
    """
    loaded = load_backbone(config.backbone_dir, config.input_schema(), config.backbone.factory)
    if config.kernel.plug != "before" and loaded.trunk_width is None:
        raise BackboneRefused(
            f"kernel.plug is {config.kernel.plug!r}, but the backbone in {config.backbone_dir} has no trunk() and "
            'head(): set it to "before", or give the module both and a trunk_width'
        )
    return loaded
