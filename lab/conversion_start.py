"""The start of conversion kernels, computed from the pretraining log by the code for clicks.

Examples are the clicked items, labelled by whether they converted; the frozen logit is that of CVR.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from features.live.features import LiveFeatures
from lab.kernel_start import PretrainingLog, kernel_start
from model.backbone.dataset import ProfileTable
from model.backbone.interface import FrozenBackbone
from model.config import KernelConfig
from model.encoding.features import FeatureBatch
from model.kernel.start import KernelStart


class ConversionView:
    """A backbone whose first logit is that of a conversion once clicked."""

    has_conversion = False

    def __init__(self, backbone: FrozenBackbone) -> None:
        self._backbone = backbone
        self.width, self.content_width = backbone.width, backbone.content_width
        self.fingerprint = backbone.fingerprint

    def represent(self, batch: FeatureBatch) -> Tensor:
        """The backbone's representation of each row, `(n, d)`."""
        return self._backbone.represent(batch)

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        """Logits of CVR and CTR, `(n, 2)`."""
        return self._backbone.predict(x, domain).flip(1)

    def content(self, batch: FeatureBatch) -> Tensor:
        """The backbone's content vector of each row, `(n, c)`."""
        return self._backbone.content(batch)


def clicked_log(log: PretrainingLog) -> PretrainingLog:
    """The clicks of the pretraining log, labelled by whether they converted."""
    assert log.examples.conversion is not None  # the task was refused without
    clicked = log.examples.select(np.flatnonzero(log.examples.label > 0))
    assert clicked.conversion is not None
    return replace(log, examples=replace(clicked, label=clicked.conversion))


def conversion_start(
    log: PretrainingLog,
    live: LiveFeatures,
    pretrained: tuple[FrozenBackbone, ProfileTable],
    config: KernelConfig,
) -> KernelStart:
    """The start of a kernel of conversions. It begins at the frozen CVR, because there is no model held out from the
    log.

    Counts the log's clicks into `live`, which must be empty.
    """
    backbone, profiles = pretrained
    return kernel_start(
        clicked_log(log), live, (ConversionView(backbone), profiles), np.zeros(0, dtype=np.float32), config
    )
