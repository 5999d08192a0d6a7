"""Terms that keep the domains' representations in one common space (S&R Multi-Domain Foundation, arXiv 2309.08939).

The paper compares Jensen-Shannon divergence with MMD and keeps the first. It does not publish which distributions it
compares; we take `p_k`, the softmax of domain k's mean representation in the batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Alignment = Literal["none", "js", "mmd"]
_FEWEST = 8  # a domain with fewer rows in the batch is left out, because its mean is too noisy


def _membership(domain: Tensor) -> Tensor:
    """Averaging weights `(m, n)`: a row for each of the `m` domains that have at least `_FEWEST` of the `n`
    examples."""
    _, group, counts = torch.unique(domain, dim=0, return_inverse=True, return_counts=True)
    members = torch.nn.functional.one_hot(group).T.float() / counts[:, None]
    enough: Tensor = members[counts >= _FEWEST]
    return enough


def _mean_over_pairs(values: Tensor) -> Tensor:
    m = len(values)
    return values.sum() / (m * (m - 1))


def jensen_shannon(x: Tensor, domain: Tensor) -> Tensor:
    """Mean over domain pairs of `JS(p_k, p_l)`, nats, in [0, ln 2]; 0 with fewer than two domains.

    `x` is `(n, d)`, `domain` facet indices `(n, 3)`. `JS = KL(p || q) / 2 + KL(r || q) / 2`, `q = (p + r) / 2`.
    """
    members = _membership(domain)
    if len(members) < 2:
        return x.new_zeros(())
    log_p = torch.log_softmax(members @ x, dim=-1)
    p = log_p.exp()
    middle = 0.5 * (p[:, None] + p[None, :])
    to_middle = (p[:, None] * (log_p[:, None] - middle.log())).sum(-1)
    return _mean_over_pairs(0.5 * (to_middle + to_middle.T))


def maximum_mean_discrepancy(x: Tensor, domain: Tensor) -> Tensor:
    """Mean over domain pairs of the squared MMD with an RBF kernel of the median width; 0 with fewer than two domains.

    The biased estimate `mean k(a, a') + mean k(b, b') - 2 mean k(a, b)`: never negative (but for rounding).
    """
    members = _membership(domain)
    if len(members) < 2:
        return x.new_zeros(())
    distance = torch.cdist(x, x).square()
    kernel = torch.exp(-distance / distance.detach().median().clamp(min=1e-6))
    within = members @ kernel @ members.T
    diagonal = within.diagonal()
    return _mean_over_pairs(diagonal[:, None] + diagonal[None, :] - 2 * within)


def alignment(kind: Alignment, x: Tensor, domain: Tensor) -> Tensor:
    """The alignment term that `kind` names, a scalar; 0 for "none"."""
    if kind == "none":
        return x.new_zeros(())
    return jensen_shannon(x, domain) if kind == "js" else maximum_mean_discrepancy(x, domain)
