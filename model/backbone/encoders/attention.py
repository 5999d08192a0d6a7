"""Multi-head self-attention (Vaswani et al., NeurIPS 2017, 3.2), and positions counted from the newest event."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

HEADS = 2


class SelfAttention(nn.Module):
    """`softmax(Q K' / sqrt(e / heads)) V` in two heads."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = dropout

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """`x` is `(u, h, e)`; `seen`, bool `(u or 1, 1, h or 1, h)`, says which positions each position may attend
        to."""
        u, h, e = x.shape
        query, key, value = self.project(x).view(u, h, 3, HEADS, e // HEADS).permute(2, 0, 3, 1, 4)
        share = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=share)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(u, h, e))
        return out


def places_from_newest(mask: Tensor) -> Tensor:
    """Position of each event, 0 for a user's newest, 1 for the one before, `(u, h)`; 0 in padding."""
    return (mask.sum(1, keepdim=True) - 1 - torch.arange(mask.shape[1])).clamp(min=0)
