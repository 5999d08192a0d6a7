"""Phase 2, knowledge matching: what the stream teaches, as a Gaussian posterior over the weights, in closed form.

With features `phi` `(p,)`, a posterior `N(m, P^-1)` is carried from batch to batch by one Newton step of the Laplace
approximation (Bishop, Pattern Recognition and Machine Learning, 4.4 and 4.5), the past and the prior `N(m0, 1/tau)`
weighed by a half-life in examples (ours):

    l = 2^(-n / half_life)
    P <- l P + (1 - l) diag(tau) + sum p (1 - p) phi phi'
    m <- m + P^-1 (sum (y - p) phi - (1 - l) tau (m - m0))

There is no learning rate and no rehearsal: P keeps what past examples taught. `P^-1` is a Cholesky factor of P that is
computed anew every fourth batch, and at once where P has grown: a Newton step with a slightly old curvature ends in the
same place, one with far too little of it overshoots (docs/decisions/0083). Information matrices add up: groups that
learned apart are one sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_MIN_CURVATURE = 1e-6
REFRESH_BATCHES = 4
GROWTH = 1.1
"""Growth of any diagonal entry of P at which the factor is computed anew."""
_FIRST_JITTER = 1e-6


def information(features: Tensor, logit: Tensor, weight: Tensor) -> Tensor:
    """`sum p (1 - p) phi phi'` of a batch, `(p, p)`: features `(n, p)`, logits and sample weights `(n,)`."""
    score = torch.sigmoid(logit)
    curvature = (weight * score * (1 - score)).clamp_(min=_MIN_CURVATURE)
    return (features * curvature[:, None]).T @ features


class Posterior:
    """Posteriors of nested models that share one information matrix: each sees the first so many features.

    The leading block of a Cholesky factor is the factor of the leading block: a smaller model costs one more solution.
    """

    def __init__(self, mean: Tensor, prior: Tensor, half_life: float, widths: Sequence[int]) -> None:
        """`mean` m0 and precisions `prior` tau, both `(p,)`; `widths` are the nested models' numbers of features."""
        self.prior_mean, self.prior, self.half_life = mean.clone(), prior.clone(), half_life
        self.means = [mean[:width].clone() for width in widths]
        """Weights m of each model, float32 `(width,)`."""
        self.precision = torch.diag(prior)
        """P, float32 `(p, p)`."""
        self.factor = torch.diag(prior.sqrt())
        """Lower Cholesky factor of P as it was at the last refresh, float32 `(p, p)`."""
        self._refreshed = prior.clone()
        self.batches = 0
        self._row, self._column = torch.tril_indices(len(mean), len(mean))

    def start_from(self, means: Sequence[Tensor], precision: Tensor, examples: int) -> None:
        """Takes what was learned before: a mean per model, and the precision `(p, p)`.

        Of `examples` that nothing was forgotten of, it keeps as much as its half-life would have.
        """
        kept = min(1.0, self.half_life / math.log(2) / max(examples, 1))
        self.means = [mean.clone() for mean in means]
        self.precision = kept * precision + (1 - kept) * torch.diag(self.prior)
        self._refresh()

    def logit(self, features: Tensor, model: int) -> Tensor:
        """Logits `(n,)` of one of the models, of features `(n, p)`."""
        mean = self.means[model]
        return features[:, : len(mean)] @ mean

    def learn(self, features: Tensor, label: Tensor, weight: Tensor, added: Tensor) -> None:
        """One Newton step of every model: features `(n, p)`, 0/1 labels and sample weights `(n,)`.

        `added` is the batch's `information`, which posteriors beside each other share.
        """
        forgotten = 1.0 - 2.0 ** (-len(features) / self.half_life)
        # P <- l P + (1 - l) diag(tau) + sum p (1 - p) phi phi'
        self.precision.mul_(1 - forgotten).add_(added).diagonal().add_(self.prior, alpha=forgotten)
        grown = self.precision.diagonal() > GROWTH * self._refreshed
        if self.batches % REFRESH_BATCHES == 0 or bool(grown.any()):
            self._refresh()
        self.batches += 1
        for model, mean in enumerate(self.means):
            width = len(mean)
            # m <- m + P^-1 (sum (y - p) phi - (1 - l) tau (m - m0))
            error = weight * (label - torch.sigmoid(self.logit(features, model)))
            pull = forgotten * self.prior[:width] * (mean - self.prior_mean[:width])
            gradient = features[:, :width].T @ error - pull
            mean.add_(torch.cholesky_solve(gradient[:, None], self.factor[:width, :width])[:, 0])

    def nats(self) -> float:
        """`KL(posterior || prior)` of the widest model: what has been learned, nats in all."""
        whole = max(self.means, key=len)
        factor = self.factor.double()
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor), dtype=torch.float64), upper=False)
        trace = (self.prior * (inverse**2).sum(0)).sum()
        moved = (self.prior * (whole - self.prior_mean) ** 2).sum()
        log_ratio = 2 * factor.diagonal().log().sum() - self.prior.double().log().sum()
        return float(0.5 * (trace + moved - len(factor) + log_ratio))

    def gain(self, features: Tensor, logit: Tensor) -> Tensor:
        """Nats that the label of each example is expected to teach, `(n,)`: `1/2 ln(1 + p (1 - p) phi'P^-1 phi)`."""
        score = torch.sigmoid(logit)
        solved = torch.linalg.solve_triangular(self.factor, features.T, upper=False)
        return 0.5 * torch.log1p(score * (1 - score) * (solved**2).sum(0))

    def _refresh(self) -> None:
        """Double precision, for P may be nearly singular; if single precision has lost its rank, a little is added.

        Raises FloatingPointError for a P that no addition makes positive definite.
        """
        precise = self.precision.double()
        factor, failed = torch.linalg.cholesky_ex(precise)
        jitter = _FIRST_JITTER
        while bool(failed):
            if not bool(torch.isfinite(precise).all()) or bool((precise.diagonal() <= 0).any()):
                raise FloatingPointError(
                    "the posterior's precision is not finite or not positive: go back to a snapshot"
                )
            precise.diagonal().mul_(1 + jitter)
            factor, failed = torch.linalg.cholesky_ex(precise)
            jitter *= 10
        self.factor = factor.float()
        self._refreshed = self.precision.diagonal().clone()

    def state(self) -> dict[str, Tensor]:
        """The posterior, for a snapshot; of the symmetric P and of the factor the lower triangle."""
        triangle = (self._row, self._column)
        means = {f"mean.{model}": mean for model, mean in enumerate(self.means)}
        return {
            **means,
            "precision": self.precision[triangle],
            "factor": self.factor[triangle],
            "refreshed": self._refreshed,
            "batches": torch.tensor(self.batches),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.means = [state[f"mean.{model}"].clone() for model in range(len(self.means))]
        self.precision[self._row, self._column] = state["precision"]
        self.precision[self._column, self._row] = state["precision"]
        self.factor = torch.zeros_like(self.factor)
        self.factor[self._row, self._column] = state["factor"]
        self._refreshed = state["refreshed"].clone()
        self.batches = int(state["batches"])
