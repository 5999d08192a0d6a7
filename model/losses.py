"""The task losses of backbone and kernel."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, logsigmoid


def ctcvr(logits: Tensor) -> Tensor:
    """`p_CTCVR = p_CTR p_CVR`, `(n,)`, kept off 0 and 1; logits of CTR and CVR are `(n, 2)`."""
    return (logsigmoid(logits[:, 0]) + logsigmoid(logits[:, 1])).exp().clamp(1e-7, 1 - 1e-7)


def entire_space_loss(
    logits: Tensor, label: Tensor, conversion: Tensor, has_conversion: bool, weight: Tensor | None = None
) -> Tensor:
    """Mean BCE of CTR, and of CTCVR = CTR x CVR over all impressions (ESMM, arXiv 1804.07931), nats.

    Logits of CTR and CVR are `(n, 2)`; labels and sample weights `(n,)`.
    """
    loss = binary_cross_entropy_with_logits(logits[:, 0], label, weight)
    if has_conversion:
        loss = loss + binary_cross_entropy(ctcvr(logits), conversion, weight)
    return loss
