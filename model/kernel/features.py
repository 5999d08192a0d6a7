"""The feature vector phi of an example, in which the kernel is linear (ours).

    direct    f, 1, counters, T / 2                         live features alone
    matching  v+ / 2, 0.2 z_k v+_j for all k and j          user and domain, crossed with the shown item

`f` is the logit of the frozen model, clipped at 15; `z` the compressed representation (`model.kernel.compression`),
`v+` the descriptor of the shown item (`model.kernel.descriptor`). T and the counters are the live features. The factors
bring all features to one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor

_CLIP_LOGIT = 15.0
"""Bound of the frozen logit: its probability is then one in three million, and more would carry no information."""
_CLIP_LIVE = 30.0
"""Bound of a live feature. They are of order one; a huge one would dominate the information matrix."""
_RESIDUAL, _SHOWN, _MATCH = 0.5, 0.5, 0.2


@dataclass(frozen=True)
class KernelInputs:
    """The inputs of a kernel for `n` examples."""

    x: Tensor
    """Representation, float32 `(n, d)`."""
    live: Tensor
    """Live features, T then counters, float32 `(n, k)`."""
    values: Tensor
    """Values of the items' crossed fields, int16 `(n, S)`; -1 is an empty slot."""
    frozen_logit: Tensor
    """Logit of the frozen model, float32 `(n,)`."""


@dataclass(frozen=True)
class BilinearForm:
    """A kernel's weights less those of the identity, `w - e_f`, as the factors of a bilinear form."""

    change: Tensor
    """Weights of the direct features, `(direct,)`."""
    shown: Tensor
    """a, the descriptor's own weights, `(m + 1,)`."""
    matched: Tensor
    """M, the weights of `z` times descriptor, `(r, m + 1)`."""


@dataclass(frozen=True)
class FeatureMap:
    """Maps examples of one backbone to features: `features` is the matrix, `logit` its product with the weights."""

    compression: Compression
    descriptor: Descriptor
    residuals: int
    """Number of T columns, the first of the live features."""
    counters: int
    """Number of counter columns, the last of the live features."""

    @property
    def direct(self) -> int:
        """Number of direct features, which come first."""
        return 2 + self.counters + self.residuals

    @property
    def width(self) -> int:
        """Number p of features."""
        return self.direct + (1 + self.compression.rank) * self.descriptor.width

    def features(self, inputs: KernelInputs) -> Tensor:
        """phi, float32 `(n, p)`."""
        direct = self._direct(inputs)
        shown, compressed = self.descriptor(inputs.values, inputs.frozen_logit), self.compression(inputs.x)
        crossed = (compressed[:, :, None] * shown[:, None, :]).flatten(1)
        return torch.cat([direct, _SHOWN * shown, _MATCH * crossed], dim=1)

    def logit(self, inputs: KernelInputs, form: BilinearForm) -> Tensor:
        """`frozen + (w - e_f)'phi`, float32 `(n,)`; with weights of `identity` it is the frozen logit, bit for bit.

        The matching is computed as the bilinear form `v+'(a + M'z)`, so the crossed features need not be formed.
        """
        shown = self.descriptor(inputs.values, inputs.frozen_logit)
        matched = torch.addmm(form.shown, self.compression(inputs.x), form.matched)
        return inputs.frozen_logit + self._direct(inputs) @ form.change + (shown * matched).sum(1)

    def form(self, weights: Tensor) -> BilinearForm:
        """Converts weights w `(p,)` to the form that `logit` uses, once per kernel."""
        change = weights[: self.direct].clone()
        change[0] -= 1.0
        matching = weights[self.direct :].view(1 + self.compression.rank, self.descriptor.width)
        return BilinearForm(change, _SHOWN * matching[0], _MATCH * matching[1:])

    def overall_rate(self, features: Tensor) -> Tensor:
        """Log-odds of the overall click rate, `(n,)`: the first counter among the features `(n, p)`."""
        return features[:, 2] if self.counters else torch.zeros(len(features))

    def identity(self) -> Tensor:
        """The weights of the frozen model, float32 `(p,)`: 1 for its logit, 0 for everything else."""
        weights = torch.zeros(self.width)
        weights[0] = 1.0
        return weights

    def _direct(self, inputs: KernelInputs) -> Tensor:
        level = inputs.frozen_logit.clamp(-_CLIP_LOGIT, _CLIP_LOGIT)[:, None]
        live = inputs.live.clamp(-_CLIP_LIVE, _CLIP_LIVE)
        residuals, counters = live[:, : self.residuals], live[:, self.residuals :]
        return torch.cat([level, torch.ones_like(level), counters, _RESIDUAL * residuals], dim=1)
