"""Opens the configured backbone. Every process uses this module, which also checks it against the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.config import FeatureConfig
from features.live.layout import Crossing, LiveLayout
from features.queries import QueryTexts
from model.backbone.checkpoint import load_backbone
from model.backbone.interface import FrozenBackbone
from model.backbone.schema import DAMAGED, BackboneRefused
from model.drift.kept_reference import read_reference
from model.drift.reference import Reference
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import ItemValues
from model.kernel.compatibility import dependencies
from model.kernel.start import KernelStart
from model.whole_files import DIGESTS, changed_files
from streaming.config import Config


@dataclass(frozen=True)
class OpenedBackbone:
    """A frozen backbone with the encoder and kernel start made with it, and its live features."""

    backbone: FrozenBackbone
    encoder: FeatureEncoder
    start: KernelStart
    """The initial state of the backbone's kernels."""
    layout: LiveLayout
    reference: Reference | None
    """The drift reference; None if the backbone's folder has none."""
    depends_on: Mapping[str, Any]
    """The settings that a kernel's weights depend on (`model.kernel.compatibility`)."""
    query_aspects: tuple[str, ...] = ()
    """The aspects by which the backbone knows a query; empty if it reads none."""

    def queries(self, config: FeatureConfig) -> QueryTexts | None:
        """An encoder of queries for the backbone; None if it reads none."""
        if not self.query_aspects:
            return None
        return QueryTexts(self.encoder, config, by_text="text" in self.query_aspects)


def open_backbone(config: Config) -> OpenedBackbone:
    """The backbone in `config.backbone_dir`, made by `backbone.factory` if that is set.

    Raises BackboneRefused, also if the kernel start is missing or was made for other live features, or if a file has
    changed since pretraining.
    """
    check_files(config.backbone_dir)
    loaded = load_backbone(config.backbone_dir, config.input_schema(), config.backbone.factory)
    start = KernelStart.load(config.backbone_dir, conversions=loaded.backbone.has_conversion)
    space = config.domain_space()
    crossing = Crossing.of(ItemValues(loaded.encoder), space)
    layout = LiveLayout.of(config.live, loaded.backbone.content_width, crossing, loaded.config.history)
    start.check_live(layout.names)
    reference = read_reference(config.backbone_dir, loaded.backbone.fingerprint)
    return OpenedBackbone(
        loaded.backbone, loaded.encoder, start, layout, reference, dependencies(start, space.sizes),
        loaded.config.query_aspects,
    )  # fmt: skip


def check_files(folder: Path) -> None:
    """Raises BackboneRefused if a file of the backbone has changed since it was written.

    A folder saved by hand has no stored digests and is not checked here; `load_backbone` checks what it can.
    """
    if not (folder / DIGESTS).is_file():
        return
    if changed := changed_files(folder):
        raise BackboneRefused(f"{folder}: {', '.join(changed)} changed after pretraining: {DAMAGED}")
