"""Recent measures by stratum: decaying sums and histograms, whose memory is bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.harm import log_losses
from model.gate.scored_examples import Doubles

HALF_LIFE = 1_000.0
"""Half-life in examples of a stratum."""
_LOWEST, BINS = -8.0, 48
"""Lower edge of the first bin, and number of bins. Logits outside count in the first or the last."""
_WIDTH = 0.25


def bins_of(logit: Doubles) -> NDArray[np.int64]:
    """Bin of each logit, a quarter of a logit wide; its upper edge belongs to it."""
    place = np.ceil((1 / _WIDTH) * logit) - (_LOWEST / _WIDTH + 1)  # exact, because the width is a power of two
    return np.minimum(np.maximum(place, 0), BINS - 1).astype(np.int64)


def binned(strata: NDArray[np.int64], count: int, place: NDArray[np.int64], weights: Doubles, rows: int = 1) -> Doubles:
    """Sums weights `(k, n)` by stratum and bin, `(count, k, rows * BINS)`, for examples in strata `(n, 4)`.

    `place` `(k, n)` or `(n,)` is each example's bin; there are `rows` times `BINS` bins.
    """
    kinds, bins = len(weights), rows * BINS
    cell = strata.T[:, None] * (kinds * bins) + (place + bins * np.arange(kinds)[:, None])
    each = np.broadcast_to(weights, cell.shape)
    summed = np.bincount(cell.ravel(), each.ravel(), count * kinds * bins)
    return summed.reshape(count, kinds, bins).astype(np.float64, copy=False)


def binned_auc(positive: Doubles, negative: Doubles) -> Doubles:
    """AUC by stratum from positives and negatives by bin, `(strata, bins)`; ties count half, NaN if undefined."""
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (positive * below).sum(axis=1) / pairs, np.nan)


class Decaying:
    """Arrays by stratum that halve every `half_life` examples of the stratum."""

    def __init__(self, strata: int, half_life: float, shapes: Mapping[str, Sequence[int]]) -> None:
        self._half_life = half_life
        self.sums: dict[str, Doubles] = {name: np.zeros((strata, *shape)) for name, shape in shapes.items()}

    def add(self, examples: Doubles, parts: Mapping[str, Doubles]) -> None:
        """Decays the arrays by `examples` `(strata,)`, or with more of their leading axes, then adds `parts`."""
        kept = np.exp2(examples * (-1.0 / self._half_life))
        for name, part in parts.items():
            old = self.sums[name]
            old *= kept[(..., *[None] * (old.ndim - kept.ndim))]
            old += part

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {name: value.tobytes() for name, value in self.sums.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        for name, value in self.sums.items():
            self.sums[name] = np.frombuffer(state[name]).reshape(value.shape).copy()


_SUMS = ("count", "loss", "score", "label")


class ArmWindows:
    """Recent performance of the arms in every stratum."""

    def __init__(self, strata: int, arms: Sequence[str]) -> None:
        self._arms = arms
        shapes = {"sums": (len(arms), len(_SUMS)), "bins": (len(arms), 2, BINS)}
        self._window = Decaying(strata, HALF_LIFE, shapes)

    def take(self, label: Doubles, logits: Doubles, member: Doubles, strata: NDArray[np.int64]) -> None:
        """Takes 0/1 labels `(n,)`, each arm's logits `(arms, n)`, NaN where it gave none, and the strata.

        `member` are membership weights `(strata, n)`, the group's first; `strata` are each example's strata `(n, 4)`.
        """
        arms, count = len(logits), len(member)
        known = np.isfinite(logits)
        logit = np.where(known, logits, 0.0)
        parts = np.empty((arms, len(_SUMS), len(label)))
        parts[:, 0], parts[:, 1], parts[:, 3] = 1.0, log_losses(logit, label), label
        parts[:, 2] = 0.5 * (1.0 + np.tanh(0.5 * logit))
        parts *= known[:, None]
        sums = (member @ parts.reshape(-1, len(label)).T).reshape(count, arms, len(_SUMS))
        place = (label > 0) * BINS + bins_of(logit)
        bins = binned(strata, count, place, known * member[0], rows=2)
        self._window.add(sums[:, :, 0], {"sums": sums, "bins": bins.reshape(count, arms, 2, BINS)})

    def sums(self, arm: str) -> dict[str, Doubles]:
        """`count`, `loss`, `score` and `label` of recent examples, by stratum."""
        return dict(zip(_SUMS, self._window.sums["sums"][:, self._arms.index(arm)].T, strict=True))

    def measures(self, arm: str) -> dict[str, Doubles]:
        """`log_loss`, `auc`, `calibration` and `label_rate` by stratum, NaN without examples."""
        sums, bins = self.sums(arm), self._window.sums["bins"][:, self._arms.index(arm)]
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
