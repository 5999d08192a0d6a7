"""Gradient-boosted trees, refitted every so often on the log so far: what a team without online learning does."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from lab.adapters.counters import ClickCounters, in_batches

EVERY = 10_000
"""Examples between two fits."""
MOST_ROWS = 1_000_000
"""Newest rows that are kept for a fit."""
ROUNDS, LEAVES, LEAST_ROWS = 200, 31, 50


class RefittedTrees:
    """LightGBM on the counters as they stood before each example (Ke et al., NeurIPS 2017)."""

    def __init__(self, context: AdapterContext, rate: float) -> None:
        self._counters, self._rate, self._seed = ClickCounters(context), rate, context.seed
        self._rows: deque[tuple[NDArray[np.float32], NDArray[np.float32]]] = deque()
        self._kept = self._since_fit = 0
        for examples in in_batches(context.history):
            self._take(self._counters.columns(examples).numpy(), examples.label)
            self._counters.add(examples)
        self._trees = self._fit()

    @property
    def parameters(self) -> int:
        """Split points and leaf values, at most."""
        return 2 * ROUNDS * LEAVES + self._counters.numbers

    @property
    def state_bytes(self) -> int:
        """The rows of the next fit, and the counts."""
        return sum(columns.nbytes + label.nbytes for columns, label in self._rows) + 8 * self._counters.numbers

    def score(self, batch: StreamBatch) -> Tensor:
        """Raw scores of the trees, `(n,)`."""
        raw = self._trees.predict(self._counters.columns(batch).numpy(), raw_score=True)
        return torch.from_numpy(np.asarray(raw, dtype=np.float32))

    def learn(self, batch: StreamBatch) -> None:
        """Keeps the rows; fits again when enough are new."""
        self._take(self._counters.columns(batch).numpy(), batch.micro.label.numpy())
        self._counters.add(batch)
        if self._since_fit >= EVERY:
            self._trees = self._fit()

    def _take(self, columns: NDArray[np.float32], label: NDArray[np.float32]) -> None:
        self._rows.append((columns, label))
        self._kept += len(label)
        self._since_fit += len(label)
        while self._kept > MOST_ROWS and len(self._rows) > 1:
            self._kept -= len(self._rows.popleft()[1])

    def _fit(self) -> Any:
        import lightgbm

        columns, labels = (np.concatenate(parts) for parts in zip(*self._rows, strict=True))
        settings = {
            "objective": "binary", "learning_rate": self._rate, "num_leaves": LEAVES, "min_data_in_leaf": LEAST_ROWS,
            "num_threads": 1, "seed": self._seed, "deterministic": True, "force_row_wise": True, "verbosity": -1,
        }  # fmt: skip
        self._since_fit = 0
        return lightgbm.train(settings, lightgbm.Dataset(columns, labels), num_boost_round=ROUNDS)
