"""The Gaussian of the bottleneck in readings A and B: sampling and the divergence in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

LOG_VARIANCE_RANGE = (-8.0, 4.0)
"""Log-variances are clamped to this, so that neither a collapse nor an explosion can reach the loss."""


def clamp_log_variance(value: Tensor) -> Tensor:
    """The log-variance inside `LOG_VARIANCE_RANGE`."""
    return value.clamp(*LOG_VARIANCE_RANGE)


def sample(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """`mean + s eps` with `eps ~ N(0, I)` (reparametrisation, Kingma & Welling 2014)."""
    noise = torch.randn(mean.shape, generator=generator)
    return mean + torch.exp(0.5 * log_variance) * noise


def gaussian_kl(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """`KL(N(m1, s1^2) || N(m2, s2^2))` summed over the last axis, nats, `(n,)`.

    Per dimension: `ln(s2/s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2`.
    """
    spread = (log_variance - prior_log_variance).exp()
    distance = (mean - prior_mean).square() * (-prior_log_variance).exp()
    return 0.5 * (prior_log_variance - log_variance + spread + distance - 1.0).sum(-1)
