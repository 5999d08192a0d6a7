"""The ranking key of an answer: the click probability, or a blend of click and conversion."""

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


@dataclass(frozen=True, slots=True)
class Blend:
    """`score = CTR (1 - weight + weight CVR)`: a click is worth `1 - weight`, a conversion `weight` more
    (ours; docs/decisions/0129). Weight 0 orders by clicks alone, weight 1 by CTCVR.
    """

    weight: float = 0.0

    def check(self, has_conversion: bool) -> None:
        """Raises BackboneRefused if conversions are to count but the backbone does not predict them."""
        if self.weight > 0 and not has_conversion:
            raise BackboneRefused(
                f"scorer.conversion_weight is {self.weight:g}, but the backbone was trained for clicks alone: pretrain "
                'it with backbone.tasks = "ctr_ctcvr", or set scorer.conversion_weight = 0'
            )

    def rank(self, ctr: NDArray[np.float32], cvr: NDArray[np.float32] | None) -> Ranking:
        """The ranking by logits of CTR and CVR of the served arm, `(n,)` each."""
        converts = None if cvr is None else probability(cvr)
        if cvr is None or self.weight == 0:
            return Ranking(ctr, probability(ctr), converts)
        click, conversion = ctr.astype(np.float64), cvr.astype(np.float64)
        # log sigmoid(z) = -log(1 + e^-z)
        rest = math.log1p(-self.weight) if self.weight < 1 else -math.inf
        worth = np.logaddexp(rest, math.log(self.weight) - np.logaddexp(0.0, -conversion))
        key = worth - np.logaddexp(0.0, -click)
        return Ranking(key, np.exp(key), converts)
