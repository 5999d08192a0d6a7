"""Labelled impressions as pretraining and the lab read them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from model.config import NO_QUERY


@dataclass(frozen=True)
class Examples:
    """Labelled impressions ordered by time. `user`, `item` and `query` index lists of profiles. All are `(n,)` except
    `domain`."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    domain: NDArray[np.int64]
    """Facet indices, `(n, 3)`."""
    label: NDArray[np.float32]
    time: NDArray[np.float64]
    """Seconds since the epoch, not descending."""
    conversion: NDArray[np.float32] | None = None
    query: NDArray[np.int64] | None = None
    """Index into a list of queries, `NO_QUERY` for a recommendation; None if the stream has no queries at all."""
    relevance: NDArray[np.float32] | None = None
    """How relevant the item is to the query, from 0 to 1, NaN where nobody judged it; None if nobody ever did."""

    @property
    def searches(self) -> bool:
        """Whether any example belongs to a request with a query."""
        return self.query is not None and bool((self.query != NO_QUERY).any())

    @property
    def judged(self) -> bool:
        """Whether the relevance of any example is known."""
        return self.relevance is not None and not np.isnan(self.relevance).all()

    def __post_init__(self) -> None:
        n = len(self.label)
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if len(value) != n:
                raise ValueError(f"examples: {field.name} has {len(value)} rows, label has {n}")
            if field.name == "relevance":
                _check_relevance(value)
            elif not np.isfinite(value).all():
                raise ValueError(f"examples: {field.name} has non-finite values")
        if self.domain.shape != (n, 3):
            raise ValueError(f"examples: domain has shape {self.domain.shape}, expected ({n}, 3)")
        if (np.diff(self.time) < 0).any():
            raise ValueError("examples: time is not in order; sort the examples by time first")

    def __len__(self) -> int:
        return len(self.label)

    def select(self, index: NDArray[np.int64] | slice) -> Examples:
        """The examples of `index`, which must keep their order."""
        picked = {f.name: getattr(self, f.name)[index] for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **picked)


def _check_relevance(value: NDArray[np.float32]) -> None:
    if ((value < 0) | (value > 1)).any():  # never true of NaN
        raise ValueError("examples: relevance has values outside 0 to 1")
