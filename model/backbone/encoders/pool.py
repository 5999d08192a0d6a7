"""Attention pooling: a weighted mean that knows no order."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Pool(nn.Module):
    """`sum_t softmax(w'x_t) x_t`: the plain one to beat (ours; the pooling of YouTube's recommender with a learned
    weight, Covington et al., RecSys 2016, 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Events `(u, h, e)` and which are there `(u, h)` to `(u, e)`."""
        score = self.score(tokens)[..., 0].masked_fill(~mask, -1e9)
        return (torch.softmax(score, dim=-1)[..., None] * tokens).sum(1)
