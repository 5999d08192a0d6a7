"""The kernel as one adapter among others: the same learner that the stream processor runs."""

from __future__ import annotations

import torch
from torch import Tensor

from model.adapters.base import AdapterContext, GradientAdapter, StreamBatch
from model.adapters.closed_form import ClosedForm
from model.kernel import Kernel, adapt
from model.learner import Learner

PUBLISH_BATCHES = 8


class Iak:
    """An IAK of the context's configuration, with the given changes."""

    def __init__(self, context: AdapterContext, rate: float, **changes: object) -> None:
        kernel = context.kernel.model_copy(update=changes)
        learner = context.learner.model_copy(update={"learning_rate": rate, "seed": context.seed})
        self._learner = Learner(
            context.backbone, kernel, learner, live_width=context.live_width, domain_sizes=context.domain_sizes
        )
        self.parameters = sum(p.numel() for p in self._learner.candidate.parameters())
        self.state_bytes = 5 * 4 * self.parameters  # values, gradient, two moments, anchor
        self._batches = 0

    def score(self, batch: StreamBatch) -> Tensor:
        """Logits of the candidate."""
        with torch.no_grad():
            return self._learner.score(batch.micro)

    def learn(self, batch: StreamBatch) -> None:
        """One micro-batch; the proximal tie moves on as if a kernel was published now and then."""
        self._learner.learn(batch.micro)
        self._batches += 1
        if self._batches % PUBLISH_BATCHES == 0:
            self._learner.publish()


class IakClosed:
    """An IAK of reading D whose linear path is the closed-form layer over `[x, T, 1]`.

    The layer learns beside the frozen logit, blind to the kernel; the kernel learns what the layer leaves over.
    """

    def __init__(
        self, context: AdapterContext, rate: float, *, forget: float = 0.01, rehearsal_steps: int | None = None
    ) -> None:
        config = context.kernel.model_copy(update={"reading": "D", "plug": "before", "use_linear": False})
        self._kernel = Kernel(
            config, width=context.backbone.width, live_width=context.live_width,
            domain_sizes=context.domain_sizes, seed=context.seed,
        )  # fmt: skip
        self._closed = ClosedForm(context, forget)
        self._backbone = context.backbone
        changed = {} if rehearsal_steps is None else {"rehearsal_steps": rehearsal_steps}
        learner = context.learner.model_copy(update=changed)
        self._gradient = GradientAdapter([(self._kernel.core_parameters(), rate)], self._logits, learner, context.seed)
        self.parameters = self._gradient.parameters + self._closed.parameters
        self.state_bytes = self._gradient.state_bytes + self._closed.state_bytes

    def _logits(self, batch: StreamBatch) -> Tensor:
        micro = batch.micro
        return adapt(self._kernel, self._backbone, micro.x, micro.live, micro.domain) + self._closed.path(micro)

    def score(self, batch: StreamBatch) -> Tensor:
        """Kernel and layer."""
        return self._gradient.score(batch)

    def learn(self, batch: StreamBatch) -> None:
        """The layer first, then the kernel beside it."""
        self._closed.learn(batch)
        self._gradient.learn(batch)
