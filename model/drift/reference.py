"""The drift reference: distributions of inputs and scores in the pretraining window, kept with the backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.drift.config import MONITORED_INPUTS
from model.drift.expectation import Expectation, probability
from model.gate.scored_examples import Doubles

_PROJECTIONS = len(MONITORED_INPUTS) - 2
"""Number of projections; score and norm are the other two watched inputs."""
BINS = 10
_SEED = 20_17
_PASSES = 20


def monitored_inputs(x: NDArray[np.floating], frozen_logit: NDArray[np.floating]) -> NDArray[np.float32]:
    """The `MONITORED_INPUTS` inputs, `(n, watched)`, from representations `(n, width)` and frozen logits `(n,)`."""
    wide = torch.from_numpy(np.ascontiguousarray(x)).float().numpy()  # ten times faster than numpy's cast of float16
    out = np.empty((len(wide), len(MONITORED_INPUTS)), dtype=np.float32)
    out[:, 0] = frozen_logit
    # No matmul: its rounding depends on the number of rows, and an example's value must not.
    np.sqrt(np.einsum("ij,ij->i", wide, wide), out=out[:, 1])
    np.einsum("ij,kj->ik", wide, _directions(wide.shape[1]), out=out[:, 2:])
    return out


@cache
def _directions(width: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(_SEED).standard_normal((width, _PROJECTIONS))
    return np.ascontiguousarray((drawn / np.sqrt((drawn**2).sum(axis=0))).T, dtype=np.float32)


@dataclass(frozen=True)
class Reference:
    """Binned distributions of the pretraining window; their size does not depend on the number of examples."""

    edges: Doubles
    """Deciles of each of the `MONITORED_INPUTS`, `(watched, BINS - 1)`."""
    counts: Doubles
    """Examples by stratum and bin, `(strata, watched, BINS)`."""
    centre: float
    """Mean frozen logit."""
    slope: float
    """Slope of a logistic regression of the labels on the frozen logit: near 1 if its probabilities fit."""

    @property
    def examples(self) -> int:
        """Number of examples it was made of."""
        return round(float(self.counts[0, 0].sum()))

    @classmethod
    def of(
        cls,
        x: NDArray[np.floating],
        frozen_logit: NDArray[np.floating],
        label: NDArray[np.floating],
        domain: NDArray[np.int64],
        sizes: tuple[int, int, int],
    ) -> Reference:
        """From examples `(n, width)`, `(n,)`, `(n,)` and facet indices `(n, 3)`; `sizes` are `DomainSpace.sizes`.

        Examples should be held out from the frozen model's training, because a model is overconfident on those.
        Raises ValueError if there are none, or none with finite numbers.
        """
        values = monitored_inputs(x, frozen_logit).astype(np.float64)
        finite = np.isfinite(values).all(axis=1)
        if not finite.any():
            raise ValueError("a reference takes at least one example whose numbers are finite")
        values, z = values[finite], np.asarray(frozen_logit, dtype=np.float64)[finite]
        edges = np.quantile(values, np.arange(1, BINS) / BINS, axis=0).T
        counts = counted(values, edges, strata_of(domain[finite], sizes), 1 + sum(sizes))
        centre = float(z.mean())
        return cls(edges, counts, centre, _slope(z, label[finite].astype(np.float64), centre))

    def to_tensors(self) -> dict[str, Tensor]:
        """For a container."""
        scalars = torch.tensor([self.centre, self.slope], dtype=torch.float64)
        return {"edges": torch.from_numpy(self.edges), "counts": torch.from_numpy(self.counts), "scalars": scalars}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Reference:
        """The inverse of `to_tensors`. Raises ValueError for tensors of another form."""
        missing = {"edges", "counts", "scalars"} - set(tensors)
        if missing:
            raise ValueError(f"a drift reference lacks {sorted(missing)[0]!r}")
        edges, counts, scalars = (tensors[name].double().numpy() for name in ("edges", "counts", "scalars"))
        fits = edges.shape == (len(MONITORED_INPUTS), BINS - 1) and counts.shape[1:] == (len(MONITORED_INPUTS), BINS)
        if not fits or scalars.shape != (2,):
            raise ValueError(f"a drift reference has edges of shape {edges.shape} and counts of {counts.shape}")
        return cls(edges.copy(), counts.copy(), *(float(value) for value in scalars))


def strata_of(domain: NDArray[np.int64], sizes: tuple[int, int, int]) -> NDArray[np.int64]:
    """Numbers of the strata `(n, 4)` of facet indices `(n, 3)`, in the order of `scored_examples.Strata`."""
    offsets = 1 + np.cumsum([0, *sizes])[:-1]
    return np.column_stack([np.zeros(len(domain), dtype=np.int64), domain + offsets])


def counted(values: Doubles, edges: Doubles, strata: NDArray[np.int64], count: int) -> Doubles:
    """Examples by stratum and bin, `(count, watched, BINS)`, of values `(n, watched)` in strata `(n, k)`."""
    kinds = len(edges)
    out = np.empty((count, kinds, BINS))
    for kind in range(kinds):
        place = np.searchsorted(edges[kind], values[:, kind], side="right")
        cell = (strata * BINS + place[:, None]).ravel()
        out[:, kind] = np.bincount(cell, minlength=count * BINS).reshape(count, BINS)
    return out


def _slope(z: Doubles, label: Doubles, centre: float) -> float:
    fit, member = Expectation([0], centre, slow=1.0), np.ones((1, len(z)))
    for _ in range(_PASSES):
        fit.see(member, z, probability(fit.logit(member, z)), label)
        fit.refit(0)
        fit.forget(np.ones(1, dtype=np.bool_))
    slope = 1.0 + float(fit.theta[0, 1])
    return slope if np.isfinite(slope) else 1.0
