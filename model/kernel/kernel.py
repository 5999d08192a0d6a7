"""The information-aware adaptive kernel (IAK, arXiv 2501.14268): compress what is known, match it to what is new.

With `x` the frozen representation, `T` the live drift features and `e_k` the domain embedding:

    (mu, ln s^2) = E(x);   Gbar = mu + s eps (training), mu (serving);   x' = x + D(Gbar, T, e_k)
    logit = frozen(x) + g (frozen(x') - frozen(x)) + w'phi(x, T)

The last layer of D and the straight path w are zero at birth: the newborn kernel is the identity. The paper's objective
is followed in three readings of its Gaussian: A prior N(0, I), B a learned Gaussian per domain, D deterministic.
The plug point, the straight path, the trust g, T and all sizes are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.backbone.fusion import sum_by_facet
from model.backbone.interface import FrozenBackbone, SplitBackbone
from model.config import KernelConfig
from model.encoding.domain import FACETS
from model.kernel.bank import Activation
from model.kernel.bottleneck import clamp_log_variance
from model.kernel.core import Adapted, KernelCore
from model.kernel.path_features import PathFeatures


class Kernel(nn.Module):
    """All that one kernel group has learned. Identity at birth, bit for bit."""

    evidence: Tensor
    """Examples met per domain, int64."""
    path: Tensor
    """Weights w of the closed-form path, already mixed by trust, `(path_width,)`; empty for another kind of path."""
    _strides: Tensor
    trust: Tensor
    """Share g of the core's change of the logit that is believed, 0 to 1."""

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
        by_gradient = config.path == "gradient"
        self.linear = nn.Parameter(torch.zeros(live_width if by_gradient else 0))
        self.bias = nn.Parameter(torch.zeros(1 if by_gradient else 0))
        self.path_features = (
            PathFeatures(width, live_width if config.use_live else 0, config.path_products)
            if config.path == "closed"
            else None
        )
        _, regions, periods = domain_sizes
        self.register_buffer("_strides", torch.tensor([regions * periods, periods, 1]), persistent=False)
        self.register_buffer("path", torch.zeros(self.path_width))
        self.register_buffer("trust", torch.ones(()))
        self.register_buffer(
            "evidence", torch.zeros(domain_sizes[0] * domain_sizes[1] * domain_sizes[2], dtype=torch.int64)
        )

    @property
    def path_width(self) -> int:
        """Number of features of the closed-form path."""
        return self.path_features.width if self.path_features is not None else 0

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
        return (domain * self._strides).sum(1)

    def delta(
        self, place: int, x: Tensor, live: Tensor, domain: Tensor, noise: torch.Generator | None = None
    ) -> Adapted:
        """Change of the vector at a plug point (0 is the first one of the configuration)."""
        place_of = sum_by_facet(self.facets, domain)
        extra = torch.cat([live, place_of], dim=-1) if self.config.use_live else place_of
        target = None
        if self.config.reading == "B":
            mean, log_variance = sum_by_facet(self.target, domain).chunk(2, dim=-1)
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
        """`w'T + b` of a path that learns by gradient, `(n,)`, or 0."""
        return torch.addmv(self.bias, live, self.linear) if len(self.bias) else 0.0

    def features(self, x: Tensor, live: Tensor) -> Tensor | None:
        """What the closed-form path sees, `(n, path_width)`, of `(n, d)` and `(n, k)`; None for another kind."""
        found: Tensor | None = None if self.path_features is None else self.path_features(x, live)
        return found

    def mix(self, core: Tensor, frozen: Tensor, features: Tensor | None, enough: Tensor | None) -> Tensor:
        """The logit that is served, `(n,)`, of the core's and the frozen model's.

        `features` and `enough` as the methods `features` and `answers` give them.
        """
        logit = frozen + self.trust * (core - frozen) if self.config.use_trust else core
        if features is None:
            return logit
        straight = features @ self.path
        return logit + (straight if enough is None else straight * enough)

    def answers(self, domain: Tensor) -> Tensor | None:
        """Which rows have evidence enough, bool `(n,)`; None if all of them do."""
        if self.config.min_evidence == 0:
            return None
        enough = self.evidence[self.flat_index(domain)] >= self.config.min_evidence
        return None if bool(enough.all()) else enough

    def core_parameters(self) -> list[nn.Parameter]:
        """Everything but the straight path."""
        return [p for name, p in self.named_parameters() if name not in ("linear", "bias")]

    def linear_parameters(self) -> list[nn.Parameter]:
        """The straight path, if it learns by gradient: it has a rate of its own."""
        return [self.linear, self.bias]


class Answer(NamedTuple):
    """Logits of the kernel's core and the two information terms."""

    logits: Tensor
    """CTR and CVR, `(n, 2)`, with a path that learns by gradient, before trust and closed-form path."""
    compression: Tensor
    matching: Tensor


def answer(  # noqa: PLR0917 -- the order of `adapt`
    kernel: Kernel,
    backbone: FrozenBackbone,
    x: Tensor,
    live: Tensor,
    domain: Tensor,
    noise: torch.Generator | None = None,
    *,
    learning: bool = False,
) -> Answer:
    """The backbone's logits with the kernel's core in place: shapes `(n, d)`, `(n, k)`, `(n, 3)`.

    `noise` samples the bottleneck (training); without it the mean is used. A core that is learning answers for domains
    without evidence too: it is how they come by some.
    """
    enough = None if learning else kernel.answers(domain)
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


def adapt(  # noqa: PLR0917 -- one order of tensors everywhere
    kernel: Kernel, backbone: FrozenBackbone, x: Tensor, live: Tensor, domain: Tensor, frozen: Tensor | None = None
) -> Tensor:
    """CTR logit of the live arm, `(n,)`: the one function that scorer and learner share.

    Shapes: `x` `(n, d)`, `live` `(n, k)`, `domain` `(n, 3)` int64; `frozen`, the frozen model's logit `(n,)`, is
    computed if it is not given.
    """
    if frozen is None:
        frozen = backbone.predict(x, domain)[:, 0]
    core = answer(kernel, backbone, x, live, domain).logits[:, 0]
    return kernel.mix(core, frozen, kernel.features(x, live), kernel.answers(domain))
