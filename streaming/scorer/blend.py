"""The ranking key of an answer: the click probability, or a blend of click, conversion and relevance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.backbone.schema import BackboneRefused

Floats = NDArray[np.float32] | NDArray[np.float64]


def probability(logit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of logits, float32."""
    return torch.from_numpy(logit).sigmoid().numpy()


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores by which candidates are ordered; each column is `(n,)`, in the order of the candidates."""

    key: Floats
    """Sort key, largest first: a logit or a logarithm, because probabilities saturate."""
    score: Floats
    """The score in the answer."""
    cvr: NDArray[np.float32] | None
    """Probability of a conversion given a click; None for a backbone without conversions."""
    relevance: NDArray[np.float32] | None = None
    """Relevance to the query; None without a query, or for a backbone without relevance."""


@dataclass(frozen=True, slots=True)
class Blend:
    """`score = CTR (1 - c + c CVR) (1 - r + r REL)` with weights `c` of conversion and `r` of relevance (ours;
    docs/decisions/0129, 0148).

    A click is worth `1 - c`, a conversion `c` more; of the score of an item that is not relevant at all, `1 - r` is
    left. Weights of 0 order by clicks alone. A factor without its logits counts as 1.
    """

    conversion: float = 0.0
    relevance: float = 0.0

    def check(self, *, has_conversion: bool, has_relevance: bool) -> None:
        """Raises BackboneRefused if something is to count that the backbone does not predict."""
        if self.conversion > 0 and not has_conversion:
            raise BackboneRefused(
                f"scorer.conversion_weight is {self.conversion:g}, but the backbone was trained for clicks alone: "
                'pretrain it with backbone.tasks = "ctr_ctcvr", or set scorer.conversion_weight = 0'
            )
        if self.relevance > 0 and not has_relevance:
            raise BackboneRefused(
                f"scorer.relevance_weight is {self.relevance:g}, but the backbone predicts no relevance: pretrain it "
                "with backbone.relevance_weight above 0, or set scorer.relevance_weight = 0"
            )

    def rank(
        self,
        ctr: NDArray[np.float32],
        cvr: NDArray[np.float32] | None,
        relevance: NDArray[np.float32] | None = None,
    ) -> Ranking:
        """The ranking by logits of CTR and CVR of the served arm, and of relevance, `(n,)` each."""
        shown = [None if logit is None else probability(logit) for logit in (cvr, relevance)]
        weighed = ((self.conversion, cvr), (self.relevance, relevance))
        factors = [_log_factor(weight, logit) for weight, logit in weighed if weight > 0 and logit is not None]
        if not factors:
            return Ranking(ctr, probability(ctr), *shown)
        key = sum(factors) - np.logaddexp(0.0, -ctr.astype(np.float64))
        return Ranking(key, np.exp(key), *shown)


def _log_factor(weight: float, logit: NDArray[np.float32]) -> NDArray[np.float64]:
    """`log(1 - weight + weight p)` for logits of `p`, `(n,)`; `log p = -log(1 + e^-z)`."""
    rest = math.log1p(-weight) if weight < 1 else -math.inf
    return np.asarray(np.logaddexp(rest, math.log(weight) - np.logaddexp(0.0, -logit.astype(np.float64))))
