"""Encoder and matching decoder of the kernel: what `model.kernel.kernel` plugs into the frozen path."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.config import KernelConfig
from model.kernel.bank import Activation, BankLinear
from model.kernel.bottleneck import clamp_log_variance, gaussian_kl, sample


class Adapted(NamedTuple):
    """What one kernel core makes of one batch."""

    delta: Tensor
    """Change of the representation, `(n, d)`."""
    compression: Tensor
    """`KL(q(Gbar|x) || prior)`, nats, `(n,)`; zero for reading D."""
    matching: Tensor
    """`KL(q(G^|x) || N(m_k, t_k^2))`, nats, `(n,)`; zero but for reading B."""


class KernelCore(nn.Module):
    """Encoder and decoder for a bank of `bank` domains."""

    def __init__(self, config: KernelConfig, width: int, extra: int, bank: int, generator: torch.Generator) -> None:
        super().__init__()
        z, h = config.latent, config.hidden
        self.reading, self.latent = config.reading, z
        self.encode_in = BankLinear(bank, width, h, generator)
        self.encode_out = BankLinear(bank, h, z if config.reading == "D" else 2 * z, generator)
        self.decode_in = BankLinear(bank, z + extra, h, generator)
        self.decode_out = BankLinear(bank, h, width, generator, zero=True)
        if config.reading == "B":
            self.match = BankLinear(bank, h, 2 * z, generator)
            self.match_out = BankLinear(bank, z, width, generator, zero=True)

    def forward(
        self,
        x: Tensor,
        extra: Tensor,
        target: tuple[Tensor, Tensor] | None,
        activation: Activation,
        noise: torch.Generator | None,
    ) -> Adapted:
        """`x` `(n, d)`, `extra` `(n, k + e)`, `target` the domain's Gaussian `(m_k, ln t_k^2)`, each `(n, z)`."""
        x, extra = activation.scatter(x), activation.scatter(extra)
        code = self.encode_out(torch.relu(self.encode_in(x, activation)), activation)
        if self.reading == "D":
            hidden = torch.relu(self.decode_in(torch.cat([code, extra], dim=-1), activation))
            zero = x.new_zeros(activation.rows)
            return Adapted(activation.gather(self.decode_out(hidden, activation)), zero, zero)
        mean, log_variance = code.chunk(2, dim=-1)
        log_variance = clamp_log_variance(log_variance)
        known = mean if noise is None else sample(mean, log_variance, noise)
        hidden = torch.relu(self.decode_in(torch.cat([known, extra], dim=-1), activation))
        delta = self.decode_out(hidden, activation)
        mean, log_variance = activation.gather(mean), activation.gather(log_variance)
        if self.reading == "A" or target is None:
            prior = torch.zeros_like(mean)
            compression = gaussian_kl(mean, log_variance, prior, prior)
            return Adapted(activation.gather(delta), compression, torch.zeros_like(compression))
        found, found_log_variance = self.match(hidden, activation).chunk(2, dim=-1)
        found_log_variance = clamp_log_variance(found_log_variance)
        matched = known + (found if noise is None else sample(found, found_log_variance, noise))
        delta = delta + self.match_out(matched, activation)
        return Adapted(
            activation.gather(delta),
            gaussian_kl(mean, log_variance, *target),
            gaussian_kl(activation.gather(known + found), activation.gather(found_log_variance), *target),
        )
