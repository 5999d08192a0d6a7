"""The backbone that a configuration names: every process opens it here, and checks it against its configuration."""

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
    """A frozen backbone with all that was made with it, and the live features that belong to it."""

    backbone: FrozenBackbone
    encoder: FeatureEncoder
    start: KernelStart
    """What the kernels of the backbone start from."""
    layout: LiveLayout
    reference: Reference | None
    """What drift is measured against; None for a backbone that was kept without it."""
    depends_on: Mapping[str, Any]
    """What a kernel's weights depend on here (`model.kernel.compatibility`)."""
    query_aspects: tuple[str, ...] = ()
    """What the backbone knows a query by; empty for one that reads none."""

    def queries(self, config: FeatureConfig) -> QueryTexts | None:
        """What encodes queries for the backbone; None for one that reads none."""
        if not self.query_aspects:
            return None
        return QueryTexts(self.encoder, config, by_text="text" in self.query_aspects)


def open_backbone(config: Config) -> OpenedBackbone:
    """The backbone in `config.backbone_dir`, made by `backbone.factory` if that is set.

    Raises BackboneRefused, also where what its kernels start from is missing or made for other live features, and where
    a file is not the one that pretraining wrote.
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
    """Raises BackboneRefused if a file of a backbone is not as it was written.

    One that was saved by hand has no notes of its files; what `load_backbone` checks is all that is known then.
    """
    if not (folder / DIGESTS).is_file():
        return
    if changed := changed_files(folder):
        raise BackboneRefused(f"{folder}: {', '.join(changed)} changed after pretraining: {DAMAGED}")
