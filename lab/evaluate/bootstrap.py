"""How far the figures of a log would move with other users: a bootstrap over users.

Each seed of a log trains the backbone anew and plays the same events. The spread over seeds therefore does not say how
much a figure owes to the users who happen to be in the log. Here users are drawn with replacement, because examples of
one user are not independent (a cluster bootstrap; Field and Welsh, Bootstrapping clustered data, JRSS B 2007). All
adapters and seeds see the same draws, so that a difference between two adapters is paired.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special  # type: ignore[import-untyped,unused-ignore]

from lab.evaluate.prepare import PreparedStream
from lab.intervals import CONFIDENCE, Interval
from model.evaluation import example_log_loss, sigmoid
from model.ranking import list_auc

DRAWS = 400
FIGURES = ("request_auc", "auc", "log_loss")
"""The figures that are drawn anew, in this order; named as in `Measures`."""
_CHUNK = 50
"""Draws whose sorted weights are held in memory at a time."""

Weights = NDArray[np.float32]
"""How often each example counts in each draw, `(draws, n)`."""


def draw_users(user: NDArray[np.int64], draws: int = DRAWS) -> Weights:
    """Draws as many users as there are, with replacement; the same for the same users. `user` is `(n,)`."""
    names, index = np.unique(user, return_inverse=True)
    share = np.full(len(names), 1 / len(names))
    times = np.random.default_rng(0).multinomial(len(names), share, size=draws)
    return np.asarray(times.astype(np.float32)[:, index])


def drawn_figures(data: PreparedStream, logit: NDArray[np.float32], weights: Weights) -> NDArray[np.float64]:
    """The `FIGURES` of one run in each draw, `(3, draws)`; not-a-number where a draw holds no pair to order."""
    loss = example_log_loss(data.truth, sigmoid(logit))
    return np.stack(
        [
            _request_auc(data, logit, weights),
            _auc(data.truth > 0, logit, weights),
            weights @ loss / weights.sum(axis=1),
        ]
    )


def bootstrap_interval(difference: float, drawn: NDArray[np.float64]) -> Interval:
    """A difference with its interval: the normal one, of the spread over draws `(draws,)` that are numbers."""
    known = drawn[np.isfinite(drawn)]
    half_width = float(special.ndtri((1 + CONFIDENCE) / 2) * known.std(ddof=1)) if known.size > 1 else float("nan")
    return Interval(difference, half_width)


def mean_drawn(seeds: list[Mapping[str, NDArray[np.float64]]], adapter: str) -> NDArray[np.float64]:
    """The figures of an adapter in each draw, means over the seeds, `(3, draws)`."""
    return np.asarray(np.mean([drawn[adapter] for drawn in seeds], axis=0))


def _request_auc(data: PreparedStream, logit: NDArray[np.float32], weights: Weights) -> NDArray[np.float64]:
    """AUC within requests, weighted by items. A request has one user: its first example has the weight of all."""
    order = list_auc(data.truth, logit, data.request)
    _, first = np.unique(data.request, return_index=True)
    counted = weights[:, first[order.mixed]] * order.size[order.mixed]
    total = counted.sum(axis=1)
    return np.asarray(
        np.divide(counted @ order.auc[order.mixed], total, out=np.full(len(total), np.nan), where=total > 0)
    )


def _auc(label: NDArray[np.bool_], logit: NDArray[np.float32], weights: Weights) -> NDArray[np.float64]:
    """AUC with weighted examples, ties counted half."""
    order = np.argsort(logit, kind="stable")
    positive = label[order]
    tie = np.flatnonzero(np.diff(logit[order], prepend=np.nan) != 0)
    areas = []
    for begin in range(0, len(weights), _CHUNK):
        part = weights[begin : begin + _CHUNK, order].astype(np.float64)
        positives = np.add.reduceat(part * positive, tie, axis=1)
        negatives = np.add.reduceat(part * ~positive, tie, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        won = (positives * below).sum(axis=1)
        areas.append(np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))
    return np.concatenate(areas)
