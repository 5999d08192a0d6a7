"""The weights with which the arms are mixed: by recent log loss, and by evidence for the matching (ours).

There are four arms: the frozen model; the direct features alone; all features with a short and with a long memory. An
arm's weight falls with its log loss `L` on examples that it has not learned from, and a share moves towards the resting
weights `r` (fixed share; Herbster and Warmuth, Tracking the best expert, 1998):

    w <- w exp(-rate L) / sum;   w <- (1 - s) w + s r;   s = 1 - 2^(-n / half_life)

So no weight ever falls to zero, and an arm that was wrong for long recovers within a few hundred examples. The resting
weights change slowly. The frozen model always has `frozen_share`. The rest is divided between direct features and
matching by the evidence: the likelihood of the labels under all features against that under the direct ones, both with
the long memory (a Bayes factor over prior precisions `inf` and `tau`, tempered and forgetting; docs/decisions/0084).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from model.config import LearnerConfig

FROZEN, DIRECT, SHORT, LONG = range(4)
ARMS = ("frozen", "direct", "short", "long")
_LEAST_MATCHING, _LEAST_DIRECT = 0.01, 0.3
"""Least shares of the resting weights for the matching and for the direct features. The direct features are what
remains when an old taste returns, so evidence never takes all weight from them (docs/decisions/0084)."""
_STEP = 128
"""Examples of one step of the weights; `trust_half_life` was chosen with it (docs/decisions/0149)."""


class Trust:
    """Weights of the four arms."""

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self.evidence = 0.0
        """Log likelihood of the labels under all features less that under the direct ones, nats, decaying with
        `evidence_half_life`."""
        self.weights = self._resting()
        """Sum to one, float64 `(4,)`, in the order of `ARMS`."""

    @property
    def matching(self) -> float:
        """Probability that the matching helps beside the direct features, given the evidence."""
        return 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, self._config.evidence_rate * self.evidence))))

    def update(self, logits: Tensor, label: Tensor, weight: Tensor) -> None:
        """Updates weights and evidence from the arms' logits `(4, n)` on labels that no arm has learned from.

        Labels and sample weights are `(n,)`. It computes in double precision, because summed losses are exponentiated.
        A large batch is taken in steps, because the weights forget within fewer examples than it holds.
        """
        target, weights = label.double().expand_as(logits), weight.double().expand_as(logits)
        loss = binary_cross_entropy_with_logits(logits.double(), target, weights, reduction="none")
        for begin in range(0, len(label), _STEP):
            step = loss[:, begin : begin + _STEP]
            self._update(step.sum(1), step.shape[1])

    def _update(self, loss: Tensor, n: int) -> None:
        """Takes the arms' losses `(4,)`, in nats, summed over `n` examples."""
        config = self._config
        gained = float(loss[DIRECT] - loss[LONG])
        self.evidence = self.evidence * 2.0 ** (-n / config.evidence_half_life) + gained
        posterior = torch.softmax(torch.log(self.weights) - config.trust_rate * loss, 0)
        share = 1.0 - 2.0 ** (-n / config.trust_half_life)
        self.weights = (1 - share) * posterior + share * self._resting()

    def _resting(self) -> Tensor:
        frozen = self._config.frozen_share
        rest, matching = 1 - frozen, _LEAST_MATCHING + (1 - _LEAST_MATCHING - _LEAST_DIRECT) * self.matching
        parts = [frozen, rest * (1 - matching), rest * matching / 2, rest * matching / 2]
        return torch.tensor(parts, dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:
        """For a snapshot."""
        return {"weights": self.weights, "evidence": torch.tensor(self.evidence, dtype=torch.float64)}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.weights, self.evidence = state["weights"].clone(), float(state["evidence"])
