"""Encoder and decoder of the kernel: what `model.kernel.kernel` puts before (or behind) the frozen trunk.

The encoder is phase 1 of the paper (compression), the decoder phase 2 (matching): known. What the Gaussian of the
bottleneck is, is not public; `reading` chooses: D none, A prior N(0, I), B a learned Gaussian per domain
(docs/decisions/0030).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.config import KernelConfig
from model.kernel.bank import ActiveDomains, BankLinear
from model.kernel.bottleneck import clamp_log_variance, gaussian_kl, sample


class CoreOutput(NamedTuple):
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
        # The last layer starts at zero: a new kernel is the frozen model bit for bit, and safe to serve.
        self.decode_out = BankLinear(bank, h, width, generator, zero=True)
        if config.reading == "B":
            self.match = BankLinear(bank, h, 2 * z, generator)
            self.match_out = BankLinear(bank, z, width, generator, zero=True)

    def forward(
        self,
        x: Tensor,
        extra: Tensor,
        target: tuple[Tensor, Tensor] | None,
        active: ActiveDomains,
        noise: torch.Generator | None,
    ) -> CoreOutput:
        """`x` `(n, d)`, `extra` `(n, k + e)`, `target` the domain's Gaussian `(m_k, ln t_k^2)`, each `(n, z)`.

        `noise` samples the bottleneck; without it the means are used.
        """
        x, extra = active.scatter(x), active.scatter(extra)
        # Phase 1, compression: (mu, ln s^2) = E(x), and Gbar = mu + s eps (mu alone for reading D).
        code = self.encode_out(torch.relu(self.encode_in(x, active)), active)
        if self.reading == "D":
            hidden = torch.relu(self.decode_in(torch.cat([code, extra], dim=-1), active))
            zero = x.new_zeros(active.rows)
            return CoreOutput(active.gather(self.decode_out(hidden, active)), zero, zero)
        mean, log_variance = code.chunk(2, dim=-1)
        log_variance = clamp_log_variance(log_variance)
        compressed = mean if noise is None else sample(mean, log_variance, noise)
        # Phase 2, matching: f = D(Gbar, T, e_k), the change of x that the compressed knowledge lacks.
        hidden = torch.relu(self.decode_in(torch.cat([compressed, extra], dim=-1), active))
        delta = self.decode_out(hidden, active)
        mean, log_variance = active.gather(mean), active.gather(log_variance)
        if self.reading == "A" or target is None:
            prior = torch.zeros_like(mean)
            compression = gaussian_kl(mean, log_variance, prior, prior)
            return CoreOutput(active.gather(delta), compression, torch.zeros_like(compression))
        # Reading B takes phase 2 literally: G^ = Gbar + f is a Gaussian in the latent space, drawn to the domain's own.
        shift, shift_log_variance = self.match(hidden, active).chunk(2, dim=-1)
        shift_log_variance = clamp_log_variance(shift_log_variance)
        matched = compressed + (shift if noise is None else sample(shift, shift_log_variance, noise))
        delta = delta + self.match_out(matched, active)
        return CoreOutput(
            active.gather(delta),
            gaussian_kl(mean, log_variance, *target),
            gaussian_kl(active.gather(compressed + shift), active.gather(shift_log_variance), *target),
        )
