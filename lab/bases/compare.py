"""Trains base and baselines on the first half of a stream and measures them, frozen, on the live half."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.config import LiveConfig
from features.text import TextEncoder
from lab.bases.baselines import BASELINES
from lab.bases.halves import Halves
from lab.bases.presets import BASES, Base
from lab.evaluate.prepare import EvaluationConfig, Pretrained, pretrain_on
from lab.streams import Stream
from lab.streams.sources import Source
from model.backbone.interface import FrozenBackbone, round_representation
from model.evaluation import auc, calibration, grouped_auc, log_loss, sigmoid

_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Measured:
    """One base or baseline on one stream."""

    name: str
    about: str
    auc: float
    request_auc: float
    log_loss: float
    calibration: float


def measured(source: Source, seed: int, cache_dir: Path, archive: Path | None = None) -> Iterator[Measured]:
    """Every base, then every baseline, as they are done; `archive` is a copy of MovieLens 100K.

    Raises StreamError, DataUnavailableError or TextModelUnavailableError.
    """
    torch.set_num_threads(1)
    stream = source.open(seed, cache_dir, archive=archive)
    halves: Halves | None = None
    for name, make in BASES.items():
        pretrained = _pretrained(stream, make(), seed, cache_dir)
        halves = halves or Halves.of(stream, pretrained)
        yield _measure(name, make.__doc__ or "", halves, _frozen_logits(pretrained.backbone, halves))
    assert halves is not None
    for name, baseline in BASELINES.items():
        yield _measure(name, baseline.about, halves, baseline.logits(halves, seed))


def _pretrained(stream: Stream, base: Base, seed: int, cache_dir: Path) -> Pretrained:
    fixed = EvaluationConfig(
        base.backbone,
        base.pretrain,
        LiveConfig(),
        requests_per_second=1.0,
        join_s=0.0,
        batch_examples=1,
        rehearsal_steps=0,
    )
    return pretrain_on(stream, fixed, partial(_texts, cache_dir, base.backbone.text_width), seed)


def _texts(cache_dir: Path, width: int, texts: Sequence[str]) -> NDArray[np.float32]:
    if not any(text.strip() for text in texts):
        return np.zeros((len(texts), width), dtype=np.float32)
    return TextEncoder(cache_dir=cache_dir).encode(texts)


@torch.no_grad()
def _frozen_logits(backbone: FrozenBackbone, halves: Halves) -> NDArray[np.float64]:
    """Click logits of the live half as they are served: of the representation that was rounded."""
    parts = []
    for index in torch.split(torch.arange(len(halves.test)), _ROWS_AT_ONCE):
        batch = halves.test.batch(index)
        parts.append(backbone.predict(round_representation(backbone.represent(batch)), batch.domain)[:, 0])
    return torch.cat(parts).numpy().astype(np.float64)


def _measure(name: str, about: str, halves: Halves, logits: NDArray[np.float64]) -> Measured:
    label, rate = halves.test.label.numpy(), sigmoid(logits)
    return Measured(
        name,
        about.split(":", maxsplit=1)[0].rstrip("."),
        auc(label, logits),
        grouped_auc(label, logits, halves.request),
        log_loss(label, rate),
        calibration(label, rate),
    )
