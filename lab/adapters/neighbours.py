"""Item-item neighbours: what was clicked together before (Sarwar et al., WWW 2001), beside the counters.

Pairs of items are bounded by the catalogue, and a user's votes by `RECENT`.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict, deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from lab.adapters.closed_path import ClosedPath
from lab.adapters.counters import ClickCounters, in_batches

RECENT = 50
"""Clicked items of a user that vote."""
_SHRINK = 10.0


class CoClicks:
    """How often two items were clicked by the same user, and each user's last clicks."""

    def __init__(self) -> None:
        self._together: defaultdict[int, Tally[int]] = defaultdict(Tally)
        self._clicks: Tally[int] = Tally()
        self._recent: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=RECENT))

    def __len__(self) -> int:
        return sum(map(len, self._together.values()))

    def add(self, user: NDArray[np.int64], item: NDArray[np.int64], label: NDArray[np.float32]) -> None:
        """Takes labelled examples in, `(n,)` each."""
        for u, i in zip(user[label > 0].tolist(), item[label > 0].tolist(), strict=True):
            recent = self._recent[u]
            if i in recent:
                continue
            for j in recent:
                self._together[i][j] += 1
                self._together[j][i] += 1
            recent.append(i)
            self._clicks[i] += 1

    def score(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float32]:
        """Sum of shrunk cosines of an item with what its user clicked, `(n,)`."""
        pairs = zip(user.tolist(), item.tolist(), strict=True)
        return np.array([self._one(u, i) for u, i in pairs], dtype=np.float32)

    def _one(self, user: int, item: int) -> float:
        together, item_clicks = self._together.get(item), self._clicks[item]
        if not together:
            return 0.0
        votes = ((together[j], self._clicks[j]) for j in self._recent.get(user, ()) if j in together)
        return float(sum(count / ((item_clicks * clicks) ** 0.5 + _SHRINK) for count, clicks in votes))


class Neighbours:
    """The neighbours' votes and the counters' columns in one closed-form logistic regression."""

    def __init__(self, context: AdapterContext, half_life: float) -> None:
        self._counters, self._clicks = ClickCounters(context), CoClicks()
        self._path = ClosedPath(self._counters.width + 1, half_life, prior=1.0)
        for examples in in_batches(context.history):
            label = torch.from_numpy(examples.label)
            columns = self._columns(self._counters.columns(examples), examples.user, examples.item)
            self._path.learn(columns, torch.zeros_like(label), label, torch.ones_like(label))
            self._counters.add(examples)
            self._clicks.add(examples.user, examples.item, examples.label)

    @property
    def parameters(self) -> int:
        """Number of stored counts and regression weights."""
        return self._counters.numbers + len(self._clicks) + self._counters.width + 1

    @property
    def state_bytes(self) -> int:
        """Counts of eight bytes, pairs of sixteen, and the regression."""
        regression = sum(part.nbytes for part in self._path.state().values())
        return 8 * self._counters.numbers + 16 * len(self._clicks) + regression

    def score(self, batch: StreamBatch) -> Tensor:
        """The regression's logit, `(n,)`."""
        return self._path.logit(self._of(batch))

    def learn(self, batch: StreamBatch) -> None:
        """Regresses on what was known before, then counts."""
        micro = batch.micro
        self._path.learn(self._of(batch), torch.zeros_like(micro.label), micro.label, micro.weight)
        self._counters.add(batch)
        self._clicks.add(batch.user.numpy(), batch.item.numpy(), micro.label.numpy())

    def correct(self, batch: StreamBatch, learned_at: NDArray[np.int64]) -> None:
        """Counts late clicks, alone and together; what the regression was taught meanwhile stays."""
        self._counters.correct(batch)
        self._clicks.add(batch.user.numpy(), batch.item.numpy(), batch.micro.label.numpy())

    def _of(self, batch: StreamBatch) -> Tensor:
        return self._columns(self._counters.columns(batch), batch.user.numpy(), batch.item.numpy())

    def _columns(self, counters: Tensor, user: NDArray[np.int64], item: NDArray[np.int64]) -> Tensor:
        votes = torch.from_numpy(self._clicks.score(user, item))
        return torch.cat([counters, votes[:, None]], dim=1)
