"""The paper's kernel, placed before the frozen trunk; it starts as the identity.

With `x` the frozen representation and `e_k` the domain embedding:

    (mu, ln s^2) = E(x);   Gbar = mu + s eps (training), mu (serving);   logit = frozen(x + D(Gbar, e_k))

The place before the trunk and the domain embedding are ours, because the paper's are not public. It reads no live
features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lab.adapters.paper.bank import DomainActivation
from lab.adapters.paper.bottleneck import clamp_log_variance
from lab.adapters.paper.core import EncoderDecoder, Matched
from lab.adapters.paper.settings import PaperSettings
from model.backbone.fusion import sum_by_facet
from model.backbone.interface import FrozenBackbone
from model.encoding.domain import FACETS


class PaperOutput(NamedTuple):
    """Click logits after the frozen trunk, and the two information terms; each `(n,)`, the terms in nats."""

    logit: Tensor
    compression: Tensor
    matching: Tensor


class PaperKernel(nn.Module):
    """All trainable parameters. A new kernel is the identity, bit for bit."""

    def __init__(self, settings: PaperSettings, width: int, domain_sizes: tuple[int, int, int], seed: int) -> None:
        super().__init__()
        self.settings = settings
        generator = torch.Generator().manual_seed(seed)
        e, z = settings.domain_width, settings.latent
        self.facets = nn.ParameterList(0.1 * torch.randn(size, e, generator=generator) for size in domain_sizes)
        if settings.reading == "B":
            self.target = nn.ParameterList(torch.zeros(size, 2 * z) for size in domain_sizes)
        self._banked = [FACETS.index(facet) for facet in settings.bank_facets]
        self._sizes = domain_sizes
        banks = [domain_sizes[column] for column in self._banked] or [1]
        self.cores = nn.ModuleList(EncoderDecoder(settings, width, bank, generator) for bank in banks)

    def domain_index(self, domain: Tensor) -> Tensor:
        """One index per combination of the banks' facet values, `(n,)`, of facet indices `(n, 3)`."""
        index = torch.zeros(len(domain), dtype=torch.int64)
        for column in self._banked:
            index = index * self._sizes[column] + domain[:, column]
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
        vector = sum_by_facet(self.facets, domain)
        delta, compression, matching = torch.zeros_like(x), x.new_zeros(len(x)), x.new_zeros(len(x))
        # A request is in a scene, a region and a period at once: their changes add up (docs/decisions/0064).
        columns = [domain[:, column] for column in self._banked] or [torch.zeros_like(domain[:, 0])]
        for core, column in zip(self.cores, columns, strict=True):
            assert isinstance(core, EncoderDecoder)
            active = DomainActivation(column, core.bank)
            matched: Matched = core(x, vector, target, active, noise)
            delta, compression = delta + matched.delta, compression + matched.compression
            matching = matching + matched.matching
        return PaperOutput(backbone.predict(x + delta, domain)[:, 0], compression, matching)
