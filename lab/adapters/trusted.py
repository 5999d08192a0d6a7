"""Another adapter mixed with the frozen model as the kernel is: how much of the kernel's gain is the mixing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lab.adapters.base import Adapter, AdapterContext, StreamBatch
from lab.adapters.fixed_share import FixedShare


class Trusted:
    """`frozen + g (inner - frozen)` with the trust `g` of `lab.adapters.fixed_share`, updated as the kernel's is."""

    def __init__(self, inner: Adapter, context: AdapterContext) -> None:
        self._inner = inner
        self._trust = FixedShare(2, context.learner.trust_half_life, context.learner.trust_rate)
        self.parameters = inner.parameters + 2
        self.state_bytes = inner.state_bytes + 16

    def score(self, batch: StreamBatch) -> Tensor:
        """The logit of the frozen model mixed with the adapter's by their trust, `(n,)`."""
        frozen = batch.micro.frozen_logit
        return frozen + float(self._trust.weights[1]) * (self._inner.score(batch) - frozen)

    def learn(self, batch: StreamBatch) -> None:
        """Updates the weights by the scores from before learning, then lets the inner adapter learn."""
        micro = batch.micro
        arms = torch.stack([micro.frozen_logit, self._inner.score(batch)]).double()
        self._trust.update(arms, micro.label.double(), micro.weight.double())
        self._inner.learn(batch)


def trusted(
    make: Callable[[AdapterContext, float], Adapter],
) -> Callable[[AdapterContext, float], Adapter]:
    """The builder of a trusted adapter."""
    return lambda context, rate: Trusted(make(context, rate), context)
