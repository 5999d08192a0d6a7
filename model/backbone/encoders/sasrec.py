"""SASRec: causal self-attention over the events (Kang and McAuley, ICDM 2018, arXiv 1808.09781, III)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.backbone.encoders.attention import SelfAttention, places_from_newest
from model.backbone.encoders.causal import CausalEncoder


class _AttentionBlock(nn.Module):
    """`g(x) = x + dropout(g(LN(x)))` (III-C) of attention (III-B) and of a point-wise network (equation 5)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, dropout)
        self.network = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """`(u, h, e)` to the same."""
        x = x + self.dropout(self.attention(self.before(x), seen))
        out: Tensor = x + self.dropout(self.network(self.between(x)))
        return out


class SasRec(CausalEncoder):
    """Learned positions (III-A), counted from the newest event, and blocks of causal attention.

    It learns from the log's clicks instead of the loss on the next item (III-E).
    """

    def __init__(self, width: int, length: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.place = nn.Embedding(length, width)
        nn.init.normal_(self.place.weight, std=0.02)
        self.blocks = nn.ModuleList(_AttentionBlock(width, dropout) for _ in range(layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)

    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `CausalEncoder`."""
        x = self.dropout(tokens + self.place(places_from_newest(mask)))
        h = tokens.shape[1]
        seen = torch.ones(h, h, dtype=torch.bool).tril()[None, None]
        for block in self.blocks:
            x = block(x, seen)
        states: Tensor = self.norm(x)
        return states
