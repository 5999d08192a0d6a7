"""A small kernel and its batches, without a backbone."""

from __future__ import annotations

from typing import Any

import torch

from model.config import LearnerConfig
from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner
from model.kernel.start import KernelStart
from tests.model.conftest import SIZES, kernel_start, labelled, random_inputs

PRINT = "f" * 64
WIDTH = 16
START = kernel_start(WIDTH)


def batch(n: int = 32, seed: int = 0, scale: float = 1.0) -> MicroBatch:
    """Random examples whose label depends on the first live feature; the frozen model knows nothing."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    return labelled(random_inputs(n, WIDTH, seed), scale * torch.randn(n, generator=generator))


def make(start: KernelStart = START, fingerprint: str = PRINT, **changes: Any) -> Learner:
    return Learner(start, LearnerConfig(**changes), fingerprint=fingerprint, domain_sizes=SIZES)


def taught(batches: int = 5, **changes: Any) -> Learner:
    """A learner that has learned micro-batches 0 to `batches` - 1."""
    learner = make(**changes)
    for seed in range(batches):
        learner.learn(batch(seed=seed))
    return learner
