"""What every adapter is: it scores a batch and it learns from one. The caller keeps to the order test, then train."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from model.backbone.dataset import Examples, ProfileTable
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone
from model.config import KernelConfig, LearnerConfig
from model.kernel.batch import MicroBatch
from model.kernel.optimiser import FlatAdam


@dataclass(frozen=True)
class StreamBatch:
    """Examples with what a kernel needs (`micro`) and what a model with tables of its own needs beside it."""

    micro: MicroBatch
    user: Tensor
    """Position of the user in the profile table, int64 `(n,)`."""
    item: Tensor
    """Position of the item in the profile table, int64 `(n,)`."""

    def __len__(self) -> int:
        return len(self.micro)


class AdapterUnfitError(Exception):
    """An adapter cannot be built on this backbone; the message says why and names those that can."""


@dataclass(frozen=True)
class AdapterContext:
    """What adapters are built from."""

    backbone: FrozenBackbone
    profiles: ProfileTable
    """All users and items that the stream may bring."""
    history: Examples
    """The pretraining log, in order of time: what counters and rivals of their own know before the live half."""
    live_width: int
    domain_sizes: tuple[int, int, int]
    kernel: KernelConfig
    learner: LearnerConfig
    """How the IAK learns; clipping and batch size are the same for every adapter."""
    rehearsal_steps: int
    """Rehearsal of the adapters that learn by gradient alone."""
    seed: int

    @property
    def foundation(self) -> FoundationBackbone:
        """The backbone for adapters that change its layers. Raises AdapterUnfitError for an own backbone."""
        if not isinstance(self.backbone, FoundationBackbone):
            raise AdapterUnfitError(
                "this adapter changes the layers of the foundation model, which a backbone of your own does not have"
            )
        return self.backbone

    @property
    def rehearsing(self) -> LearnerConfig:
        """The learner's configuration with the rehearsal of the adapters that learn by gradient alone."""
        return self.learner.model_copy(update={"rehearsal_steps": self.rehearsal_steps})


class Adapter(Protocol):
    """One way to keep a click model current."""

    @property
    def parameters(self) -> int:
        """Numbers that learning changes."""

    @property
    def state_bytes(self) -> int:
        """Bytes of what learning keeps: parameters, optimiser, memories; the shared rehearsal not counted."""

    def score(self, batch: StreamBatch) -> Tensor:
        """Click logits, `(n,)`, from what was learned so far. Changes nothing."""

    def learn(self, batch: StreamBatch) -> None:
        """Learns from labelled examples; rehearsal included."""


class Frozen:
    """The backbone as it was trained."""

    parameters = 0
    state_bytes = 0

    def score(self, batch: StreamBatch) -> Tensor:
        """The logged logit of the frozen arm."""
        return batch.micro.frozen_logit

    def learn(self, batch: StreamBatch) -> None:
        """Nothing."""


class GradientAdapter:
    """Trains parameters by Adam: one step per new batch, then rehearsal on recent ones, as the IAK's learner does."""

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        logits: Callable[[StreamBatch], Tensor],
        config: LearnerConfig,
        seed: int,
    ) -> None:
        self._logits, self._config = logits, config
        self._optimiser = FlatAdam(groups)
        self._recent: deque[StreamBatch] = deque(maxlen=max(config.rehearsal_batches, 1))
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
        self._recent.append(batch)
        if not self._config.rehearsal_batches:
            return
        for _ in range(self._config.rehearsal_steps):
            drawn = int(torch.randint(len(self._recent), (), generator=self._generator))
            self._step(self._recent[drawn])

    def _step(self, batch: StreamBatch) -> None:
        self._optimiser.zero_gradient()
        micro = batch.micro
        loss = binary_cross_entropy_with_logits(self._logits(batch), micro.label, micro.weight)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step(self._config.gradient_clip)
