"""The information-aware adaptive kernel (IAK, arXiv 2501.14268): compress what is known, match it to what is new.

With `x` the frozen representation, `T` the live drift features and `e_k` the domain embedding:

    (mu, ln s^2) = E(x);   Gbar = mu + s eps (training), mu (serving);   x' = x + D(Gbar, T, e_k);   logit += w'T + b

The last layer of D and the linear path are zero at birth: the newborn kernel is the identity. The paper's objective is
followed in three readings of its Gaussian: A prior N(0, I), B a learned Gaussian per domain, D deterministic.
The plug point, the linear path, T and all sizes are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from model.backbone import FrozenBackbone, SplitBackbone
from model.bank import Activation, BankLinear
from model.bottleneck import clamp_log_variance, gaussian_kl, sample
from model.config import KernelConfig
from model.domain import FACETS


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


class Kernel(nn.Module):
    """All trainable parameters of one kernel group. Identity at birth, bit for bit."""

    evidence: Tensor

    def __init__(
        self,
        config: KernelConfig,
        *,
        width: int,
        live_width: int,
        domain_sizes: tuple[int, int, int],
        trunk_width: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if config.plug != "before" and trunk_width is None:
            raise ValueError(f"plug point {config.plug!r} needs a backbone that offers trunk() and head()")
        self.config, self.width, self.live_width, self.domain_sizes = config, width, live_width, domain_sizes
        self.trunk_width = trunk_width
        generator = torch.Generator().manual_seed(seed)
        e = config.domain_width
        self.facets = nn.ParameterList(0.1 * torch.randn(size, e, generator=generator) for size in domain_sizes)
        if config.reading == "B":
            self.target = nn.ParameterList(torch.zeros(size, 2 * config.latent) for size in domain_sizes)
        extra = (live_width if config.use_live else 0) + e
        places = {"before": (width,), "after": (trunk_width,), "both": (width, trunk_width)}[config.plug]
        banks = {"shared": (1,), "per_domain": (self.bank_size,), "both": (1, self.bank_size)}[config.sharing]
        self.cores = nn.ModuleList(
            nn.ModuleList(KernelCore(config, int(place or 0), extra, bank, generator) for bank in banks)
            for place in places
        )
        self.linear = nn.Parameter(torch.zeros(live_width if config.use_linear else 0))
        self.bias = nn.Parameter(torch.zeros(1 if config.use_linear else 0))
        self.register_buffer(
            "evidence", torch.zeros(domain_sizes[0] * domain_sizes[1] * domain_sizes[2], dtype=torch.int64)
        )

    @property
    def bank_size(self) -> int:
        """Kernels in the bank: the product of the sizes of `bank_facets`."""
        size = 1
        for facet in self.config.bank_facets:
            size *= self.domain_sizes[FACETS.index(facet)]
        return size

    def bank_index(self, domain: Tensor) -> Tensor:
        """Place in the bank, `(n,)`, of facet indices `(n, 3)`."""
        index = torch.zeros(len(domain), dtype=torch.int64)
        for facet in self.config.bank_facets:
            column = FACETS.index(facet)
            index = index * self.domain_sizes[column] + domain[:, column]
        return index

    def flat_index(self, domain: Tensor) -> Tensor:
        """One index per domain, `(n,)`."""
        _, regions, periods = self.domain_sizes
        return (domain[:, 0] * regions + domain[:, 1]) * periods + domain[:, 2]

    def delta(
        self, place: int, x: Tensor, live: Tensor, domain: Tensor, noise: torch.Generator | None = None
    ) -> Adapted:
        """Change of the vector at a plug point (0 is the first one of the configuration)."""
        place_of = _by_facet(self.facets, domain)
        extra = torch.cat([live, place_of], dim=-1) if self.config.use_live else place_of
        target = None
        if self.config.reading == "B":
            mean, log_variance = _by_facet(self.target, domain).chunk(2, dim=-1)
            target = (mean, clamp_log_variance(log_variance))
        parts: list[Adapted] = []
        cores = self.cores[place]
        assert isinstance(cores, nn.ModuleList)
        for core in cores:
            assert isinstance(core, KernelCore)
            bank = len(core.encode_in.weight)
            activation = Activation(self.bank_index(domain) if bank > 1 else domain[:, 0], bank)
            parts.append(core(x, extra, target, activation, noise))
        if len(parts) == 1:
            return parts[0]
        return Adapted(*(first + second for first, second in zip(*parts, strict=True)))

    def linear_path(self, live: Tensor) -> Tensor | float:
        """`w'T + b`, `(n,)`, or 0 if the path is switched off."""
        return torch.addmv(self.bias, live, self.linear) if self.config.use_linear else 0.0

    def answers(self, domain: Tensor) -> Tensor | None:
        """Which rows have evidence enough, bool `(n,)`; None if all of them do."""
        if self.training or self.config.min_evidence == 0:
            return None
        enough = self.evidence[self.flat_index(domain)] >= self.config.min_evidence
        return None if bool(enough.all()) else enough

    def core_parameters(self) -> list[nn.Parameter]:
        """Everything but the linear path."""
        return [p for name, p in self.named_parameters() if name not in ("linear", "bias")]

    def linear_parameters(self) -> list[nn.Parameter]:
        """The linear path: it has a rate of its own."""
        return [self.linear, self.bias]


def _by_facet(tables: nn.ParameterList, domain: Tensor) -> Tensor:
    out = embedding(domain[:, 0], tables[0])
    for facet in range(1, len(tables)):
        out = out + embedding(domain[:, facet], tables[facet])
    return out


class Answer(NamedTuple):
    """Logits of the live arm and the two information terms."""

    logits: Tensor
    """CTR and CVR, `(n, 2)`."""
    compression: Tensor
    matching: Tensor


def answer(  # noqa: PLR0917 -- the order of `adapt`
    kernel: Kernel,
    backbone: FrozenBackbone,
    x: Tensor,
    live: Tensor,
    domain: Tensor,
    noise: torch.Generator | None = None,
) -> Answer:
    """The backbone's logits with the kernel in place: shapes `(n, d)`, `(n, k)`, `(n, 3)`.

    `noise` samples the bottleneck (training); without it the mean is used.
    """
    enough = kernel.answers(domain)
    if kernel.config.plug == "before":
        change = kernel.delta(0, x, live, domain, noise)
        logits = backbone.predict(x + _masked(change.delta, enough), domain)
        compression, matching = change.compression, change.matching
    else:
        if not isinstance(backbone, SplitBackbone):
            raise ValueError(f"plug point {kernel.config.plug!r} needs a backbone that offers trunk() and head()")
        compression = matching = x.new_zeros(len(x))
        if kernel.config.plug == "both":
            change = kernel.delta(0, x, live, domain, noise)
            x = x + _masked(change.delta, enough)
            compression, matching = change.compression, change.matching
        h = backbone.trunk(x, domain)
        change = kernel.delta(len(kernel.cores) - 1, h, live, domain, noise)
        logits = backbone.head(h + _masked(change.delta, enough))
        compression, matching = compression + change.compression, matching + change.matching
    path = kernel.linear_path(live)
    if isinstance(path, Tensor):
        path = path if enough is None else path * enough
        ctr, cvr = logits.unbind(1)
        logits = torch.stack([ctr + path, cvr], dim=1)
    return Answer(logits, compression, matching)


def _masked(delta: Tensor, enough: Tensor | None) -> Tensor:
    return delta if enough is None else torch.where(enough[:, None], delta, torch.zeros_like(delta))


def adapt(kernel: Kernel, backbone: FrozenBackbone, x: Tensor, live: Tensor, domain: Tensor) -> Tensor:
    """CTR logit of the live arm, `(n,)`: the one function that scorer and learner share.

    Shapes: `x` `(n, d)`, `live` `(n, k)`, `domain` `(n, 3)` int64.
    """
    return answer(kernel, backbone, x, live, domain).logits[:, 0]
