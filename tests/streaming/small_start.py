"""What small kernels start from, without a pretraining: real compression and descriptor, of made-up knowledge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from features.live.first_rows import write_first_rows
from features.live.layout import Crossing, LiveLayout
from model.backbone.interface import FrozenBackbone
from model.config import KernelConfig
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import ItemValues
from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor
from model.kernel.features import FeatureMap
from model.kernel.learner import prior_precision
from model.kernel.start import KernelStart
from streaming.config import Config

DEFAULTS = KernelConfig()


def small_start(width: int, live_names: Sequence[str], *, residuals: int, values: int, seed: int = 0) -> KernelStart:
    """A start for representations of `width` that separate eight groups, and items with `values` values."""
    random = np.random.default_rng(seed)
    group = np.arange(200) % 8
    x = (random.normal(size=(8, width))[group] + 0.5 * random.normal(size=(200, width))).astype(np.float32)
    hot = (random.random((30, values)) < 0.5).astype(np.float64)
    features = FeatureMap(
        Compression.fit(x, group, beta=DEFAULTS.beta, rank=2),
        Descriptor.fit(hot, random.normal(size=30).astype(np.float32)),
        residuals,
        len(live_names) - residuals,
    )
    identity = features.identity()
    return KernelStart(
        features.compression,
        features.descriptor,
        live_names=tuple(live_names),
        residuals=residuals,
        mean=identity,
        direct_mean=identity[: features.direct],
        precision=torch.diag(prior_precision(features)),
        examples=0,
    )


def start_of(layout: LiveLayout, width: int, seed: int = 0) -> KernelStart:
    """For the live features of `layout` and a backbone of `width`."""
    return small_start(width, layout.names, residuals=layout.residual_width, values=layout.crossing.values, seed=seed)


def save_start(config: Config, backbone: FrozenBackbone, encoder: FeatureEncoder) -> None:
    """Writes the files of pretraining for a backbone saved by a test; no live row is known yet."""
    crossing = Crossing.of(ItemValues(encoder), config.domain_space())
    layout = LiveLayout.of(config.live, backbone.content_width, crossing)
    start = start_of(layout, backbone.width)
    if backbone.has_conversion:
        start = replace(start, conversion=start_of(layout, backbone.width, seed=1))
    start.save(config.backbone_dir)
    for group in config.groups:
        write_first_rows(config.backbone_dir, group.name, config.domains_of(group.name), [])
