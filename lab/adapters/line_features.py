"""Features of a linear path beside an adapter: representation and live features on one scale (ours)."""

from __future__ import annotations

import torch
from torch import Tensor

_SCALE_EXAMPLES = 100
"""Examples from which centre and scale are taken: one request alone would show one user."""
_DEVIATION_FLOOR = 0.3
"""Added to every deviation: live features are all zero at first, and would be divided by nothing."""
_CLIP = 5.0
_LINEAR = 0.5
"""Scale of the features: under one prior precision, a larger feature needs a smaller weight."""


class LineFeatures:
    """Maps `x` `(n, d)` and T `(n, k)` to `[b / 2, 1]`, `(n, width)`, with `b = [x, T]` centred and scaled."""

    def __init__(self, width: int, live_width: int) -> None:
        self.width = width + live_width + 1
        """Number of features."""
        self._first: list[Tensor] = []
        self._seen = 0
        self._centre = torch.zeros(width + live_width)
        self._scale = torch.zeros(width + live_width)

    def observe(self, x: Tensor, live: Tensor) -> None:
        """Takes centre and scale from the first micro-batches; later ones change nothing.

        Until then all features but the constant are zero: another scale would give learned weights another meaning.
        """
        if self._seen >= _SCALE_EXAMPLES:
            return
        self._first.append(torch.cat([x, live], dim=1))
        self._seen += len(x)
        if self._seen >= _SCALE_EXAMPLES:
            variance, self._centre = torch.var_mean(torch.cat(self._first), 0, correction=0)
            self._scale = 1.0 / (variance.sqrt() + _DEVIATION_FLOOR)
            self._first.clear()

    def __call__(self, x: Tensor, live: Tensor) -> Tensor:
        """The features, float32 `(n, width)`."""
        b = ((torch.cat([x, live], dim=1) - self._centre) * self._scale).clamp_(-_CLIP, _CLIP)
        return torch.cat([b * _LINEAR, b.new_ones(len(b), 1)], dim=1)
