"""Phase 2, knowledge matching: a Gaussian posterior over the kernel's weights, learned from the stream in closed form.

The log likelihood of a label `y` at the logit `z = phi'm` is `y z - A(z)` with `A(z) = ln(1 + e^z)`, which is linear in
the label. `A` is expanded to second order at the logit `e` that was served and logged. The log likelihood of an example
is then quadratic in the weights, and `y phi` is its only term with the label. The sums of these terms are the natural
parameters `P` and `b = P m` of a Gaussian `N(m, P^-1)` (Bishop, Pattern Recognition and Machine Learning, 2.3 and 4.4).
A half-life in examples weights the past against the prior `N(m0, 1/tau)` (ours):

    p = sigmoid(e);   w = A''(e), and no less than A'' at the bound if e is more than 2 from the overall rate's log-odds
    l = 2^(-n / half_life)
    P <- l P + (1 - l) diag(tau)    + sum w phi phi'
    b <- l b + (1 - l) tau m0       + sum (y - p + w e) phi
    m  = P^-1 b

There is no learning rate and no rehearsal. If a click arrives `k` examples after its example was learned, then
`2^(-k / half_life) phi` is added to `b`, and the posterior equals that of a stream whose click was on time
(docs/decisions/0095). Natural parameters are additive, so groups that learned apart can be summed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_REACH = 2.0
"""The curvature is that of a logit no further than this from the overall click rate's log-odds. If a served model is
sure and wrong, the curvature would otherwise be nearly zero, and the weights would diverge (docs/decisions/0095)."""
_FARTHEST = 15.0
"""Served logits are clipped at this value, as the features are."""
_FIRST_JITTER = 1e-6


@dataclass(frozen=True)
class Expansion:
    """The points at which the likelihoods of `n` examples are expanded; they depend on the log, never on a label."""

    served: Tensor
    """Logits of the arm that was served, float32 `(n,)`."""
    rate: Tensor
    """Log-odds of the overall click rate when they were served, float32 `(n,)`."""

    def point(self) -> Tensor:
        """e, `(n,)`."""
        return self.served.clamp(-_FARTHEST, _FARTHEST)

    def curvature(self) -> Tensor:
        """w, `(n,)`."""
        score = torch.sigmoid(torch.minimum(torch.maximum(self.served, self.rate - _REACH), self.rate + _REACH))
        return score * (1 - score)


@dataclass(frozen=True)
class BatchLikelihood:
    """The natural parameters of a batch's likelihood, which every posterior adds to its own."""

    examples: int
    precision: Tensor
    """`sum w phi phi'`, float32 `(p, p)`."""
    vector: Tensor
    """`sum (y - p + w e) phi`, float32 `(p,)`."""

    @staticmethod
    def of(features: Tensor, label: Tensor, weight: Tensor, expansion: Expansion) -> BatchLikelihood:
        """Features `(n, p)`; 0/1 labels and sample weights `(n,)`."""
        point, curvature = expansion.point(), weight * expansion.curvature()
        error = weight * (label - torch.sigmoid(point)) + curvature * point
        return BatchLikelihood(len(features), (features * curvature[:, None]).T @ features, features.T @ error)


class Posterior:
    """Posteriors of nested models that share one precision; a smaller model sees the first features only. Immutable.

    The leading block of a Cholesky factor is the factor of the leading block, so a smaller model costs one more solve.
    """

    def __init__(self, mean: Tensor, prior: Tensor, half_life: float, widths: Sequence[int]) -> None:
        """`mean` m0 and precisions `prior` tau, both `(p,)`; `widths` are the nested models' numbers of features."""
        self.prior_mean, self.prior, self.half_life = mean.clone(), prior.clone(), half_life
        self.precision = torch.diag(prior)
        """P, float32 `(p, p)`."""
        self.vectors = [(prior * mean)[:width].clone() for width in widths]
        """b of each model, float32 `(width,)`."""
        self.means = [mean[:width].clone() for width in widths]
        """Weights m of each model, float32 `(width,)`."""
        self.factor = torch.diag(prior.sqrt())
        """Lower Cholesky factor of P, float32 `(p, p)`."""
        self._triangle = torch.tril_indices(len(mean), len(mean)).unbind()

    def started_from(self, means: Sequence[Tensor], precision: Tensor, examples: int) -> Posterior:
        """The posterior after earlier learning: a mean per model, and the precision `(p, p)`.

        That learning forgot none of its `examples`; the posterior keeps as much of it as its half-life would have kept.
        """
        kept = min(1.0, self.half_life / math.log(2) / max(examples, 1))
        mixed = kept * precision + (1 - kept) * torch.diag(self.prior)
        vectors = [mixed[: len(mean), : len(mean)] @ mean for mean in means]
        return self._with(mixed, _factor(mixed), vectors)

    def logit(self, features: Tensor, model: int) -> Tensor:
        """Logits `(n,)` of one of the models, of features `(n, p)`."""
        mean = self.means[model]
        return features[:, : len(mean)] @ mean

    def after(self, likelihood: BatchLikelihood) -> Posterior:
        """The posterior after a batch. Raises FloatingPointError if its P is not positive definite."""
        kept = 2.0 ** (-likelihood.examples / self.half_life)
        precision = torch.add(likelihood.precision, self.precision, alpha=kept)
        precision.diagonal().add_(self.prior, alpha=1 - kept)
        added = (1 - kept) * self.prior * self.prior_mean + likelihood.vector
        vectors = [kept * vector + added[: len(vector)] for vector in self.vectors]
        return self._with(precision, _factor(precision), vectors)

    def corrected(self, features: Tensor, weight: Tensor, age: Tensor) -> Posterior:
        """The posterior after late clicks on examples with these features `(n, p)`, learned before as not clicked.

        `weight` are their sample weights, `age` the examples learned since, float64, both `(n,)`.
        """
        change = features.T @ (weight * torch.exp2(-age / self.half_life)).float()
        return self._with(self.precision, self.factor, [vector + change[: len(vector)] for vector in self.vectors])

    def joined(self, parts: Sequence[tuple[Posterior, int]]) -> Posterior:
        """The sum of what `parts` learned apart, each starting from this posterior; with each its number of examples.

        What a part learned is its natural parameters minus what remains in them of the start, `2^(-n / half_life)`, and
        of the prior. These differences are added to start and prior as they would remain after all examples.
        """
        kept = [2.0 ** (-examples / self.half_life) for _, examples in parts]
        left = math.prod(kept) - sum(kept)  # of the start; of the prior the rest of each
        precision = left * self.precision
        precision.diagonal().add_(self.prior, alpha=1 - len(parts) - left)
        precision += sum(part.precision for part, _ in parts)
        base = (1 - len(parts) - left) * self.prior * self.prior_mean
        vectors = [left * vector + base[: len(vector)] for vector in self.vectors]
        for part, _ in parts:
            vectors = [own_vector + other for own_vector, other in zip(vectors, part.vectors, strict=True)]
        return self._with(precision, _factor(precision), vectors)

    def nats(self) -> float:
        """Information learned in total: `KL(posterior || prior)` of the widest model, nats."""
        whole = max(self.means, key=len)
        factor = self.factor.double()
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor), dtype=torch.float64), upper=False)
        trace = (self.prior * (inverse**2).sum(0)).sum()
        moved = (self.prior * (whole - self.prior_mean) ** 2).sum()
        log_ratio = 2 * factor.diagonal().log().sum() - self.prior.double().log().sum()
        return float(0.5 * (trace + moved - len(factor) + log_ratio))

    def gain(self, features: Tensor, logit: Tensor) -> Tensor:
        """Expected information of each example's label, nats, `(n,)`: `1/2 ln(1 + p (1 - p) phi'P^-1 phi)`."""
        score = torch.sigmoid(logit)
        solved = torch.linalg.solve_triangular(self.factor, features.T, upper=False)
        return 0.5 * torch.log1p(score * (1 - score) * (solved**2).sum(0))

    def _with(self, precision: Tensor, factor: Tensor, vectors: Sequence[Tensor]) -> Posterior:
        """The posterior with the same prior and other natural parameters, of which its weights are a function."""
        other = copy.copy(self)
        other.precision, other.factor, other.vectors = precision, factor, list(vectors)
        other.means = [
            torch.cholesky_solve(vector[:, None], factor[: len(vector), : len(vector)])[:, 0] for vector in vectors
        ]
        return other

    def state(self) -> dict[str, Tensor]:
        """For a snapshot: the natural parameters, which determine everything else; of P its lower triangle."""
        vectors = {f"vector.{model}": vector for model, vector in enumerate(self.vectors)}
        return {**vectors, "precision": self.precision[self._triangle]}

    def restored(self, state: Mapping[str, Tensor]) -> Posterior:
        """The posterior of a `state`. Raises FloatingPointError if its P is not positive definite."""
        precision = torch.empty_like(self.precision)
        row, column = self._triangle
        precision[row, column] = state["precision"]
        precision[column, row] = state["precision"]
        return self._with(precision, _factor(precision), [state[f"vector.{n}"] for n in range(len(self.vectors))])


def _factor(precision: Tensor) -> Tensor:
    """Lower Cholesky factor, float32.

    Where P has lost its rank in single precision, the factor is computed in double precision with a little added to the
    diagonal. Raises FloatingPointError if no such addition makes P positive definite.
    """
    factor, failed = torch.linalg.cholesky_ex(precision)
    precise, jitter = precision, _FIRST_JITTER
    while bool(failed):
        if not bool(torch.isfinite(precise).all()) or bool((precise.diagonal() <= 0).any()):
            raise FloatingPointError("the posterior's precision is not finite or not positive: go back to a snapshot")
        precise = precise.double()
        factor, failed = torch.linalg.cholesky_ex(precise)
        precise.diagonal().mul_(1 + jitter)
        jitter *= 10
    single: Tensor = factor.float()
    return single
