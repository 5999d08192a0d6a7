"""The kernel as one adapter among others: the same learner that the stream processor runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from model.config import LearnerConfig
from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner, prior_precision
from model.kernel.start import KernelStart


class Iak:
    """The kernel of the context's configuration; an ablation changes what it starts from, sees, or is configured to."""

    def __init__(
        self,
        context: AdapterContext,
        _: float,
        *,
        start: Callable[[KernelStart, int], KernelStart] = lambda start, seed: start,
        seen: Callable[[MicroBatch, KernelStart], MicroBatch] = lambda batch, start: batch,
        learner: Callable[[LearnerConfig], LearnerConfig] = lambda config: config,
    ) -> None:
        self._start, self._seen = start(context.start, context.seed), seen
        self._learner = Learner(
            self._start,
            learner(context.learner),
            fingerprint=context.backbone.fingerprint,
            domain_sizes=context.domain_sizes,
        )
        self.parameters = self._learner.parameters
        self.state_bytes = self._learner.state_bytes

    def score(self, batch: StreamBatch) -> Tensor:
        """Logits of the candidate."""
        return self._learner.score(self._seen(batch.micro, self._start))

    @torch.inference_mode()
    def learn(self, batch: StreamBatch) -> None:
        """One micro-batch."""
        self._learner.learn(self._seen(batch.micro, self._start))


def without_counters(batch: MicroBatch, start: KernelStart) -> MicroBatch:
    """All counters at zero."""
    return replace(batch, live=torch.cat([batch.live[:, : start.drift], 0 * batch.live[:, start.drift :]], dim=1))


def without_drift_features(batch: MicroBatch, start: KernelStart) -> MicroBatch:
    """T at zero."""
    return replace(batch, live=torch.cat([0 * batch.live[:, : start.drift], batch.live[:, start.drift :]], dim=1))


def unlearned(start: KernelStart, _: int) -> KernelStart:
    """Nothing learned from the pretraining log: the weights of the frozen model, at their prior."""
    features = start.features
    mean = features.identity()
    precision = torch.diag(prior_precision(features))
    return replace(start, mean=mean, direct_mean=mean[: features.direct], precision=precision, examples=0)


def without_compression(start: KernelStart, seed: int) -> KernelStart:
    """As many directions of the representation, drawn at random."""
    one = start.compression
    drawn = torch.randn(one.projection.shape, generator=torch.Generator().manual_seed(seed))
    projection, _ = torch.linalg.qr(drawn)
    drawn_instead = replace(one, projection=projection, gain=torch.ones_like(one.gain))
    return unlearned(replace(start, compression=drawn_instead), seed)


def without_matching(start: KernelStart, _: int) -> KernelStart:
    """Nothing of the representation and nothing of the items' values: frozen logit, counters and T are left."""
    one, two = start.compression, start.descriptor
    nothing = replace(one, projection=one.projection[:, :0], gain=one.gain[:0], relevance=one.relevance[:0])
    described = replace(two, table=two.table[:, :0], shift=two.shift[:0])
    left = [*range(start.features.direct), start.features.direct + two.width - 1]  # of v+ the frozen logit alone
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
