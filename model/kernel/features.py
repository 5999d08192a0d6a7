"""From one example to the numbers that the kernel is linear in (ours).

    direct    f, 1, counters, T / 2                         the fresh events alone
    matching  v+ / 2, 0.2 z_k v+_j for all k and j          knowledge of who asks, crossed with what is shown

`f` is the logit of the frozen model, clipped at 15; `z` the compressed knowledge (`model.kernel.compression`), `v+`
what is shown (`model.kernel.descriptor`), T and the counters the live features. The factors bring all to one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor

_CLIP_LOGIT = 15.0
"""A logit beyond it says no more: a probability of one in three million."""
_CLIP_LIVE = 30.0
"""Live features are of the order of one; one that is not must not become the whole information matrix."""
_RESIDUAL, _SHOWN, _MATCH = 0.5, 0.5, 0.2


@dataclass(frozen=True)
class KernelInputs:
    """What a kernel sees of `n` examples."""

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
    """A kernel's weights, `w - e_f`, by what they are multiplied with."""

    change: Tensor
    """Of the direct features, `(direct,)`."""
    shown: Tensor
    """a, `(m + 1,)`."""
    matched: Tensor
    """M, `(r, m + 1)`."""


@dataclass(frozen=True)
class FeatureMap:
    """The features of a backbone: `features` is the matrix, `logit` its product with weights, computed cheaply."""

    compression: Compression
    descriptor: Descriptor
    residuals: int
    """Number of columns of T, with which the live features begin."""
    counters: int
    """Number of columns of counters, with which they end."""

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

        The matching is a bilinear form, `v+'(a + M'z)`, so that no product of the two is written out.
        """
        shown = self.descriptor(inputs.values, inputs.frozen_logit)
        asked = torch.addmm(form.shown, self.compression(inputs.x), form.matched)
        return inputs.frozen_logit + self._direct(inputs) @ form.change + (shown * asked).sum(1)

    def form(self, weights: Tensor) -> BilinearForm:
        """Weights w `(p,)` as `logit` uses them, made once per kernel."""
        change = weights[: self.direct].clone()
        change[0] -= 1.0
        matching = weights[self.direct :].view(1 + self.compression.rank, self.descriptor.width)
        return BilinearForm(change, _SHOWN * matching[0], _MATCH * matching[1:])

    def overall_rate(self, features: Tensor) -> Tensor:
        """Log-odds of the click rate of all examples, `(n,)`, as features `(n, p)` hold it: the first counter."""
        return features[:, 2] if self.counters else torch.zeros(len(features))

    def identity(self) -> Tensor:
        """The weights of the frozen model, float32 `(p,)`: 1 for its logit, 0 for all else."""
        weights = torch.zeros(self.width)
        weights[0] = 1.0
        return weights

    def _direct(self, inputs: KernelInputs) -> Tensor:
        level = inputs.frozen_logit.clamp(-_CLIP_LOGIT, _CLIP_LOGIT)[:, None]
        live = inputs.live.clamp(-_CLIP_LIVE, _CLIP_LIVE)
        residuals, counters = live[:, : self.residuals], live[:, self.residuals :]
        return torch.cat([level, torch.ones_like(level), counters, _RESIDUAL * residuals], dim=1)
