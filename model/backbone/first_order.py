"""Initial weights of the first-order path: a logistic regression of the clicks on the target statistics."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from model.backbone.optimisers import LBFGS

_PRIOR = 1.0
"""Precision of the normal prior, which is centred at weights of 0 and the bias of the overall rate. It keeps the
solution unique when all labels are equal or there are as many columns as examples."""
_STEPS = 200


def regress(columns: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum a posteriori weights `(k,)` and bias `()` for columns `(n, k)` and 0/1 labels `(n,)`, float32."""
    x, y = columns.double(), label.double()
    start = torch.logit((y.sum() + 1.0) / (len(y) + 2.0))
    change = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = LBFGS(
        [change], max_iter=_STEPS, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logit = x @ change[:-1] + start + change[-1]
        value = binary_cross_entropy_with_logits(logit, y, reduction="sum") + 0.5 * _PRIOR * change.square().sum()
        value = value / len(y)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    found = change.detach()
    return found[:-1].float(), (start + found[-1]).float()
