"""A closed-form path on its own: `frozen logit + m'[x, T, 1]` (ours; see `lab.adapters.closed_path`)."""

from __future__ import annotations

from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from lab.adapters.closed_path import ClosedPath
from lab.adapters.line_features import LineFeatures

PRIOR = 30.0
"""Prior precision of every weight, in examples."""


class ClosedForm:
    """The path as an adapter; its learning rate is the half-life of its memory, in examples."""

    def __init__(self, context: AdapterContext, half_life: float) -> None:
        self._features = LineFeatures(context.backbone.width, context.live_width)
        self._path = ClosedPath(self._features.width, half_life, PRIOR)
        self.parameters = self._features.width
        self.state_bytes = sum(tensor.nbytes for tensor in self._path.state().values())

    def score(self, batch: StreamBatch) -> Tensor:
        """The frozen logit plus the closed-form correction, `(n,)`."""
        micro = batch.micro
        return micro.frozen_logit + self._path.logit(self._features(micro.x, micro.live))

    def learn(self, batch: StreamBatch) -> None:
        """One Newton step on the batch, with its sample weights."""
        micro = batch.micro
        self._features.observe(micro.x, micro.live)
        self._path.learn(self._features(micro.x, micro.live), micro.frozen_logit, micro.label, micro.weight)
