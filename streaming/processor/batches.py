"""What a group learns from labelled requests: micro-batches for the kernel, outcomes for the live features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.features import RequestOutcome
from model.encoding.domain import DomainSpace
from model.kernel.batch import MicroBatch
from streaming.events import Payload
from streaming.processor.join import LabelledRequest


def micro_batch(requests: Sequence[LabelledRequest], space: DomainSpace) -> MicroBatch:
    """The requests' examples, item by item."""
    impressions = [request.impression for request in requests]
    counts = [len(impression.items) for impression in impressions]

    def joined(name: Payload) -> torch.Tensor:
        arrays: list[NDArray[Any]] = [impression.array(name) for impression in impressions]
        return torch.from_numpy(np.concatenate(arrays))

    def repeated(values: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.repeat(values, counts, axis=0))

    return MicroBatch(
        x=joined("x"),
        live=joined("live"),
        values=joined("values"),
        domain=repeated(space.encode_many([i.domain for i in impressions])),
        label=torch.from_numpy(np.concatenate([r.clicks for r in requests]).astype(np.float32)),
        conversion=torch.from_numpy(np.concatenate([r.conversions for r in requests]).astype(np.float32)),
        frozen_logit=joined("frozen_logit"),
        live_logit=joined("live_logit"),
        weight=torch.ones(sum(counts)),
        time=repeated(np.array([i.time for i in impressions], dtype=np.float64)),
    )


def outcome(request: LabelledRequest) -> RequestOutcome:
    """What the live features take from a request: its clicks, and residuals against the frozen model."""
    impression = request.impression
    frozen = 1.0 / (1.0 + np.exp(-impression.array("frozen_logit")))
    return RequestOutcome(
        user_id=impression.user_id,
        domain=impression.domain,
        items=impression.items,
        content=impression.array("content"),
        values=impression.array("values"),
        click=request.clicks.astype(np.float32),
        residual=(request.clicks - frozen).astype(np.float32),
        time=impression.time,
    )
