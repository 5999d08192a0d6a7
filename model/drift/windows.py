"""Recent measures by stratum: sums and histograms that forget, so memory does not grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.harm import log_losses
from model.gate.seen import Doubles

HALF_LIFE = 1_000.0
"""Examples of a stratum."""
_EDGES = np.linspace(-8.0, 4.0, 49)[1:-1]
_BINS = len(_EDGES) + 1


def bins_of(logit: Doubles) -> NDArray[np.int64]:
    """Bin of each logit, a quarter of a logit wide."""
    return np.searchsorted(_EDGES, logit)


def binned(member: Doubles, logit: Doubles, weight: Doubles) -> Doubles:
    """Weights by stratum and bin of the logit, `(strata, bins)`."""
    row, column = np.nonzero(member)
    cell = row * _BINS + bins_of(logit)[column]
    summed = np.bincount(cell, member[row, column] * weight[column], len(member) * _BINS)
    return summed.reshape(len(member), _BINS).astype(np.float64)


def binned_auc(positive: Doubles, negative: Doubles) -> Doubles:
    """AUC by stratum of positives and negatives by bin, `(strata, bins)`; ties count half, nan where undefined."""
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (positive * below).sum(axis=1) / pairs, np.nan)


class Decaying:
    """Arrays by stratum that halve every `half_life` of the stratum's examples."""

    def __init__(self, strata: int, half_life: float, shapes: Mapping[str, Sequence[int]]) -> None:
        self._half_life = half_life
        self.sums: dict[str, Doubles] = {name: np.zeros((strata, *shape)) for name, shape in shapes.items()}

    def add(self, examples: Doubles, parts: Mapping[str, Doubles]) -> None:
        """Lets `examples` `(strata,)` pass, and adds what they brought."""
        kept = 2.0 ** (-examples / self._half_life)
        for name, part in parts.items():
            old = self.sums[name]
            old *= kept.reshape(-1, *[1] * (old.ndim - 1))
            old += part

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {name: value.tobytes() for name, value in self.sums.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        for name, value in self.sums.items():
            self.sums[name] = np.frombuffer(state[name]).reshape(value.shape).copy()


_SUMS = ("count", "loss", "score", "label")


class ArmWindow:
    """What one arm was worth lately, in every stratum."""

    def __init__(self, strata: int) -> None:
        self._window = Decaying(strata, HALF_LIFE, {"sums": (len(_SUMS),), "bins": (2, _BINS)})

    def take(self, label: Doubles, logit: Doubles, member: Doubles) -> None:
        """Takes examples: labels 0 or 1 and logits `(n,)`, weights in their strata `(strata, n)`."""
        p = 0.5 * (1.0 + np.tanh(0.5 * logit))
        sums = member @ np.stack([np.ones_like(label), log_losses(logit, label), p, label], 1)
        row, column = np.nonzero(member)
        cell = ((2 * row + (label > 0.5)[column]) * _BINS) + bins_of(logit)[column]
        bins = np.bincount(cell, member[row, column], 2 * len(member) * _BINS).astype(np.float64)
        self._window.add(sums[:, 0], {"sums": sums, "bins": bins.reshape(len(member), 2, _BINS)})

    @property
    def sums(self) -> dict[str, Doubles]:
        """`count`, `loss`, `score` and `label` of recent examples, by stratum."""
        return dict(zip(_SUMS, self._window.sums["sums"].T, strict=True))

    def measures(self) -> dict[str, Doubles]:
        """`log_loss`, `auc`, `calibration` and `label_rate` by stratum, nan where there is nothing."""
        sums, bins = self.sums, self._window.sums["bins"]
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "log_loss": np.where(sums["count"] > 0, sums["loss"] / sums["count"], np.nan),
                "calibration": np.where(sums["label"] > 0, sums["score"] / sums["label"], np.nan),
                "label_rate": np.where(sums["count"] > 0, sums["label"] / sums["count"], np.nan),
                "auc": binned_auc(bins[:, 1], bins[:, 0]),
            }

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return self._window.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._window.load(state)
