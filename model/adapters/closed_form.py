"""A closed-form last layer: Bayesian logistic regression beside the frozen logit (ours; not in either paper).

With `phi = [x, T, 1]` and `z = offset + m'phi`, a Gaussian posterior `N(m, P^-1)` over the weights is carried from
batch to batch by one Newton step of the Laplace approximation (Bishop, Pattern Recognition and Machine Learning, 4.4
and 4.5):

    P <- lambda P + (1 - lambda) tau I + sum p (1 - p) phi phi'
    m <- m + P^-1 (sum (y - p) phi - (1 - lambda) tau m)

`lambda` below one forgets; the prior comes back as the data fade. There is no learning rate and no rehearsal: P
holds what past examples had to say.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.adapters.base import AdapterContext, StreamBatch
from model.batch import MicroBatch

PRIOR = 30.0
"""Prior precision tau of every weight: 30 pseudo-examples of unit size, tuned as the rates were."""


class ClosedForm:
    """The layer as an adapter; its `forget` takes the place of a learning rate: lambda is `1 - forget` per batch."""

    def __init__(self, context: AdapterContext, forget: float, *, prior: float = PRIOR) -> None:
        width = context.backbone.width + context.live_width + 1
        self._forget, self._prior = forget, prior
        self._mean = torch.zeros(width, dtype=torch.float64)
        self._precision = prior * torch.eye(width, dtype=torch.float64)
        self.parameters = width
        self.state_bytes = 8 * (width + width * width)

    def path(self, micro: MicroBatch) -> Tensor:
        """What the layer adds to a logit, `(n,)`."""
        return (self._features(micro) @ self._mean).float()

    def score(self, batch: StreamBatch) -> Tensor:
        """The frozen logit and the layer."""
        return batch.micro.frozen_logit + self.path(batch.micro)

    def learn(self, batch: StreamBatch) -> None:
        """One Newton step; examples weigh as their batch says."""
        micro = batch.micro
        features, weight = self._features(micro), micro.weight.double()
        score = torch.sigmoid(micro.frozen_logit.double() + features @ self._mean)
        curvature = (weight * score * (1 - score)).clamp(min=1e-6)
        self._precision.mul_(1 - self._forget).diagonal().add_(self._forget * self._prior)
        self._precision.addmm_((features * curvature[:, None]).T, features)
        gradient = features.T @ (weight * (micro.label.double() - score)) - self._forget * self._prior * self._mean
        self._mean = self._mean + torch.linalg.solve(self._precision, gradient)

    @staticmethod
    def _features(micro: MicroBatch) -> Tensor:
        return torch.cat([micro.x, micro.live, torch.ones(len(micro), 1)], dim=1).double()
