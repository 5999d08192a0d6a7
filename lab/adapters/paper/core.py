"""Encoder and decoder, the two phases of the paper: compression and matching.

That the encoder compresses and the decoder matches is known. What the Gaussian of the bottleneck is, is not public;
`reading` chooses: D none, A prior N(0, I), B a learned Gaussian per domain.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lab.adapters.paper.bank import DomainActivation, DomainLinear
from lab.adapters.paper.bottleneck import clamp_log_variance, gaussian_kl, sample
from lab.adapters.paper.settings import PaperSettings


class Matched(NamedTuple):
    """Outputs of encoder and decoder for one batch."""

    delta: Tensor
    """Change of the representation, `(n, d)`."""
    compression: Tensor
    """`KL(q(Gbar|x) || prior)`, nats, `(n,)`; zero for reading D."""
    matching: Tensor
    """`KL(q(G^|x) || N(m_k, t_k^2))`, nats, `(n,)`; zero but for reading B."""


class EncoderDecoder(nn.Module):
    """Both for a bank of `bank` domains, on representations of `width`."""

    def __init__(self, settings: PaperSettings, width: int, bank: int, generator: torch.Generator) -> None:
        super().__init__()
        z, h = settings.latent, settings.hidden
        self.reading, self.bank = settings.reading, bank
        self.encode_in = DomainLinear(bank, width, h, generator)
        self.encode_out = DomainLinear(bank, h, z if self.reading == "D" else 2 * z, generator)
        self.decode_in = DomainLinear(bank, z + settings.domain_width, h, generator)
        # The last layer starts at zero: a new kernel is the frozen model bit for bit.
        self.decode_out = DomainLinear(bank, h, width, generator, zero=True)
        if self.reading == "B":
            self.match = DomainLinear(bank, h, 2 * z, generator)
            self.match_out = DomainLinear(bank, z, width, generator, zero=True)

    def forward(
        self,
        x: Tensor,
        domain_vector: Tensor,
        target: tuple[Tensor, Tensor] | None,
        active: DomainActivation,
        noise: torch.Generator | None,
    ) -> Matched:
        """`x` `(n, d)`, `domain_vector` `(n, e)`, `target` the domain's Gaussian `(m_k, ln t_k^2)`, each `(n, z)`.

        `noise` samples the bottleneck (training); without it the means are used.
        """
        x, domain_vector = active.scatter(x), active.scatter(domain_vector)
        # Phase 1, compression: (mu, ln s^2) = E(x), and Gbar = mu + s eps (mu alone for reading D).
        code = self.encode_out(torch.relu(self.encode_in(x, active)), active)
        if self.reading == "D":
            hidden = torch.relu(self.decode_in(torch.cat([code, domain_vector], dim=-1), active))
            zero = x.new_zeros(active.rows)
            return Matched(active.gather(self.decode_out(hidden, active)), zero, zero)
        mean, log_variance = code.chunk(2, dim=-1)
        log_variance = clamp_log_variance(log_variance)
        compressed = mean if noise is None else sample(mean, log_variance, noise)
        # Phase 2, matching: f = D(Gbar, e_k), the change of x that the compressed knowledge lacks.
        hidden = torch.relu(self.decode_in(torch.cat([compressed, domain_vector], dim=-1), active))
        delta = self.decode_out(hidden, active)
        mean, log_variance = active.gather(mean), active.gather(log_variance)
        if self.reading == "A" or target is None:
            prior = torch.zeros_like(mean)
            compression = gaussian_kl(mean, log_variance, prior, prior)
            return Matched(active.gather(delta), compression, torch.zeros_like(compression))
        # Reading B takes phase 2 literally: G^ = Gbar + f is a Gaussian in the latent space, drawn to the domain's own.
        shift, shift_log_variance = self.match(hidden, active).chunk(2, dim=-1)
        shift_log_variance = clamp_log_variance(shift_log_variance)
        matched = compressed + (shift if noise is None else sample(shift, shift_log_variance, noise))
        delta = delta + self.match_out(matched, active)
        return Matched(
            active.gather(delta),
            gaussian_kl(mean, log_variance, *target),
            gaussian_kl(active.gather(compressed + shift), active.gather(shift_log_variance), *target),
        )
