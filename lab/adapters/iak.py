"""The kernel as one adapter among others: the same learner that the stream processor runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from model.config import LearnerConfig
from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner, prior_precision
from model.kernel.start import KernelStart

_INFORMATION_BATCHES = 8
"""Information is counted on every eighth batch: it costs as much as learning does."""


class Iak:
    """The kernel of the context's configuration; an ablation changes what it starts from, sees, or is configured to."""

    def __init__(
        self,
        context: AdapterContext,
        _: float,
        *,
        start: Callable[[KernelStart, int], KernelStart] = lambda start, seed: start,
        transform: Callable[[MicroBatch, KernelStart], MicroBatch] = lambda batch, start: batch,
        learner: Callable[[LearnerConfig], LearnerConfig] = lambda config: config,
    ) -> None:
        self._start, self._transform = start(context.start, context.seed), transform
        self._learner = Learner(
            self._start,
            learner(context.learner),
            fingerprint=context.backbone.fingerprint,
            domain_sizes=context.domain_sizes,
        )
        self.parameters = self._learner.parameters
        self.state_bytes = self._learner.state_bytes
        self._sizes, self._since = context.domain_sizes, 0
        self._gained: list[tuple[int, float, NDArray[np.float64]]] = []

    def score(self, batch: StreamBatch) -> Tensor:
        """Logits `(n,)` of the learner's current kernel."""
        return self._learner.score(self._transform(batch.micro, self._start))

    @torch.inference_mode()
    def learn(self, batch: StreamBatch) -> None:
        """Learns one micro-batch in closed form."""
        micro = self._transform(batch.micro, self._start)
        self._since += len(micro)
        if self._learner.batches % _INFORMATION_BATCHES == 0:
            self._count_information(micro)
        self._learner.learn(micro)

    @torch.inference_mode()
    def correct(self, batch: StreamBatch, learned_at: NDArray[np.int64]) -> None:
        """Corrects the posterior exactly for late clicks."""
        self._learner.correct(self._transform(batch.micro, self._start), learned_at)

    def _count_information(self, batch: MicroBatch) -> None:
        """Takes one batch's gain for that of all since the last, in sum and by facet value."""
        gain = self._learner.gain(batch).double() * (self._since / len(batch))
        offsets = np.cumsum([0, *self._sizes[:-1]])
        by_value = np.zeros(sum(self._sizes))
        np.add.at(by_value, batch.domain.numpy() + offsets, gain.numpy()[:, None])
        self._gained.append((self._since, float(gain.sum()), by_value))
        self._since = 0

    def information(self) -> dict[str, NDArray[np.generic]]:
        """Information of the run for its file (`lab.evaluate.information`); empty before the first batch."""
        if not self._gained:
            return {}
        examples, matching, by_value = zip(*self._gained, strict=True)
        return {
            "examples": np.array(examples),
            "compression_nats": np.full(len(examples), self._start.compression.nats_kept),
            "matching_nats": np.array(matching),
            "domain_matching_nats": np.stack(by_value),
        }


def without_counters(batch: MicroBatch, start: KernelStart) -> MicroBatch:
    """The batch with all counters set to zero."""
    return replace(
        batch, live=torch.cat([batch.live[:, : start.residuals], 0 * batch.live[:, start.residuals :]], dim=1)
    )


def without_residual_features(batch: MicroBatch, start: KernelStart) -> MicroBatch:
    """The batch with all residual features (T) set to zero."""
    return replace(
        batch, live=torch.cat([0 * batch.live[:, : start.residuals], batch.live[:, start.residuals :]], dim=1)
    )


def unlearned(start: KernelStart, _: int) -> KernelStart:
    """A start without learning from the pretraining log: the frozen model's weights, at their prior."""
    features = start.features
    mean = features.identity()
    precision = torch.diag(prior_precision(features))
    return replace(start, mean=mean, direct_mean=mean[: features.direct], precision=precision, examples=0)


def without_compression(start: KernelStart, seed: int) -> KernelStart:
    """A start whose compression has the same number of random directions."""
    compression = start.compression
    drawn = torch.randn(compression.projection.shape, generator=torch.Generator().manual_seed(seed))
    projection, _ = torch.linalg.qr(drawn)
    drawn_instead = replace(compression, projection=projection, gain=torch.ones_like(compression.gain))
    return unlearned(replace(start, compression=drawn_instead), seed)


def without_matching(start: KernelStart, _: int) -> KernelStart:
    """A start without representation and item values; frozen logit, counters and T remain."""
    compression, descriptor = start.compression, start.descriptor
    nothing = replace(
        compression,
        projection=compression.projection[:, :0],
        gain=compression.gain[:0],
        relevance=compression.relevance[:0],
    )
    described = replace(descriptor, table=descriptor.table[:, :0], shift=descriptor.shift[:0])
    left = [*range(start.features.direct), start.features.direct + descriptor.width - 1]  # of v+ the frozen logit alone
    return replace(
        start,
        compression=nothing,
        descriptor=described,
        mean=torch.cat([start.direct_mean, torch.zeros(1)]),
        precision=start.precision[left][:, left],
    )


def without_trust(config: LearnerConfig) -> LearnerConfig:
    """Three arms at fixed shares: direct features, short and long memory; the frozen model has none."""
    nothing = 1e-9
    changes = {"trust_rate": nothing, "evidence_rate": nothing, "frozen_share": nothing}
    return config.model_copy(update=changes)
