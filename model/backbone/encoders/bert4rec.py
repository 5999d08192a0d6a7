"""BERT4Rec: bidirectional self-attention (Sun et al., CIKM 2019, arXiv 1904.06690, 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.backbone.encoders.attention import SelfAttention, places_from_newest


class _Layer(nn.Module):
    """`LN(x + dropout(attention(x)))`, then `LN(x + dropout(network(x)))` with GELU (3.3)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, dropout)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """`(u, h, e)` to the same."""
        x = self.first(x + self.dropout(self.attention(x, seen)))
        out: Tensor = self.second(x + self.dropout(self.network(x)))
        return out


class Bert4Rec(nn.Module):
    """Every event attends to every other. The output is read at a mask token: in training at each hidden item (cloze,
    3.6), in serving at one mask placed after the newest event.

    In the tensors the serving mask is stored before the oldest event: attention knows positions only by their vectors.
    """

    def __init__(self, width: int, length: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.place = nn.Embedding(length + 1, width)
        self.mask = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.place.weight, std=0.02)
        nn.init.normal_(self.mask, std=0.02)
        self.layers = nn.ModuleList(_Layer(width, dropout) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU())  # 3.5

    def states(self, tokens: Tensor, mask: Tensor, hidden: Tensor | None = None) -> Tensor:
        """The state at the mask, then at each event, `(u, 1 + h, e)`; `hidden` events, bool `(u, h)`, are masked."""
        if hidden is not None:
            tokens = torch.where(hidden[..., None], self.mask, tokens)
        mask_token = self.mask.expand(len(tokens), 1, -1)
        place = torch.cat([torch.zeros(len(tokens), 1, dtype=torch.int64), places_from_newest(mask) + 1], dim=1)
        x = self.dropout(torch.cat([mask_token, tokens], dim=1) + self.place(place))
        seen = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, seen)
        states: Tensor = x
        return states

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The state at a mask behind the newest event, `(u, e)`."""
        out: Tensor = self.head(self.states(tokens, mask)[:, 0])
        return out

    def guesses(self, tokens: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
        """Predicted vectors of the hidden events, `(hidden.sum(), e)`."""
        out: Tensor = self.head(self.states(tokens, mask, hidden)[:, 1:][hidden])
        return out
