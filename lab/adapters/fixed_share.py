"""Trust in the kernel: arms are mixed by their recent log loss (ours, docs/decisions/0075).

Fixed share (Herbster and Warmuth, Tracking the best expert, 1998) over arms of which the first is the frozen model. The
weight of an arm falls with its log loss `L` on examples it has not learned from, and a share goes back to equal
parts. No weight ever falls to nothing, so an arm that was wrong for long comes back within a few hundred examples:

    w <- w exp(-rate L) / sum;   w <- (1 - s) w + s / arms;   s = 1 - 2^(-n / half_life)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


class FixedShare:
    """Weights of `arms` arms, equal at first."""

    def __init__(self, arms: int, half_life: float, rate: float) -> None:
        self.half_life, self.rate = half_life, rate
        self.weights = torch.full((arms,), 1.0 / arms, dtype=torch.float64)
        """Sum to one, `(arms,)`."""

    def update(self, logits: Tensor, label: Tensor, weight: Tensor) -> None:
        """Updates the weights by logits `(arms, n)` on labels that no arm has learned from.

        Labels and sample weights are `(n,)`. Double precision: a batch's summed loss goes through an exponential.
        """
        target = label.expand_as(logits)
        loss = binary_cross_entropy_with_logits(logits, target, weight.expand_as(logits), reduction="none").sum(1)
        posterior = torch.softmax(torch.log(self.weights) - self.rate * loss, 0)
        share = 1.0 - 2.0 ** (-len(label) / self.half_life)
        self.weights = (1 - share) * posterior + share / len(posterior)
