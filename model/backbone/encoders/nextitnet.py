"""NextItNet: dilated causal convolutions (Yuan et al., WSDM 2019, arXiv 1808.05163, 3.2 to 3.4)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from model.backbone.encoders.causal import CausalEncoder

_KERNEL = 3
_DILATIONS = (1, 2, 4)
"""Dilation of each block's first convolution; the second has twice as much. Together they see 43 events back."""


class _ConvolutionBlock(nn.Module):
    """Residual block (b) of figure 3: `x + relu(LN(conv_2l(relu(LN(conv_l(x))))))`."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, _KERNEL, dilation=step) for step in (dilation, 2 * dilation)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """`(u, h, e)` to the same."""
        out = x
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            reach = (_KERNEL - 1) * cast(nn.Conv1d, convolution).dilation[0]
            # Padding on the left alone keeps the convolution causal (3.4).
            out = torch.relu(norm(convolution(pad(out.transpose(1, 2), (reach, 0))).transpose(1, 2)))
        return x + out


class NextItNet(CausalEncoder):
    """Blocks of rising dilation. It learns from the log's clicks instead of a softmax over the next item (3.5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_ConvolutionBlock(width, dilation) for dilation in _DILATIONS))

    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `CausalEncoder`."""
        states: Tensor = self.blocks(tokens)
        return states
