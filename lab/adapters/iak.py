"""The kernel as one adapter among others: the same learner that the stream processor runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from model.config import KernelConfig, LearnerConfig
from model.kernel.learner import Learner

PUBLISH_BATCHES = 8
"""Micro-batches between two publications that the proximal term is told of."""


class Iak:
    """An IAK of the context's configuration, with changes to `kernel` and `learner` by the names of their keys."""

    def __init__(
        self,
        context: AdapterContext,
        rate: float,
        *,
        kernel: Mapping[str, object] = MappingProxyType({}),
        learner: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self._learner = Learner(
            context.backbone,
            # Validated, where a copy with changes would pass over a key that does not exist.
            KernelConfig.model_validate({**context.kernel.model_dump(), **kernel}),
            LearnerConfig.model_validate(
                {**context.learner.model_dump(), **learner, "learning_rate": rate, "seed": context.seed}
            ),
            live_width=context.live_width,
            domain_sizes=context.domain_sizes,
        )
        self.parameters = self._learner.parameters
        self.state_bytes = self._learner.state_bytes
        self._batches = 0

    def score(self, batch: StreamBatch) -> Tensor:
        """Logits of the candidate."""
        with torch.no_grad():
            return self._learner.score(batch.micro)

    def learn(self, batch: StreamBatch) -> None:
        """One micro-batch; the proximal term's anchor moves on as if every eighth batch published a kernel."""
        self._learner.learn(batch.micro)
        self._batches += 1
        if self._batches % PUBLISH_BATCHES == 0:
            self._learner.move_anchor()
