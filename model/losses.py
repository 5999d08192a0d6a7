"""Losses of the click, conversion and relevance tasks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, logsigmoid


def ctcvr(ctr: Tensor, cvr: Tensor) -> Tensor:
    """`p_CTCVR = p_CTR p_CVR`, `(n,)`, bounded away from 0 and 1, from logits of CTR and CVR, `(n,)` each."""
    return (logsigmoid(ctr) + logsigmoid(cvr)).exp().clamp(1e-7, 1 - 1e-7)


def entire_space_loss(
    logits: tuple[Tensor, Tensor],
    label: Tensor,
    conversion: Tensor,
    has_conversion: bool,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean BCE of CTR, and of CTCVR = CTR x CVR over all impressions (ESMM, arXiv 1804.07931), nats.

    Logits of CTR and CVR, labels and sample weights are `(n,)` each.
    """
    loss = binary_cross_entropy_with_logits(logits[0], label, weight)
    if has_conversion:
        loss = loss + binary_cross_entropy(ctcvr(*logits), conversion, weight)
    return loss


def relevance_loss(logit: Tensor, relevance: Tensor) -> Tensor:
    """Mean BCE of the judged pairs, nats; 0 if nobody judged any. Logits and judgements, NaN for none, are `(n,)`."""
    judged = ~torch.isnan(relevance)
    if not judged.any():
        return logit.new_zeros(())
    return binary_cross_entropy_with_logits(logit[judged], relevance[judged])
