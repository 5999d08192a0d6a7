"""Checks what a kernel would serve for recent requests, because its form alone says nothing about its scores.

The bounds are far outside of what learning from clicks leads to (docs/decisions/0104): a kernel beyond them is broken.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from model.kernel.features import KernelInputs
from model.kernel.kernel import Kernel
from model.kernel.record import KernelRefused

SATURATED_LOGIT, SATURATED_SHARE = 15.0, 0.05
"""Beyond that logit a score is 0 or 1 to six digits; the share allowed above the frozen model's share of such
scores."""
FAR_OFF_LOGIT = 5.0
"""Difference of mean logits; it means odds that differ by a factor of 148."""
COLLAPSED_SHARE, COLLAPSED_ROWS = 0.02, 32
"""Spread of the scores as a share of the frozen model's, and the number of rows from which it is judged."""
_ROWS_PER_REQUEST, _REQUESTS = 16, 64
CHECK_AGAIN = (8, 64)
"""Numbers of requests after which a group's kernel is checked again, because at the start there were none."""


def check_sanity(kernel: Kernel, inputs: KernelInputs) -> None:
    """Raises KernelRefused if the scores of `kernel` for `inputs`, `n` rows, are not fit to be served."""
    with torch.inference_mode():
        live, frozen = kernel.logit(inputs).double(), inputs.frozen_logit.double()
    if not bool(torch.isfinite(live).all()):
        raise KernelRefused("non_finite_scores", f"of {len(live)} recent candidates not all get a finite score")
    more = _saturated(live) - _saturated(frozen)
    if more > SATURATED_SHARE:
        raise KernelRefused(
            "saturated", f"{_saturated(live):.0%} of {len(live)} recent candidates get a score of 0 or 1 to six digits"
        )
    off = float(live.mean() - frozen.mean())
    if abs(off) > FAR_OFF_LOGIT:
        raise KernelRefused("far_off", f"mean logit of {len(live)} recent candidates is {off:+.1f} from the frozen one")
    if len(live) >= COLLAPSED_ROWS and float(live.std()) < COLLAPSED_SHARE * float(frozen.std()):
        raise KernelRefused(
            "collapsed", f"{len(live)} recent candidates get nearly one score: deviation {live.std():.2g} of the logits"
        )


def _saturated(logit: Tensor) -> float:
    return float((logit.abs() > SATURATED_LOGIT).double().mean())


class RecentRequests:
    """The first rows of the most recent requests of one group."""

    def __init__(self) -> None:
        self._parts: deque[KernelInputs] = deque(maxlen=_REQUESTS)
        self.seen = 0
        """Number of requests added."""

    def add(self, inputs: KernelInputs) -> None:
        """Adds the rows of one request."""
        self.seen += 1
        self._parts.append(
            KernelInputs(
                x=inputs.x[:_ROWS_PER_REQUEST].clone(),
                live=inputs.live[:_ROWS_PER_REQUEST].clone(),
                values=inputs.values[:_ROWS_PER_REQUEST].clone(),
                frozen_logit=inputs.frozen_logit[:_ROWS_PER_REQUEST].clone(),
            )
        )

    def check(self, kernel: Kernel) -> None:
        """Raises KernelRefused if `kernel` fails the check on these rows; without rows it passes."""
        if not self._parts:
            return
        check_sanity(
            kernel,
            KernelInputs(
                x=torch.cat([part.x for part in self._parts]),
                live=torch.cat([part.live for part in self._parts]),
                values=torch.cat([part.values for part in self._parts]),
                frozen_logit=torch.cat([part.frozen_logit for part in self._parts]),
            ),
        )
