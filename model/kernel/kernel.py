"""The information-aware adaptive kernel (IAK, arXiv 2501.14268) as one module, identity at first.

With `x` the frozen representation, `T` the live drift features and `e_k` the domain embedding:

    (mu, ln s^2) = E(x);   Gbar = mu + s eps (training), mu (serving);   x' = x + D(Gbar, T, e_k)
    logit = frozen(x) + g (frozen(x') - frozen(x)) + w'phi(x, T)

The last layer of D and the linear path w start at zero: a new kernel is the identity. That the encoder E compresses and
the decoder D matches is known, the readings of the Gaussian are inferred (`model.kernel.objective`). The plug point,
the linear path, the trust g, T and all sizes are ours (docs/decisions/0036, 0063, 0075, 0076).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.backbone.fusion import sum_by_facet
from model.backbone.interface import FrozenBackbone, SplitBackbone
from model.config import KernelConfig
from model.encoding.domain import FACETS
from model.kernel.bank import ActiveDomains
from model.kernel.bottleneck import clamp_log_variance
from model.kernel.core import CoreOutput, KernelCore
from model.kernel.path_features import PathFeatures


class Kernel(nn.Module):
    """All that one kernel group has learned. A new kernel is the identity, bit for bit."""

    evidence: Tensor
    """Examples seen per domain, int64."""
    path: Tensor
    """Weights w of the closed-form path, already mixed by trust, `(path_width,)`; empty for another kind of path."""
    _strides: Tensor
    trust: Tensor
    """Share g of the core's change of the logit that is served, 0 to 1."""

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
        widths = {"before": (width,), "after": (trunk_width,), "both": (width, trunk_width)}[config.plug]
        banks = {"shared": (1,), "per_domain": (self.bank_size,), "both": (1, self.bank_size)}[config.sharing]
        self.cores = nn.ModuleList(
            nn.ModuleList(KernelCore(config, int(plugged or 0), extra, bank, generator) for bank in banks)
            for plugged in widths
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
        # Buffers, not parameters: they travel with the kernel, but Adam must not touch them.
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
        """Index into the bank, `(n,)`, of facet indices `(n, 3)`."""
        index = torch.zeros(len(domain), dtype=torch.int64)
        for facet in self.config.bank_facets:
            column = FACETS.index(facet)
            index = index * self.domain_sizes[column] + domain[:, column]
        return index

    def flat_index(self, domain: Tensor) -> Tensor:
        """One index per domain, `(n,)`."""
        return (domain * self._strides).sum(1)

    def delta(
        self, plug: int, x: Tensor, live: Tensor, domain: Tensor, noise: torch.Generator | None = None
    ) -> CoreOutput:
        """Change of the vector `x` `(n, d)` at plug point number `plug`, the first being 0."""
        domain_vector = sum_by_facet(self.facets, domain)
        extra = torch.cat([live, domain_vector], dim=-1) if self.config.use_live else domain_vector
        target = None
        if self.config.reading == "B":
            mean, log_variance = sum_by_facet(self.target, domain).chunk(2, dim=-1)
            target = (mean, clamp_log_variance(log_variance))
        parts: list[CoreOutput] = []
        cores = self.cores[plug]
        assert isinstance(cores, nn.ModuleList)
        for core in cores:
            assert isinstance(core, KernelCore)
            bank = len(core.encode_in.weight)
            active = ActiveDomains(self.bank_index(domain) if bank > 1 else domain[:, 0], bank)
            parts.append(core(x, extra, target, active, noise))
        if len(parts) == 1:
            return parts[0]
        return CoreOutput(*(first + second for first, second in zip(*parts, strict=True)))

    def linear_path(self, live: Tensor) -> Tensor | float:
        """`w'T + b` of a path that learns by gradient, `(n,)`, or 0."""
        return torch.addmv(self.bias, live, self.linear) if len(self.bias) else 0.0

    def features(self, x: Tensor, live: Tensor) -> Tensor | None:
        """Features of the closed-form path, `(n, path_width)`, of `(n, d)` and `(n, k)`; None without one."""
        if self.path_features is None:
            return None
        features: Tensor = self.path_features(x, live)
        return features

    def mix(self, core: Tensor, frozen: Tensor, features: Tensor | None, has_evidence: Tensor | None) -> Tensor:
        """The logit that is served, `(n,)`, of the core's and the frozen model's.

        `features` and `has_evidence` are what the methods of these names give.
        """
        logit = frozen + self.trust * (core - frozen) if self.config.use_trust else core
        if features is None:
            return logit
        path = features @ self.path
        return logit + (path if has_evidence is None else path * has_evidence)

    def has_evidence(self, domain: Tensor) -> Tensor | None:
        """Which rows' domains have `min_evidence` examples, bool `(n,)`; None if all do."""
        if self.config.min_evidence == 0:
            return None
        enough = self.evidence[self.flat_index(domain)] >= self.config.min_evidence
        # None saves every caller a product by ones.
        return None if bool(enough.all()) else enough

    def core_parameters(self) -> list[nn.Parameter]:
        """Everything but the linear path."""
        return [p for name, p in self.named_parameters() if name not in ("linear", "bias")]

    def linear_parameters(self) -> list[nn.Parameter]:
        """The linear path, if it learns by gradient: it has a rate of its own."""
        return [self.linear, self.bias]


class KernelOutput(NamedTuple):
    """Logits of the frozen trunk behind the kernel's core, and the two information terms."""

    logits: Tensor
    """CTR and CVR, `(n, 2)`, with a path that learns by gradient, before trust and closed-form path."""
    compression: Tensor
    matching: Tensor


def kernel_output(  # noqa: PLR0917 -- the order of `live_logit`
    kernel: Kernel,
    backbone: FrozenBackbone,
    x: Tensor,
    live: Tensor,
    domain: Tensor,
    noise: torch.Generator | None = None,
    *,
    learning: bool = False,
) -> KernelOutput:
    """The backbone's logits with the kernel's core in place: shapes `(n, d)`, `(n, k)`, `(n, 3)`.

    `noise` samples the bottleneck (training); without it the mean is used. With `learning`, rows without
    evidence are adapted too: it is how their domains gain any.
    """
    has_evidence = None if learning else kernel.has_evidence(domain)
    if kernel.config.plug == "before":
        change = kernel.delta(0, x, live, domain, noise)
        logits = backbone.predict(x + _masked(change.delta, has_evidence), domain)
        compression, matching = change.compression, change.matching
    else:
        if not isinstance(backbone, SplitBackbone):
            raise ValueError(f"plug point {kernel.config.plug!r} needs a backbone that offers trunk() and head()")
        compression = matching = x.new_zeros(len(x))
        if kernel.config.plug == "both":
            change = kernel.delta(0, x, live, domain, noise)
            x = x + _masked(change.delta, has_evidence)
            compression, matching = change.compression, change.matching
        h = backbone.trunk(x, domain)
        change = kernel.delta(len(kernel.cores) - 1, h, live, domain, noise)
        logits = backbone.head(h + _masked(change.delta, has_evidence))
        compression, matching = compression + change.compression, matching + change.matching
    path = kernel.linear_path(live)
    if isinstance(path, Tensor):
        path = path if has_evidence is None else path * has_evidence
        ctr, cvr = logits.unbind(1)
        logits = torch.stack([ctr + path, cvr], dim=1)
    return KernelOutput(logits, compression, matching)


def _masked(delta: Tensor, has_evidence: Tensor | None) -> Tensor:
    return delta if has_evidence is None else torch.where(has_evidence[:, None], delta, torch.zeros_like(delta))


def live_logit(  # noqa: PLR0917 -- one order of tensors everywhere
    kernel: Kernel, backbone: FrozenBackbone, x: Tensor, live: Tensor, domain: Tensor, frozen: Tensor | None = None
) -> Tensor:
    """CTR logit of the live arm, `(n,)`: the one function that scorer and learner share.

    Shapes: `x` `(n, d)`, `live` `(n, k)`, `domain` `(n, 3)` int64; `frozen`, the frozen model's logit `(n,)`, is
    computed if it is not given.
    """
    if frozen is None:
        frozen = backbone.predict(x, domain)[:, 0]
    core = kernel_output(kernel, backbone, x, live, domain).logits[:, 0]
    return kernel.mix(core, frozen, kernel.features(x, live), kernel.has_evidence(domain))
