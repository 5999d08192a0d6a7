"""Another adapter under the kernel's trust: what of the kernel's lead is the mixing, and what is the kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lab.adapters.base import Adapter, AdapterContext, StreamBatch
from model.kernel.trust import Trust


class Trusted:
    """`frozen + g (inner - frozen)` with the trust `g` of `model.kernel.trust`, judged as the kernel's is."""

    def __init__(self, inner: Adapter, context: AdapterContext) -> None:
        self._inner = inner
        self._trust = Trust(2, context.learner.trust_half_life, context.learner.trust_rate)
        self.parameters = inner.parameters + 2
        self.state_bytes = inner.state_bytes + 16

    def score(self, batch: StreamBatch) -> Tensor:
        """The mixed logit."""
        frozen = batch.micro.frozen_logit
        return frozen + float(self._trust.weights[1]) * (self._inner.score(batch) - frozen)

    def learn(self, batch: StreamBatch) -> None:
        """Judges, then lets the inner adapter learn."""
        micro = batch.micro
        arms = torch.stack([micro.frozen_logit, self._inner.score(batch)]).double()
        self._trust.judge(arms, micro.label.double(), micro.weight.double())
        self._inner.learn(batch)


def trusted(
    make: Callable[[AdapterContext, float], Adapter],
) -> Callable[[AdapterContext, float], Adapter]:
    """The builder of a trusted adapter."""
    return lambda context, rate: Trusted(make(context, rate), context)
