"""Test, then train: one adapter on one prepared stream."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lab.adapters import Adapter, Correctable, StreamBatch
from lab.evaluate.prepare import PreparedStream
from model.kernel.batch import MicroBatch


@dataclass(frozen=True)
class Outcome:
    """Served logits and cost of one prequential run."""

    logit: NDArray[np.float32]
    """Click logits before learning, `(n,)`."""
    cpu_s: float
    """Processor seconds of scoring and learning."""
    peak_bytes: int
    """Growth of the process's peak memory during the run; 0 if an earlier run in the process went higher."""


def run(adapter: Adapter, data: PreparedStream, batch_examples: int) -> Outcome:
    """Scores every batch with what was learned from labels known before it; late clicks come when they happened."""
    peak = _peak()
    begun = time.process_time()
    play = _Play(adapter, data)
    for number, (scored, learned, late) in enumerate(schedule(data, batch_examples)):
        play.score(scored)
        if not np.isfinite(play.logit[scored]).all():
            raise FloatingPointError(
                f"batch {number}: the adapter's logits are not finite; its learning rate is too high"
            )
        for part in learned:
            play.learn(part)
        play.correct(late)
    return Outcome(play.logit, time.process_time() - begun, max(_peak() - peak, 0))


class _Play:
    """State of one adapter during a run: logits it served, labels it knows."""

    def __init__(self, adapter: Adapter, data: PreparedStream) -> None:
        self._adapter, self._data = adapter, data
        self.logit = np.zeros(len(data), dtype=np.float32)
        self._label = data.label.copy()
        self._learned_at = np.zeros(len(data), dtype=np.int64)
        self._learned = 0

    def score(self, part: slice) -> None:
        """Serves the examples of a scoring batch."""
        self.logit[part] = self._adapter.score(self._batch(part)).numpy()

    def learn(self, part: NDArray[np.int64]) -> None:
        """Teaches a micro-batch by the labels known now."""
        self._adapter.learn(self._batch(part))
        self._learned += len(part)
        self._learned_at[part] = self._learned

    def correct(self, part: NDArray[np.int64]) -> None:
        """Tells the adapter of late clicks; an example that it has not learned yet will be learned as clicked."""
        self._label[part] = 1.0
        learned = part[self._learned_at[part] > 0]
        if len(learned) and isinstance(self._adapter, Correctable):
            self._adapter.correct(self._batch(learned), self._learned_at[learned])

    def _batch(self, part: slice | NDArray[np.int64]) -> StreamBatch:
        return stream_batch(self._data, part, self._label, self.logit)


def schedule(
    data: PreparedStream, batch_examples: int
) -> Iterator[tuple[slice, list[NDArray[np.int64]], NDArray[np.int64]]]:
    """For each scoring batch its examples, the micro-batches whose labels are known after it, and its late clicks."""
    order = np.argsort(data.decided, kind="stable")
    known = np.searchsorted(data.decided[order], np.arange(data.batches), side="right")
    edges = np.searchsorted(data.batch, np.arange(data.batches + 1), side="left")
    late_order = np.argsort(data.corrected, kind="stable")
    late_edges = np.searchsorted(data.corrected[late_order], np.arange(data.batches + 1), side="left")
    taken = 0
    for number in range(data.batches):
        parts = []
        while known[number] - taken >= batch_examples:
            parts.append(order[taken : taken + batch_examples])
            taken += batch_examples
        late = late_order[late_edges[number] : late_edges[number + 1]]
        yield slice(int(edges[number]), int(edges[number + 1])), parts, late


def stream_batch(
    data: PreparedStream,
    part: slice | NDArray[np.int64],
    known: NDArray[np.float32] | None = None,
    served: NDArray[np.float32] | None = None,
) -> StreamBatch:
    """The examples of `part` as tensors.

    `known` are the labels of all examples as far as known, by default those at the end of the windows; `served` are the
    served logits, by default the frozen model's.
    """

    def tensor(values: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values[part])

    label = tensor(data.label if known is None else known)
    frozen = tensor(data.frozen_logit)
    micro = MicroBatch(
        x=torch.from_numpy(data.x[part].astype(np.float32)),
        live=tensor(data.live),
        values=tensor(data.values),
        domain=tensor(data.domain),
        label=label,
        frozen_logit=frozen,
        live_logit=frozen if served is None else tensor(served),
        weight=torch.ones_like(label),
        time=tensor(data.time),
    )
    return StreamBatch(micro, tensor(data.user), tensor(data.item))


def _peak() -> int:
    """Highest resident size of this process so far, bytes (Linux counts it in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
