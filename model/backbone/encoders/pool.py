"""Attention pooling: a weighted mean of the events, which ignores their order."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Pool(nn.Module):
    """`sum_t softmax(w'x_t) x_t`: the simple baseline (ours; the mean pooling of YouTube's recommender with learned
    weights, Covington et al., RecSys 2016, 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Event vectors `(u, h, e)` and a mask of real events `(u, h)` to one vector per user, `(u, e)`."""
        score = self.score(tokens)[..., 0].masked_fill(~mask, -1e9)
        return (torch.softmax(score, dim=-1)[..., None] * tokens).sum(1)
