"""The bottleneck that Houlsby adapters and PeterRec patches are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu


class Bottleneck(nn.Module):
    """`W_up act(W_down h)` with `W_up` starting at zero, for `copies` layers side by side."""

    def __init__(self, copies: int, width_in: int, width: int, width_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(copies, width_in, width, generator=generator) / width_in**0.5)
        self.down_bias = nn.Parameter(torch.zeros(copies, 1, width))
        self.up = nn.Parameter(torch.zeros(copies, width, width_out))
        self.up_bias = nn.Parameter(torch.zeros(copies, 1, width_out))

    def forward(self, h: Tensor) -> Tensor:
        """`(copies, n, in)` or `(n, in)` to `(copies, n, out)` or `(n, out)`."""
        wide = h if h.dim() == 3 else h[None]
        out = torch.baddbmm(self.up_bias, gelu(torch.baddbmm(self.down_bias, wide, self.down)), self.up)
        return out if h.dim() == 3 else out[0]
