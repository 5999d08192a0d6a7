"""The paper's kernel before the frozen trunk, the identity at first.

With `x` the frozen representation and `e_k` the domain embedding:

    (mu, ln s^2) = E(x);   Gbar = mu + s eps (training), mu (serving);   logit = frozen(x + D(Gbar, e_k))

The plug point and the domain embedding are ours: the paper's are not public. Nothing live enters.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lab.adapters.paper.bank import DomainActivation
from lab.adapters.paper.bottleneck import clamp_log_variance
from lab.adapters.paper.core import EncoderDecoder
from lab.adapters.paper.settings import PaperSettings
from model.backbone.fusion import sum_by_facet
from model.backbone.interface import FrozenBackbone
from model.encoding.domain import FACETS


class PaperOutput(NamedTuple):
    """Click logits behind the frozen trunk, and the two information terms; each `(n,)`, the terms in nats."""

    logit: Tensor
    compression: Tensor
    matching: Tensor


class PaperKernel(nn.Module):
    """All that learns. A new kernel is the identity, bit for bit."""

    def __init__(self, settings: PaperSettings, width: int, domain_sizes: tuple[int, int, int], seed: int) -> None:
        super().__init__()
        self.settings = settings
        generator = torch.Generator().manual_seed(seed)
        e, z = settings.domain_width, settings.latent
        self.facets = nn.ParameterList(0.1 * torch.randn(size, e, generator=generator) for size in domain_sizes)
        if settings.reading == "B":
            self.target = nn.ParameterList(torch.zeros(size, 2 * z) for size in domain_sizes)
        self._banked = [(FACETS.index(facet), domain_sizes[FACETS.index(facet)]) for facet in settings.bank_facets]
        self.bank_size = prod(size for _, size in self._banked)
        """Encoders and decoders: the product of the sizes of `bank_facets`."""
        self.core = EncoderDecoder(settings, width, self.bank_size, generator)

    def bank_index(self, domain: Tensor) -> Tensor:
        """Which encoder and decoder answers, `(n,)`, for facet indices `(n, 3)`."""
        index = torch.zeros(len(domain), dtype=torch.int64)
        for column, size in self._banked:
            index = index * size + domain[:, column]
        return index

    def forward(
        self, backbone: FrozenBackbone, x: Tensor, domain: Tensor, noise: torch.Generator | None = None
    ) -> PaperOutput:
        """Before the trunk of `backbone`, of `x` `(n, d)` in domains `(n, 3)`.

        `noise` samples the bottleneck (training); without it the mean is used.
        """
        target = None
        if self.settings.reading == "B":
            mean, log_variance = sum_by_facet(self.target, domain).chunk(2, dim=-1)
            target = (mean, clamp_log_variance(log_variance))
        active = DomainActivation(self.bank_index(domain), self.bank_size)
        matched: tuple[Tensor, Tensor, Tensor] = self.core(x, sum_by_facet(self.facets, domain), target, active, noise)
        delta, compression, matching = matched
        return PaperOutput(backbone.predict(x + delta, domain)[:, 0], compression, matching)
