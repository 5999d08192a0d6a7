"""Learning by gradient, as most adapters of the lab do: a step on the new batch, then steps on recent ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from lab.adapters.base import StreamBatch
from lab.adapters.optimiser import AdapterAdam
from lab.adapters.training import GradientTraining


class Recent(Protocol):
    """Recent batches kept for rehearsal."""

    def add(self, batch: StreamBatch) -> None:
        """Takes in the newest batch."""

    def draw(self, generator: torch.Generator) -> StreamBatch:
        """A batch to learn again; there is one as soon as one was added."""


class RecentBatches:
    """The newest `count` batches, each as likely as the others."""

    def __init__(self, count: int) -> None:
        self._batches: deque[StreamBatch] = deque(maxlen=count)

    def add(self, batch: StreamBatch) -> None:
        """Drops the oldest if there are too many."""
        self._batches.append(batch)

    def draw(self, generator: torch.Generator) -> StreamBatch:
        """One kept batch, unchanged."""
        return self._batches[int(torch.randint(len(self._batches), (), generator=generator))]


class GradientAdapter:
    """Trains parameters by Adam: one step per new batch, then `rehearsal_steps` on recent ones.

    `loss` is what a step lowers, by default the weighted log loss of `logits`; `recent` chooses what is learned again,
    by default any recent batch.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        logits: Callable[[StreamBatch], Tensor],
        training: GradientTraining,
        seed: int,
        *,
        loss: Callable[[StreamBatch], Tensor] | None = None,
        recent: Recent | None = None,
    ) -> None:
        self._logits, self._loss, self._training = logits, loss or self._log_loss, training
        self._optimiser = AdapterAdam(groups)
        self._recent = recent or RecentBatches(training.rehearsal_batches)
        self._generator = torch.Generator().manual_seed(seed)
        self.parameters = int(self._optimiser.values.numel())
        self.state_bytes = 4 * self._optimiser.values.element_size() * self.parameters
        """Values, gradient and two moments."""

    def score(self, batch: StreamBatch) -> Tensor:
        """Click logits before learning."""
        with torch.no_grad():
            return self._logits(batch)

    def learn(self, batch: StreamBatch) -> None:
        """One step, then `rehearsal_steps` on recent batches."""
        self._step(batch)
        self._recent.add(batch)
        for _ in range(self._training.rehearsal_steps):
            self._step(self._recent.draw(self._generator))

    def _log_loss(self, batch: StreamBatch) -> Tensor:
        micro = batch.micro
        return binary_cross_entropy_with_logits(self._logits(batch), micro.label, micro.weight)

    def _step(self, batch: StreamBatch) -> None:
        self._optimiser.zero_gradient()
        self._loss(batch).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step(self._training.gradient_clip)
