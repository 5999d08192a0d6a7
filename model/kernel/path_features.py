"""What the closed-form path sees: representation and live features on one scale, and products of them (ours).

With `b = [x, T]`, centred and scaled by the first hundred examples, and rows `u_j`, `v_j` of random signs,

    phi = [b / 2, (u_j'b)(v_j'b) / 5 for each j, 1]

A product of random projections is a random feature of the polynomial kernel of degree two (Kar and Karnick, Random
feature maps for dot product kernels, AISTATS 2012): with them a linear path learns interactions of `x` and
`T` without a step of gradient descent. What was tried beside them: docs/decisions/0076.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

_SCALE_EXAMPLES = 100
"""Examples from which centre and scale are taken: one request alone would show one user."""
_DEVIATION_FLOOR = 0.3
"""Added to every deviation: live features are all zero at first, and would be divided by nothing."""
_CLIP = 5.0
_LINEAR, _PRODUCT = 0.5, 0.2
"""Scales of the two kinds of features: under one prior precision, a larger feature needs a smaller weight."""


class PathFeatures(nn.Module):
    """Maps `x` `(n, d)` and, if `live_width` is not 0, T `(n, k)` to `(n, width)`."""

    count: Tensor
    """Examples that centre and scale are made of, int64."""
    centre: Tensor
    """Mean of `[x, T]` over them, `(d + k,)`."""
    variance: Tensor
    """Variance over them, `(d + k,)`."""
    scale: Tensor
    """One over the deviation, `(d + k,)`; until the last of them comes zero, as are all features but the constant."""
    left: Tensor
    right: Tensor

    def __init__(self, width: int, live_width: int, products: int) -> None:
        super().__init__()
        size = width + live_width
        self.live_width, self.products = live_width, products
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("variance", torch.zeros(size))
        self.register_buffer("scale", torch.zeros(size))
        self.register_buffer("left", _signs(size, products, 0), persistent=False)
        self.register_buffer("right", _signs(size, products, 1), persistent=False)

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.centre) + self.products + 1

    @torch.no_grad()
    def observe(self, x: Tensor, live: Tensor) -> None:
        """Takes centre and scale from the first micro-batches; later ones change nothing."""
        before, added = int(self.count), len(x)
        if before >= _SCALE_EXAMPLES:
            return  # another scale would give learned weights another meaning
        both = self._both(x, live)
        share = added / (before + added)
        variance, mean = torch.var_mean(both, 0, correction=0)
        shift = mean - self.centre
        self.variance.lerp_(variance, share).add_(shift**2, alpha=share * (1 - share))
        self.centre.add_(shift, alpha=share)
        self.count.add_(added)
        if before + added >= _SCALE_EXAMPLES:
            self.scale.copy_(1.0 / (self.variance.sqrt() + _DEVIATION_FLOOR))

    def forward(self, x: Tensor, live: Tensor) -> Tensor:
        """The features, float32 `(n, width)`."""
        b = ((self._both(x, live) - self.centre) * self.scale).clamp_(-_CLIP, _CLIP)
        parts = [b * _LINEAR]
        if self.products:
            parts.append(((b @ self.left) * (b @ self.right)).clamp_(-_CLIP, _CLIP) * _PRODUCT)
        return torch.cat([*parts, b.new_ones(len(b), 1)], dim=1)

    def _both(self, x: Tensor, live: Tensor) -> Tensor:
        return torch.cat([x, live], dim=1) if self.live_width else x


@cache
def _signs(size: int, count: int, stream: int) -> Tensor:
    """`(size, count)` of `+-size^-1/2`, from raw bits: the same on every machine and for every version of a library."""
    bits = np.unpackbits(np.frombuffer(np.random.PCG64([size, count, stream]).random_raw(_words(size * count)), "u1"))
    signs = bits[: size * count].reshape(size, count).astype(np.float32) * 2 - 1
    return torch.from_numpy(signs / np.float32(max(size, 1)) ** 0.5)


def _words(bits: int) -> int:
    return -(-bits // 64)
