"""The interface of adapters: score a batch, learn from a batch. The caller keeps the order test, then train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lab.adapters.training import GradientTraining
from model.backbone.dataset import ProfileTable
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import FrozenBackbone
from model.config import LearnerConfig
from model.kernel.batch import MicroBatch
from model.kernel.start import KernelStart


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
    """An adapter cannot be built on this backbone; the message gives the reason and the adapters that can."""


@dataclass(frozen=True)
class AdapterContext:
    """Everything that adapters are built from."""

    backbone: FrozenBackbone
    profiles: ProfileTable
    """All users and items that may occur in the stream."""
    history: Examples
    """The pretraining log, in order of time: what counters and rivals of their own know before the live half."""
    start: KernelStart
    """The initial state of the kernel."""
    domain_sizes: tuple[int, int, int]
    learner: LearnerConfig
    training: GradientTraining
    """Settings of gradient training, shared by such adapters; `kernel` and `learner` are the served kernel's
    settings."""
    seed: int

    @property
    def live_width(self) -> int:
        """Number of live features, T and counters."""
        return len(self.start.live_names)

    @property
    def foundation(self) -> FoundationBackbone:
        """The backbone for adapters that change its layers. Raises AdapterUnfitError for one without a trunk."""
        if not isinstance(self.backbone, FoundationBackbone) or self.backbone.config.trunk == "dssm":
            raise AdapterUnfitError(
                "this adapter changes the layers of the foundation model's trunk, which neither a backbone of your own "
                "nor backbone.trunk dssm has"
            )
        return self.backbone


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


@runtime_checkable
class Correctable(Adapter, Protocol):
    """An adapter that can correct an example learned as not clicked; late clicks are passed to these adapters only."""

    def correct(self, batch: StreamBatch, learned_at: NDArray[np.int64]) -> None:
        """Takes clicks, labels at 1, on examples learned without; `learned_at` `(n,)` is how many were learned then."""


class Frozen:
    """The backbone as it was trained."""

    parameters = 0
    state_bytes = 0

    def score(self, batch: StreamBatch) -> Tensor:
        """The logged logit of the frozen arm."""
        return batch.micro.frozen_logit

    def learn(self, batch: StreamBatch) -> None:
        """Does nothing."""
