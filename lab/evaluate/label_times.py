"""Which labels learning gets from a live half, and after which scoring batch it knows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.config import EvaluationConfig
from lab.evaluate.known_labels import Labels
from lab.streams import Chunk


def decided_labels(chunk: Chunk, config: EvaluationConfig) -> Labels:
    """The labels that learning gets from a live half, and when."""
    row, column = np.nonzero(chunk.shown)
    delay = chunk.delay[row, column]
    label = chunk.click[row, column] & (delay <= config.join_s)
    late = chunk.click[row, column] & (delay > config.join_s) & (delay <= config.horizon_s)
    batch, decided = _batches(chunk, config)
    corrected = np.where(late, np.maximum(first_batch_after(chunk, batch, chunk.time[row] + delay), decided[row]), -1)
    return Labels.of(chunk, label, batch, decided, corrected)


def _batches(chunk: Chunk, config: EvaluationConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Scoring batch of each request, and the batch after which its labels are known, both `(r,)`."""
    before = np.cumsum(chunk.shown.sum(axis=1)) - chunk.shown.sum(axis=1)
    _, batch = np.unique(before // config.training.batch_examples, return_inverse=True)
    closes = chunk.time + config.join_s
    return batch.astype(np.int64), np.maximum(batch, first_batch_after(chunk, batch, closes))


def first_batch_after(chunk: Chunk, batch: NDArray[np.int64], time: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first scoring batch that ends at or after each time; one more than there are if none does."""
    last = np.searchsorted(batch, np.arange(batch[-1] + 1), side="right") - 1
    return np.searchsorted(chunk.time[last], time, side="left").astype(np.int64)  # when each batch has been scored
