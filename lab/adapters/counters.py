"""A baseline without a kernel: running counters of shown and clicked, kept since the log began (ours).

A rate is shrunk towards its parent's as a beta posterior's mean: `p = (s + k m) / (n + k)`, with `s` clicks of `n`
shown and `k` examples' worth of the parent's rate `m`. A counter never forgets.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from lab.adapters.closed_path import ClosedPath
from model.backbone.examples import Examples
from model.encoding.domain import FACETS

STRENGTH = 10.0
_LOG_COUNT_SCALE = 0.3
"""Scales `ln(1 + n)` to order one, as the closed form needs."""
_HISTORY_BATCH = 128
"""Examples that are seen before any of them is counted, as many as live."""


def log_odds(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """`ln(p / (1 - p))`."""
    return np.log(rate) - np.log1p(-rate)


class Counter:
    """Impressions and clicks of `size` keys."""

    def __init__(self, size: int) -> None:
        self.shown, self.clicked = np.zeros(size), np.zeros(size)

    def add(self, key: NDArray[np.int64], label: NDArray[np.float32]) -> None:
        """Counts examples with keys and 0/1 labels `(n,)`."""
        np.add.at(self.shown, key, 1.0)
        np.add.at(self.clicked, key, label)

    def click(self, key: NDArray[np.int64]) -> None:
        """Counts clicks on examples that were counted as shown before, keys `(n,)`."""
        np.add.at(self.clicked, key, 1.0)

    def rate(self, key: NDArray[np.int64], parent: float | NDArray[np.float64], strength: float) -> NDArray[np.float64]:
        """Click rates `(n,)`, shrunk towards the parent's by `strength` examples."""
        return np.asarray((self.clicked[key] + strength * parent) / (self.shown[key] + strength))


class ClickCounters:
    """The counters of item, user, each facet and of all."""

    def __init__(self, context: AdapterContext) -> None:
        profiles, sizes = context.profiles, context.domain_sizes
        self.counters = {
            "item": Counter(len(profiles.item)),
            "user": Counter(len(profiles.user)),
            **{facet: Counter(size) for facet, size in zip(FACETS, sizes, strict=True)},
        }
        self.all = Counter(1)

    @property
    def numbers(self) -> int:
        """Numbers that counting changes."""
        return 2 * sum(len(counter.shown) for counter in (*self.counters.values(), self.all))

    @property
    def width(self) -> int:
        """Columns of `columns`."""
        return 2 * len(self.counters) + 2

    def base_rate(self) -> float:
        """Click rate of all examples, `(s + 2) / (n + 5)`."""
        return float((self.all.clicked[0] + 2.0) / (self.all.shown[0] + 5.0))

    def add(self, examples: Examples | StreamBatch) -> None:
        """Adds impressions and clicks of labelled examples."""
        keys, label = _keys(examples), _label(examples)
        for name, counter in self.counters.items():
            counter.add(keys[name], label)
        self.all.add(np.zeros(len(label), dtype=np.int64), label)

    def correct(self, batch: StreamBatch) -> None:
        """Adds late clicks of examples that were added before."""
        keys = _keys(batch)
        for name, counter in self.counters.items():
            counter.click(keys[name])
        self.all.click(np.zeros(len(batch), dtype=np.int64))

    def deviations(self, examples: Examples | StreamBatch) -> NDArray[np.float64]:
        """Log-odds of each counter's rate above those of all, `(n, counters)`."""
        keys, base = _keys(examples), self.base_rate()
        rates = [counter.rate(keys[name], base, STRENGTH) for name, counter in self.counters.items()]
        return np.stack([log_odds(rate) for rate in rates], axis=1) - log_odds(np.array(base))

    def columns(self, examples: Examples | StreamBatch) -> Tensor:
        """Regression inputs, float32 `(n, width)`: deviations, log counts, the overall log-odds, a constant."""
        keys, deviations = _keys(examples), self.deviations(examples)
        counts = [_LOG_COUNT_SCALE * np.log1p(counter.shown[keys[name]]) for name, counter in self.counters.items()]
        base = np.full((len(deviations), 1), float(log_odds(np.array(self.base_rate()))))
        parts = [deviations, np.stack(counts, axis=1), base, np.ones_like(base)]
        return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))


def _keys(examples: Examples | StreamBatch) -> dict[str, NDArray[np.int64]]:
    if isinstance(examples, StreamBatch):
        user, item, domain = examples.user.numpy(), examples.item.numpy(), examples.micro.domain.numpy()
    else:
        user, item, domain = examples.user, examples.item, examples.domain
    return {"item": item, "user": user, **{facet: domain[:, column] for column, facet in enumerate(FACETS)}}


def _label(examples: Examples | StreamBatch) -> NDArray[np.float32]:
    return examples.micro.label.numpy() if isinstance(examples, StreamBatch) else examples.label


def in_batches(history: Examples) -> Iterator[Examples]:
    """The pretraining log in order of time, in batches."""
    for begin in range(0, len(history), _HISTORY_BATCH):
        yield history.select(slice(begin, begin + _HISTORY_BATCH))


class ItemMean:
    """The click rate of the item so far."""

    def __init__(self, context: AdapterContext, strength: float) -> None:
        self._counters, self._strength = ClickCounters(context), strength
        self._counters.add(context.history)
        self.parameters = 2 * len(context.profiles.item)
        self.state_bytes = 8 * self.parameters

    def score(self, batch: StreamBatch) -> Tensor:
        """Log-odds of the shrunk rate, `(n,)`."""
        rate = self._counters.counters["item"].rate(batch.item.numpy(), self._counters.base_rate(), self._strength)
        return torch.from_numpy(log_odds(rate).astype(np.float32))

    def learn(self, batch: StreamBatch) -> None:
        """Adds the examples' impressions and clicks to their item's counters."""
        self._counters.add(batch)

    def correct(self, batch: StreamBatch, learned_at: NDArray[np.int64]) -> None:
        """Adds late clicks to the counters, exactly."""
        self._counters.correct(batch)


class CounterSum:
    """Log-odds of item, user and facets added up, as naive Bayes does."""

    def __init__(self, context: AdapterContext, _: float) -> None:
        self._counters = ClickCounters(context)
        self._counters.add(context.history)
        self.parameters = self._counters.numbers
        self.state_bytes = 8 * self.parameters

    def score(self, batch: StreamBatch) -> Tensor:
        """Log-odds of all plus every counter's deviation, `(n,)`."""
        base = float(log_odds(np.array(self._counters.base_rate())))
        return torch.from_numpy((base + self._counters.deviations(batch).sum(axis=1)).astype(np.float32))

    def learn(self, batch: StreamBatch) -> None:
        """Adds the examples' impressions and clicks to the counters."""
        self._counters.add(batch)

    def correct(self, batch: StreamBatch, learned_at: NDArray[np.int64]) -> None:
        """Adds late clicks to the counters, exactly."""
        self._counters.correct(batch)


class CounterRegression:
    """A logistic regression on the counters, in closed form; its weights start from one pass over the log in time.

    On the way through the log every batch is seen before it is counted, so that no rate knows its own label.
    """

    def __init__(self, context: AdapterContext, half_life: float) -> None:
        self._counters = ClickCounters(context)
        self._path = ClosedPath(self._counters.width, half_life, prior=1.0)
        for examples in in_batches(context.history):
            label = torch.from_numpy(examples.label)
            self._learn(self._counters.columns(examples), label, torch.ones_like(label))
            self._counters.add(examples)
        self.parameters = self._counters.numbers + self._counters.width
        self.state_bytes = 8 * self._counters.numbers + sum(part.nbytes for part in self._path.state().values())

    def score(self, batch: StreamBatch) -> Tensor:
        """The regression's logit, `(n,)`."""
        return self._path.logit(self._counters.columns(batch))

    def learn(self, batch: StreamBatch) -> None:
        """Fits the regression to the present counters, then counts the batch."""
        self._learn(self._counters.columns(batch), batch.micro.label, batch.micro.weight)
        self._counters.add(batch)

    def correct(self, batch: StreamBatch, learned_at: NDArray[np.int64]) -> None:
        """Counts late clicks; what the regression was taught meanwhile stays."""
        self._counters.correct(batch)

    def _learn(self, columns: Tensor, label: Tensor, weight: Tensor) -> None:
        self._path.learn(columns, torch.zeros_like(label), label, weight)
