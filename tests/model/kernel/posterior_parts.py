"""A posterior of six features, and examples that follow a known truth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from model.kernel.posterior import BatchLikelihood, Expansion, Posterior

Batch = tuple[Tensor, Tensor, Tensor]
WIDTH, INNER = 6, 3
PRIOR = torch.tensor([1.0, 2.0, 5.0, 5.0, 30.0, 30.0])
MEAN = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
TRUTH = torch.tensor([0.7, -0.5, 1.0, 0.0, 0.4, -0.3])
FOREVER = math.inf


def examples(n: int, seed: int = 0) -> Batch:
    """Features, labels that follow them by `TRUTH`, weights of one."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, WIDTH, generator=generator)
    label = (torch.rand(n, generator=generator) < torch.sigmoid(features @ TRUTH)).float()
    return features, label, torch.ones(n)


def make_posterior(half_life: float = FOREVER, widths: tuple[int, ...] = (WIDTH,), prior: Tensor = PRIOR) -> Posterior:
    """One that has learned nothing yet."""
    return Posterior(MEAN, prior, half_life, widths)


def taught(batch: Batch, served: Tensor | None = None) -> BatchLikelihood:
    """What the batch says; served by the truth, as a kernel that has learned would, unless `served` says otherwise."""
    features, label, weight = batch
    served = features @ TRUTH[: features.shape[1]] if served is None else served
    return BatchLikelihood.of(features, label, weight, Expansion(served, torch.zeros(len(label))))


def learned(posterior: Posterior, seeds: Sequence[int], n: int = 100) -> Posterior:
    """What follows after `n` examples of each seed."""
    for seed in seeds:
        posterior = posterior.after(taught(examples(n, seed)))
    return posterior


SILENCE = BatchLikelihood(100, torch.zeros(WIDTH, WIDTH), torch.zeros(WIDTH))
