"""The kernel's closed-form path on its own: `frozen logit + m'[x, T, 1]` (ours; see `model.closed_path`)."""

from __future__ import annotations

from torch import Tensor

from model.adapters.base import AdapterContext, StreamBatch
from model.batch import MicroBatch
from model.closed_path import ClosedPath, path_features


class ClosedForm:
    """The path as an adapter; the half-life of its memory, in examples, takes the place of a learning rate."""

    def __init__(self, context: AdapterContext, half_life: float) -> None:
        width = context.backbone.width + context.live_width + 1
        self._path = ClosedPath(width, half_life, context.learner.path_prior)
        self.parameters = width
        self.state_bytes = 8 * (width + width * width)

    def score(self, batch: StreamBatch) -> Tensor:
        """The frozen logit and the path."""
        return batch.micro.frozen_logit + self._path.logit(_features(batch.micro)).float()

    def learn(self, batch: StreamBatch) -> None:
        """One Newton step; examples weigh as their batch says."""
        micro = batch.micro
        self._path.learn(_features(micro), micro.frozen_logit.double(), micro.label.double(), micro.weight.double())


def _features(micro: MicroBatch) -> Tensor:
    return path_features(micro.x, micro.live)
