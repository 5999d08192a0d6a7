"""Trains base and baselines on the first half of a stream and measures them, frozen, on the live half."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lab.backbone_training import encoded_items, train_backbone
from lab.bases.baselines import BASELINES
from lab.bases.halves import Halves
from lab.bases.presets import BASES, Base
from lab.represented import represent_pairs
from lab.streams.fit import fitted
from lab.streams.recording import Recording
from model.backbone.checkpoint import LoadedBackbone, load_backbone
from model.backbone.interface import FrozenBackbone
from model.evaluation import auc, calibration, grouped_auc, log_loss, sigmoid
from streaming.config import Config


@dataclass(frozen=True)
class BaseRow:
    """Measures of one base or baseline on one stream."""

    name: str
    about: str
    auc: float
    request_auc: float
    log_loss: float
    calibration: float


def compare_bases(config: Config, recording: Recording, seed: int) -> Iterator[BaseRow]:
    """Yields every base, then every baseline, as soon as it is measured.

    Raises StreamError, TextModelUnavailableError or TextWidthError.
    """
    torch.set_num_threads(1)
    config, halves = fitted(config, recording.catalogue), None
    for name, make in BASES.items():
        base = make()
        loaded = _trained(config, base, recording, seed)
        if halves is None:
            items = encoded_items(config, recording, lambda _done, _all: None)
            halves = Halves.of(recording, loaded.encoder, items)
        yield _measure(name, base.about, halves, _frozen_logits(loaded.backbone, halves))
    assert halves is not None
    for name, baseline in BASELINES.items():
        yield _measure(name, baseline.about, halves, baseline.logits(halves, seed))


def _trained(config: Config, base: Base, recording: Recording, seed: int) -> LoadedBackbone:
    pretrain = base.pretrain.model_copy(update={"seed": base.pretrain.seed + seed})
    config = config.model_copy(update={"backbone": base.backbone, "pretrain": pretrain})
    with tempfile.TemporaryDirectory() as folder:
        train_backbone(config, recording, Path(folder), lambda _done, _all: None, lambda _at: None)
        return load_backbone(Path(folder), config.input_schema())


def _frozen_logits(backbone: FrozenBackbone, halves: Halves) -> NDArray[np.float64]:
    """Click logits of the live half, as they are served."""
    test = halves.test
    pairs = represent_pairs(
        backbone, test.profiles, test.user.numpy(), test.item.numpy(), test.domain.numpy(), test.past
    )
    return pairs.frozen_logit.astype(np.float64)


def _measure(name: str, about: str, halves: Halves, logits: NDArray[np.float64]) -> BaseRow:
    label, rate = halves.test.label.numpy(), sigmoid(logits)
    return BaseRow(
        name,
        about,
        auc(label, logits),
        grouped_auc(label, logits, halves.request),
        log_loss(label, rate),
        calibration(label, rate),
    )
