"""LoRA: low-rank updates of the dense layers (Hu et al., ICLR 2022, arXiv 2106.09685, 4.1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from model.backbone.foundation import FoundationBackbone
from model.backbone.levels import Level
from model.backbone.methods.method import SceneMethod, dense_matrices, home_of, key_of

_RANK = 4


class LowRank(nn.Module):
    """`(alpha / r) B A` with A random, B zero and alpha = r (4.1), for `copies` matrices side by side."""

    def __init__(self, copies: int, width_in: int, width_out: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        r = min(rank, width_out)
        self.down = nn.Parameter(torch.randn(copies, width_in, r, generator=generator) / width_in**0.5)
        self.up = nn.Parameter(torch.zeros(copies, r, width_out))

    def forward(self, matrix: Tensor) -> Tensor:
        """`W + B A`, for a matrix `(out, in)` or for matrices `(copies, in, out)`."""
        change = torch.bmm(self.down, self.up)
        return matrix + (change if matrix.dim() == 3 else change[0].T)

    def beside(self, inputs: Tensor, out: Tensor) -> Tensor:
        """`W x + B A x`, where `out` is `W x`: `(copies, n, out)`, or `(n, out)` for one matrix."""
        if out.dim() == 2:
            return out + (inputs @ self.down[0]) @ self.up[0]
        return torch.baddbmm(out, torch.bmm(inputs, self.down), self.up)


class SceneLoRA(SceneMethod):
    """A and B for every dense layer; the paper adapts attention alone (4.2).

    Once frozen they are merged into the matrices, so a request costs no more than before (4.1).
    """

    def __init__(
        self, network: FoundationBackbone, frozen: Collection[Level], earlier: Sequence[SceneMethod] = ()
    ) -> None:
        super().__init__()
        self.low_rank = nn.ModuleDict()
        for name, matrix in dense_matrices(network, frozen):
            copies, width_in, width_out = matrix.shape if matrix.dim() == 3 else (1, *matrix.T.shape)
            self.low_rank[key_of(name)] = LowRank(copies, width_in, width_out, _RANK, torch.default_generator)

    def put_into(self, network: FoundationBackbone) -> None:
        """See `SceneMethod`."""
        for key, change in self.low_rank.items():
            register_parametrization(*home_of(network, key), change)
