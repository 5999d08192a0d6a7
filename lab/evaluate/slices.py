"""The live half in slices: by how often pretraining saw the item, by whether it saw the user, and by what was wanted.

The four slices of items hold every example once between them, and so do the two of users and the two of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.measures import LEAST
from lab.intervals import Interval, interval
from model.backbone.examples import Examples
from model.config import NO_QUERY
from model.evaluation import auc, grouped_auc, log_loss, mixed_groups, sigmoid

ITEM_SLICES = ("item never seen", "item seen 1-10", "item seen 11-100", "item seen more")
_FROM = (1, 11, 101)
"""Examples of the pretraining half from which the second, third and fourth slice of items begin."""
USER_SLICES = ("user new", "user known")
SLICES = ITEM_SLICES + USER_SLICES
REQUEST_SLICES = ("search requests", "recommendation requests")
"""Beside them where a stream has queries."""
_LEAST_LISTS = 30  # with fewer requests the mean AUC would be noise


@dataclass(frozen=True)
class PretrainingCounts:
    """For each live example, how often pretraining saw its item and its user, both `(n,)`, and its request's query."""

    item: NDArray[np.int64]
    user: NDArray[np.int64]
    query: NDArray[np.int64] | None = None
    """As in `Chunk`, for each example."""

    @staticmethod
    def of(
        pretraining: Examples,
        item: NDArray[np.int64],
        user: NDArray[np.int64],
        query: NDArray[np.int64] | None = None,
    ) -> PretrainingCounts:
        """Counts the examples that pretraining saw, clicked or not, for items and users by position, both `(n,)`."""
        return PretrainingCounts(_count(pretraining.item, item), _count(pretraining.user, user), query)

    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Masks of the examples in each slice, by its name."""
        band = np.digitize(self.item, _FROM)
        items = {name: band == number for number, name in enumerate(ITEM_SLICES)}
        new, known = USER_SLICES
        users = {new: self.user == 0, known: self.user > 0}
        return items | users | (self._requests() if self.query is not None else {})

    def _requests(self) -> dict[str, NDArray[np.bool_]]:
        search, recommendation = REQUEST_SLICES
        searches = np.asarray(self.query != NO_QUERY)
        return {search: searches, recommendation: ~searches}


def _count(seen: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of occurrences of each of `asked` in `seen`."""
    return np.bincount(seen, minlength=int(asked.max(initial=0)) + 1)[asked]


@dataclass(frozen=True)
class SliceMeasures:
    """Measures of one adapter on one slice of one stream and seed; NaN for too few examples."""

    examples: int
    lists: int
    """Requests that hold both labels within the slice."""
    request_auc: float
    """AUC within each request over its items of the slice, weighted by their number."""
    auc: float
    log_loss: float


def measure_slices(
    label: NDArray[np.float32], logit: NDArray[np.float32], request: NDArray[np.int64], seen: PretrainingCounts
) -> dict[str, SliceMeasures]:
    """All slices of `n` examples by name, including empty ones."""
    masks = seen.masks().items()
    return {name: measure_slice(label[mask], logit[mask], request[mask]) for name, mask in masks}


def measure_slice(label: NDArray[np.float32], logit: NDArray[np.float32], request: NDArray[np.int64]) -> SliceMeasures:
    """Labels, click logits and requests of the examples of one slice, all `(m,)`."""
    lists = mixed_groups(label, request)
    return SliceMeasures(
        examples=len(label),
        lists=lists,
        request_auc=grouped_auc(label, logit, request) if lists >= _LEAST_LISTS else float("nan"),
        auc=auc(label, logit) if len(label) >= LEAST else float("nan"),
        log_loss=log_loss(label, sigmoid(logit)),
    )


@dataclass(frozen=True)
class SliceRow:
    """One adapter on one slice of one stream, over the seeds."""

    examples: float
    """Mean over the seeds, as `lists`."""
    lists: float
    request_auc: Interval
    auc: Interval
    log_loss: Interval


def slice_rows(seeds: Sequence[Mapping[str, SliceMeasures]]) -> dict[str, SliceRow]:
    """Rows of one adapter's slices over the seeds."""
    return {name: _over_seeds([of_seed[name] for of_seed in seeds]) for name in seeds[0]}


FIGURES = {"request_auc": "AUC within requests", "auc": "AUC", "log_loss": "log loss"}
"""Fields of `SliceMeasures`, with their names in tables."""
Measured = Mapping[int, Mapping[str, SliceMeasures]]
"""Slices of one variant, by seed and name."""


def slice_figures(runs: Measured, above: Measured | None = None) -> dict[str, dict[str, Interval]]:
    """Each of `FIGURES` by slice, over the seeds of `runs`; the difference to `above` where it is given, paired."""

    def of(seed: int, name: str, figure: str) -> float:
        base = getattr(above[seed][name], figure) if above is not None else 0.0
        return float(getattr(runs[seed][name], figure) - base)

    names = list(next(iter(runs.values())))
    return {
        figure: {name: interval([of(seed, name, figure) for seed in sorted(runs)]) for name in names}
        for figure in FIGURES
    }


def slice_sizes(runs: Measured) -> dict[str, float]:
    """Examples of each slice, mean over the seeds."""
    return {name: float(np.mean([run[name].examples for run in runs.values()])) for name in next(iter(runs.values()))}


def _over_seeds(seeds: Sequence[SliceMeasures]) -> SliceRow:
    return SliceRow(
        examples=float(np.mean([measures.examples for measures in seeds])),
        lists=float(np.mean([measures.lists for measures in seeds])),
        request_auc=interval([measures.request_auc for measures in seeds]),
        auc=interval([measures.auc for measures in seeds]),
        log_loss=interval([measures.log_loss for measures in seeds]),
    )
