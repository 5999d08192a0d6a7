"""Measures of a click model; NumPy in, float out, NaN if undefined."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.ranking import list_auc, list_ndcg

_EPSILON = 1e-7
_LEAST_PAIRS = 1e-6
"""Fewer expected pairs than this count as none, because the share of ordered ones would be rounding noise."""


def sigmoid(logits: ArrayLike) -> NDArray[np.float64]:
    """Probabilities of logits.

    >>> float(sigmoid(0.0))
    0.5
    """
    z = np.asarray(logits, dtype=np.float64)
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties counted half (Mann-Whitney).

    >>> auc([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    y, s = np.asarray(labels) > 0.5, np.asarray(scores, dtype=np.float64)
    positives = int(y.sum())
    negatives = y.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0
    return float((ranks[inverse][y].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def expected_auc(probabilities: ArrayLike, scores: ArrayLike) -> float:
    """The expected AUC if labels are drawn with the given probabilities; `auc` estimates it. Ties count half.

    Expected concordant pairs over expected pairs of a positive and a negative (ours).

    >>> expected_auc([0.0, 1.0, 0.0, 1.0], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    p, s = np.asarray(probabilities, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    with_itself = float((p * (1 - p)).sum())
    pairs = float(p.sum() * (1 - p).sum()) - with_itself
    if p.size < 2 or pairs < _LEAST_PAIRS:
        return float("nan")
    _, rank = np.unique(s, return_inverse=True)
    negative = np.bincount(rank, 1 - p)
    below = np.cumsum(negative) - negative / 2
    return (float((p * below[rank]).sum()) - with_itself / 2) / pairs


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative log-likelihood, nats.

    >>> round(log_loss([1, 0], [0.5, 0.5]), 4)
    0.6931
    """
    loss = example_log_loss(labels, probabilities)
    return float(loss.mean()) if loss.size else float("nan")


def example_log_loss(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Negative log-likelihood of each example, nats, `(n,)`; probabilities of 0 and 1 count as 1e-7 away from them."""
    y = np.asarray(labels, dtype=np.float64)
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _EPSILON, 1 - _EPSILON)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log1p(-p)))


def calibration(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean score over mean label; 1 is calibrated."""
    y = np.asarray(labels, dtype=np.float64)
    if y.size == 0 or y.mean() == 0:
        return float("nan")
    return float(np.asarray(probabilities, dtype=np.float64).mean() / y.mean())


def normalised_entropy(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Log loss over the entropy of the mean label (He et al., ADKDD 2014); 1 is no better than the mean."""
    y = np.asarray(labels, dtype=np.float64)
    if y.size == 0 or y.mean() in (0.0, 1.0):
        return float("nan")
    return log_loss(y, probabilities) / log_loss(y, np.full(y.shape, y.mean()))


def grouped_auc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """AUC inside each group, averaged with the groups' sizes as weights; groups with one class are left out."""
    order = list_auc(labels, scores, groups)
    if not order.mixed.any():
        return float("nan")
    return float(np.average(order.auc[order.mixed], weights=order.size[order.mixed]))


def grouped_ndcg(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, at: int) -> float:
    """Mean NDCG at `at` over the groups that hold both labels, gains 0 and 1 (Jarvelin and Kekalainen, TOIS 2002).

    Items of equal score share the mean discount of their ranks, so that their input order does not matter.

    >>> grouped_ndcg([0, 1, 1, 0], [0.9, 0.1, 0.8, 0.2], np.array([1, 1, 2, 2]), at=1)
    0.5
    """
    gains = list_ndcg(labels, scores, groups, at)
    known = gains[~np.isnan(gains)]
    return float(known.mean()) if known.size else float("nan")


def mixed_groups(labels: ArrayLike, groups: ArrayLike) -> int:
    """Number of groups that hold both labels, which are those that `grouped_auc` and `grouped_ndcg` use."""
    y = np.asarray(labels) > 0.5
    _, group = np.unique(groups, return_inverse=True)
    positives, size = np.bincount(group, y), np.bincount(group)
    return int(((positives > 0) & (positives < size)).sum())


class PrequentialWindow:
    """The most recent labels and the probabilities each arm gave before it learned from them."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError("a window holds at least one example")
        self.size = size
        self._labels: deque[float] = deque(maxlen=size)
        self._scores: dict[str, deque[float]] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, labels: ArrayLike, probabilities: Mapping[str, ArrayLike]) -> None:
        """Adds examples, oldest first. Raises ValueError if the set of arms changes or lengths differ."""
        y = np.asarray(labels, dtype=np.float64)
        if self._scores and set(probabilities) != set(self._scores):
            raise ValueError(f"arms changed from {sorted(self._scores)} to {sorted(probabilities)}")
        values = {arm: np.asarray(p, dtype=np.float64) for arm, p in probabilities.items()}
        for arm, p in values.items():
            if p.shape != y.shape:
                raise ValueError(f"arm {arm!r} has {p.shape} scores for {y.shape} labels")
        self._labels.extend(y.tolist())
        for arm, p in values.items():
            self._scores.setdefault(arm, deque(maxlen=self.size)).extend(p.tolist())

    @property
    def label_rate(self) -> float:
        """Mean label; not a number while there is none."""
        return sum(self._labels) / len(self) if self._labels else float("nan")

    def summary(self) -> dict[str, dict[str, float]]:
        """AUC, log loss and calibration per arm."""
        y = np.array(self._labels)
        out = {}
        for arm, scores in self._scores.items():
            p = np.array(scores)
            out[arm] = {"auc": auc(y, p), "log_loss": log_loss(y, p), "calibration": calibration(y, p)}
        return out
