"""Test, then train: one adapter on one prepared stream."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lab.adapters import Adapter, StreamBatch
from lab.evaluate.prepare import PreparedStream
from model.kernel.batch import MicroBatch


@dataclass(frozen=True)
class Outcome:
    """What one run gave."""

    logit: NDArray[np.float32]
    """Click logits before learning, `(n,)`."""
    cpu_s: float
    """Processor seconds of scoring and learning."""
    peak_bytes: int
    """Growth of the process's peak memory during the run; 0 if an earlier run in the process went higher."""


def run(adapter: Adapter, data: PreparedStream, batch_examples: int) -> Outcome:
    """Scores every batch with what was learned from labels known before it."""
    logit = np.empty(len(data), dtype=np.float32)
    peak = _peak()
    begun = time.process_time()
    for number, (scored, learned) in enumerate(schedule(data, batch_examples)):
        logit[scored] = adapter.score(stream_batch(data, scored)).numpy()
        for part in learned:
            adapter.learn(stream_batch(data, part))
        if not np.isfinite(logit[scored]).all():
            raise FloatingPointError(
                f"batch {number}: the adapter's logits are not finite; its learning rate is too high"
            )
    return Outcome(logit, time.process_time() - begun, max(_peak() - peak, 0))


def schedule(data: PreparedStream, batch_examples: int) -> Iterator[tuple[slice, list[NDArray[np.int64]]]]:
    """For each scoring batch its examples, and the micro-batches whose labels are known after it."""
    order = np.argsort(data.decided, kind="stable")
    known = np.searchsorted(data.decided[order], np.arange(data.batches), side="right")
    edges = np.searchsorted(data.batch, np.arange(data.batches + 1), side="left")
    taken = 0
    for number in range(data.batches):
        parts = []
        while known[number] - taken >= batch_examples:
            parts.append(order[taken : taken + batch_examples])
            taken += batch_examples
        yield slice(int(edges[number]), int(edges[number + 1])), parts


def stream_batch(data: PreparedStream, part: slice | NDArray[np.int64]) -> StreamBatch:
    """The examples of `part` as tensors; conversions are unknown."""

    def tensor(values: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values[part])

    label = tensor(data.label)
    frozen = tensor(data.frozen_logit)
    micro = MicroBatch(
        x=torch.from_numpy(data.x[part].astype(np.float32)),
        live=tensor(data.live),
        values=tensor(data.values),
        domain=tensor(data.domain),
        label=label,
        conversion=torch.zeros_like(label),
        frozen_logit=frozen,
        live_logit=frozen,
        weight=torch.ones_like(label),
        time=tensor(data.time),
    )
    return StreamBatch(micro, tensor(data.user), tensor(data.item))


def _peak() -> int:
    """Highest resident size of this process so far, bytes (Linux counts it in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
