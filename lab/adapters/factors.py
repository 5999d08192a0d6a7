"""Matrix factorisation with fold-in: what a team without a model of its own would try first.

Residuals of counters are factorised, `y - p ~ u'v`, with ridge regression for one side given the other (alternating
least squares, Hu, Koren and Volinsky, ICDM 2008, here with explicit labels). Live, a user's and an item's vector are
solved again from all labels so far whenever one of theirs comes (fold-in); the pass is prequential.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from lab.adapters.counters import STRENGTH, ClickCounters, log_odds
from model.backbone.examples import Examples

RANK, SWEEPS = 8, 8
_CHUNK = 65_536
"""Examples whose outer products are held at once."""
_SPAN = (0.01, 0.99)
"""A sum of a rate and a product is a probability only between these."""


class RidgeVectors:
    """One vector per key, the ridge solution of `residual ~ vector' other` over all of the key's examples so far."""

    def __init__(self, keys: int, rank: int, ridge: float, start: NDArray[np.float64]) -> None:
        self.vectors = start
        self._gram = np.zeros((keys, rank, rank))
        self._moment = np.zeros((keys, rank))
        self._ridge = ridge * np.eye(rank)

    @property
    def nbytes(self) -> int:
        """Bytes of vectors and sums."""
        return self.vectors.nbytes + self._gram.nbytes + self._moment.nbytes

    def forget(self) -> None:
        """Empties the sums, not the vectors: the next sweep begins."""
        self._gram[:], self._moment[:] = 0.0, 0.0

    def correct(self, key: NDArray[np.int64], other: NDArray[np.float64], change: float) -> None:
        """Changes the residuals of examples that were added before, using the other side's present vectors."""
        np.add.at(self._moment, key, change * other)

    def add(self, key: NDArray[np.int64], other: NDArray[np.float64], residual: NDArray[np.float64]) -> None:
        """Takes examples in: keys `(n,)`, the other side's vectors `(n, rank)`, residuals `(n,)`."""
        for begin in range(0, len(key), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            order = np.argsort(key[part], kind="stable")
            keys, first = np.unique(key[part][order], return_index=True)
            rows, errors = other[part][order], residual[part][order]
            self._gram[keys] += np.add.reduceat(rows[:, :, None] * rows[:, None, :], first)
            self._moment[keys] += np.add.reduceat(rows * errors[:, None], first)

    def solve(self, keys: NDArray[np.int64]) -> None:
        """Recomputes the vectors of `keys`."""
        if keys.size:
            self.vectors[keys] = np.linalg.solve(self._gram[keys] + self._ridge, self._moment[keys][..., None])[..., 0]


class AlternatingLeastSquares:
    """Counters of item and user, and a factorised residual on top."""

    def __init__(self, context: AdapterContext, ridge: float) -> None:
        rng = np.random.default_rng(context.seed)
        users, items = len(context.profiles.user), len(context.profiles.item)
        self._counters = ClickCounters(context)
        self._counters.add(context.history)
        self._users = RidgeVectors(users, RANK, ridge, np.zeros((users, RANK)))
        self._items = RidgeVectors(items, RANK, ridge, rng.normal(scale=RANK**-0.5, size=(items, RANK)))
        self._fit(context.history)
        self.parameters = (users + items) * RANK + self._counters.numbers
        self.state_bytes = self._users.nbytes + self._items.nbytes + 8 * self._counters.numbers

    def score(self, batch: StreamBatch) -> Tensor:
        """Log-odds of rate plus product, `(n,)`."""
        user, item = batch.user.numpy(), batch.item.numpy()
        product = (self._users.vectors[user] * self._items.vectors[item]).sum(axis=1)
        return torch.from_numpy(log_odds(np.clip(self._rate(user, item) + product, *_SPAN)).astype(np.float32))

    def learn(self, batch: StreamBatch) -> None:
        """Folds the batch in: its users given the items, then its items given the users; then it counts."""
        user, item = batch.user.numpy(), batch.item.numpy()
        residual = batch.micro.label.numpy().astype(np.float64) - self._rate(user, item)
        self._users.add(user, self._items.vectors[item], residual)
        self._users.solve(np.unique(user))
        self._items.add(item, self._users.vectors[user], residual)
        self._items.solve(np.unique(item))
        self._counters.add(batch)

    def correct(self, batch: StreamBatch, learned_at: NDArray[np.int64]) -> None:
        """Folds late clicks in, and counts them."""
        user, item = batch.user.numpy(), batch.item.numpy()
        self._users.correct(user, self._items.vectors[item], 1.0)
        self._users.solve(np.unique(user))
        self._items.correct(item, self._users.vectors[user], 1.0)
        self._items.solve(np.unique(item))
        self._counters.correct(batch)

    def _fit(self, history: Examples) -> None:
        residual = history.label.astype(np.float64) - self._rate(history.user, history.item)
        users, items = np.unique(history.user), np.unique(history.item)
        for _ in range(SWEEPS):
            self._users.forget()
            self._users.add(history.user, self._items.vectors[history.item], residual)
            self._users.solve(users)
            self._items.forget()
            self._items.add(history.item, self._users.vectors[history.user], residual)
            self._items.solve(items)

    def _rate(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float64]:
        """Click rate by the counters alone: log-odds of item and user above those of all, added."""
        base = self._counters.base_rate()
        odds = log_odds(np.array(base))
        for name, key in (("item", item), ("user", user)):
            odds = odds + log_odds(self._counters.counters[name].rate(key, base, STRENGTH)) - log_odds(np.array(base))
        return np.asarray(1.0 / (1.0 + np.exp(-odds)))
