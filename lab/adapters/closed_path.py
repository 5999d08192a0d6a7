"""A linear path to the logit that is learned in closed form (ours; in neither paper).

With features `phi` `(p,)` and `z = offset + m'phi`, a Gaussian posterior `N(m, P^-1)` over the weights is carried from
batch to batch by one Newton step of the Laplace approximation (Bishop, Pattern Recognition and Machine Learning, 4.4
and 4.5), the past and the prior `N(0, 1/tau)` weighed by a half-life in examples:

    l = 2^(-n / half_life)
    P <- l P + (1 - l) tau I + sum p (1 - p) phi phi'
    m <- m + P^-1 (sum (y - p) phi - (1 - l) tau m)

There is no learning rate and no rehearsal: P keeps what past examples taught. Why a Newton step and not a gradient
step: docs/decisions/0063.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MIN_CURVATURE = 1e-6


class ClosedPath:
    """The posterior over the weights of `width` features; it starts as the prior, whose mean is zero.

    Single precision: features must be of the order of one, as `lab.adapters.line_features` makes them.
    """

    def __init__(self, width: int, half_life: float, prior: float) -> None:
        self.half_life, self.prior = half_life, prior
        self.mean = torch.zeros(width)
        """Weights m, `(p,)`."""
        self.precision = prior * torch.eye(width)
        """P, `(p, p)`."""
        self._row, self._column = torch.tril_indices(width, width)

    def logit(self, features: Tensor) -> Tensor:
        """The path's part of the logit, `(n,)`, from features `(n, p)`."""
        return features @ self.mean

    def learn(self, features: Tensor, offset: Tensor, label: Tensor, weight: Tensor) -> None:
        """One Newton step: features `(n, p)`; the logit without the path, 0/1 labels and sample weights, each `(n,)`.

        All float32.
        """
        forgotten = 1.0 - 2.0 ** (-len(features) / self.half_life)
        score = torch.sigmoid(offset + self.logit(features))
        curvature = (weight * score * (1 - score)).clamp_(min=_MIN_CURVATURE)
        # P <- l P + (1 - l) tau I + sum p (1 - p) phi phi'
        self.precision.mul_(1 - forgotten).diagonal().add_(forgotten * self.prior)
        self.precision.add_((features * curvature[:, None]).T @ features)
        # m <- m + P^-1 (sum (y - p) phi - (1 - l) tau m)
        error = weight * (label - score)
        gradient = features.T @ error - forgotten * self.prior * self.mean
        step = torch.cholesky_solve(gradient[:, None], torch.linalg.cholesky(self.precision))
        self.mean = self.mean + step[:, 0]

    def state(self) -> dict[str, Tensor]:
        """The posterior, for a snapshot; of the symmetric P its lower triangle."""
        return {"path_mean": self.mean, "path_precision": self.precision[self._row, self._column]}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.mean = state["path_mean"].clone()
        self.precision[self._row, self._column] = state["path_precision"]
        self.precision[self._column, self._row] = state["path_precision"]
