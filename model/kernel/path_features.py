"""What the closed-form path sees: representation and live features on one scale, and products of them (ours).

With `b = [x, T]`, centred and scaled by what the first hundred examples showed, and rows `u_j`, `v_j` of random signs,

    phi = [b / 2, (u_j'b)(v_j'b) / 5 for each j, 1]

A product of random projections is a random feature of the polynomial kernel of degree two (Kar and Karnick, Random
feature maps for dot product kernels, AISTATS 2012): with them a linear path matches what is known with what is fresh,
`x` with `T`, without a step of gradient descent.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

_FIRST = 100
"""Examples from which centre and scale are taken: one request alone would show one user."""
_SPREAD = 0.3
"""Added to every deviation: live features are all zero while nothing is known yet."""
_LIMIT = 5.0
_LINEAR, _PRODUCT = 0.5, 0.2
"""Scales of the two kinds of features: beside one prior, how soon each is believed."""


class PathFeatures(nn.Module):
    """Maps `x` `(n, d)` and, if `live_width` is not 0, T `(n, k)` to `(n, width)`."""

    met: Tensor
    """Examples that centre and scale are made of, int64."""
    centre: Tensor
    """Mean of `[x, T]` over them, `(d + k,)`."""
    variance: Tensor
    """Variance over them, `(d + k,)`."""
    scale: Tensor
    """One over the deviation, `(d + k,)`; all zero before there are enough: then all features but the last are."""
    left: Tensor
    right: Tensor

    def __init__(self, width: int, live_width: int, products: int) -> None:
        super().__init__()
        size = width + live_width
        self.live_width, self.products = live_width, products
        self.register_buffer("met", torch.zeros((), dtype=torch.int64))
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
    def meet(self, x: Tensor, live: Tensor) -> None:
        """Takes centre and scale from the first micro-batches; once there are enough, later ones change nothing."""
        before, added = int(self.met), len(x)
        if before >= _FIRST:
            return
        both = self._both(x, live)
        share = added / (before + added)
        variance, mean = torch.var_mean(both, 0, correction=0)
        apart = mean - self.centre
        self.variance.lerp_(variance, share).add_(apart**2, alpha=share * (1 - share))
        self.centre.add_(apart, alpha=share)
        self.met.add_(added)
        if before + added >= _FIRST:
            self.scale.copy_(1.0 / (self.variance.sqrt() + _SPREAD))

    def forward(self, x: Tensor, live: Tensor) -> Tensor:
        """The features, float32 `(n, width)`."""
        b = ((self._both(x, live) - self.centre) * self.scale).clamp_(-_LIMIT, _LIMIT)
        parts = [b * _LINEAR]
        if self.products:
            parts.append(((b @ self.left) * (b @ self.right)).clamp_(-_LIMIT, _LIMIT) * _PRODUCT)
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
