"""Aspect gating fusion and the domain layer (S&R Multi-Domain Foundation, arXiv 2309.08939).

The paper names the variants and their ingredients; the formulas here are inferred from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Gating = Literal["plain", "mean", "cls", "domain"]
DomainMap = Literal["none", "scale", "full"]


class DomainEmbedding(nn.Module):
    """`e_k`: the sum of one vector per facet value."""

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.1)  # type: ignore[arg-type]

    def forward(self, domain: Tensor) -> Tensor:
        """`(n, 3)` facet indices to `(n, width)`."""
        return sum_by_facet(matrices(self.tables), domain)


def sum_by_facet(tables: Iterable[Tensor], domain: Tensor) -> Tensor:
    """Sum over the facets of each table's row, `(n, w)`; a table is `(values, w)`, facet indices are `(n, 3)`."""
    out, *others = (torch.index_select(table, 0, index) for table, index in zip(tables, domain.unbind(1), strict=True))
    for other in others:
        out.add_(other)
    return out


def matrices(tables: nn.ModuleList) -> Iterator[Tensor]:
    """The weight matrices of the embedding tables."""
    for table in tables:
        assert isinstance(table, nn.Embedding)
        yield table.weight


class AspectFusion(nn.Module):
    """Fuses the aspects of an entity into one vector, a weighted sum.

    plain: the mean. mean: `w = softmax(W mean(x_a) + b)`.
    cls: `w_a = softmax(c' W x_a / sqrt(d))` with a learned token c.
    domain: the same with the domain embedding in place of c.
    """

    def __init__(self, gating: Gating, aspects: int, width: int, domain_width: int) -> None:
        super().__init__()
        self.gating = gating
        self.scale = width**-0.5
        if gating == "mean":
            self.gate = nn.Linear(width, aspects)
        elif gating == "cls":
            self.gate = nn.Linear(width, width, bias=False)
            self.token = nn.Parameter(torch.randn(width))
        elif gating == "domain":
            self.gate = nn.Linear(domain_width, width, bias=False)
            self.prior = nn.Linear(domain_width, aspects)

    def weights(self, aspects: Tensor, domain: Tensor) -> Tensor:
        """Weights that sum to 1, `(m, a)`, for aspects `(m, a, d)` and domain vectors `(m or 1, e)`."""
        if self.gating == "plain":
            return aspects.new_full(aspects.shape[:2], 1.0 / aspects.shape[1])
        if self.gating == "mean":
            return torch.softmax(self.gate(aspects.mean(1)), dim=-1)
        if self.gating == "cls":
            return torch.softmax(self.gate(aspects) @ self.token * self.scale, dim=-1)
        asked = (aspects * self.gate(domain)[:, None]).sum(-1) * self.scale
        return torch.softmax(asked + self.prior(domain), dim=-1)

    def forward(self, aspects: Tensor, domain: Tensor) -> Tensor:
        """The fused vector, `(m, d)`."""
        return (aspects * self.weights(aspects, domain)[..., None]).sum(1)


class DomainLayer(nn.Module):
    """`u_k = W_k r + b_k + e_k`: each domain's linear map into one common space, then layer norm.

    none: one W for all. scale: a scale and shift of W r per facet value. full: W plus a matrix per facet value.
    The layer norm keeps the representation within what float16 holds well.
    """

    def __init__(self, kind: DomainMap, width_in: int, width: int, domain_width: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.kind = kind
        self.map = nn.Linear(width_in, width)
        self.embed = nn.Linear(domain_width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        per_facet = {"none": 0, "scale": 2 * width, "full": width * (width_in + 1)}[kind]
        if per_facet:
            self.tables = nn.ModuleList(nn.Embedding(size, per_facet) for size in sizes)
            for table in self.tables:
                nn.init.zeros_(table.weight)  # type: ignore[arg-type]

    def before_norm(self, r: Tensor, vector: Tensor, domain: Tensor) -> Tensor:
        """`u_k` before the layer norm: `r` `(n, width_in)`, domain vectors `(u, e)`, facet indices `(u, 3)`."""
        u: Tensor = self.map(r)
        if self.kind != "none":
            own = sum_by_facet(matrices(self.tables), domain)
            if self.kind == "scale":
                scale, shift = own.chunk(2, dim=-1)
                u = u * (1 + scale) + shift
            else:
                matrix = own.reshape(len(own), -1, r.shape[1] + 1)
                u = u + _per_row(matrix[..., :-1], r) + matrix[..., -1]
        mapped: Tensor = u + self.embed(vector)
        return mapped

    def forward(self, r: Tensor, vector: Tensor, domain: Tensor) -> Tensor:
        """The representation, `(n, width)`."""
        x: Tensor = self.norm(self.before_norm(r, vector, domain))
        return x


def _per_row(matrix: Tensor, r: Tensor) -> Tensor:
    """Applies a matrix per row, `(1 or n, out, in)`, to `(n, in)`."""
    if matrix.shape[0] == 1:
        return r @ matrix[0].T
    return torch.einsum("noi,ni->no", matrix, r)


def mlp(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU (and dropout) between them."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])
