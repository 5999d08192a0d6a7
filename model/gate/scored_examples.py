"""The labelled examples that the gate reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredExamples:
    """`n` labelled examples of `r` requests, as they were served, with both arms' logits."""

    label: Doubles
    """0 or 1, `(n,)`."""
    frozen: Doubles
    """Logit of the frozen arm, `(n,)`."""
    live: Doubles
    """Logit of the live arm when the request was served, `(n,)`."""
    request: NDArray[np.int64]
    """Index of the request of each example, `(n,)`, rising from 0 without gaps."""
    user: Sequence[str]
    """`(r,)`."""
    item: Sequence[str]
    """`(n,)`."""
    domain: NDArray[np.int64]
    """Facet indices, `(r, 3)`."""
    version: NDArray[np.int64]
    """Version of the kernel that served the request, `(r,)`."""

    @property
    def requests(self) -> int:
        """Number r of requests."""
        return len(self.user)

    def select(self, keep: NDArray[np.bool_]) -> ScoredExamples:
        """The requests where the mask `keep` `(r,)` is true, with their examples."""
        examples = keep[self.request]
        return replace(
            self,
            label=self.label[examples],
            frozen=self.frozen[examples],
            live=self.live[examples],
            request=(np.cumsum(keep) - 1)[self.request[examples]],
            user=[user for user, kept in zip(self.user, keep, strict=True) if kept],
            item=[item for item, kept in zip(self.item, examples, strict=True) if kept],
            domain=self.domain[keep],
            version=self.version[keep],
        )

    def per_request(self, values: Doubles) -> Doubles:
        """Means over the requests' examples, `(..., r)`, of values `(..., n)`."""
        starts, sizes = self.requests_at
        return np.asarray(np.add.reduceat(values, starts, axis=-1) / sizes)

    @cached_property
    def requests_at(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First example and number of examples of each request, `(r,)` each."""
        return runs(self.request)

    @cached_property
    def users(self) -> tuple[list[str], NDArray[np.int64]]:
        """The distinct users, and the number of each request's user among them, `(r,)`; several tests need them."""
        return numbered(self.user)


def numbered(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct names in order of first occurrence, and the number of each name among them, `(k,)`."""
    index: dict[str, int] = {}
    numbers = [index.setdefault(name, len(index)) for name in names]
    return list(index), np.array(numbers, dtype=np.int64)


def runs(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each run of equal `values` `(n,)` begins, and how long it is, `(runs,)` each."""
    begins = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    starts = np.flatnonzero(begins)
    sizes = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=sizes[:-1])
    sizes[-1:] = len(values) - starts[-1:]
    return starts, sizes


class Strata:
    """The parts of a group that are watched separately: stratum 0 is the whole group, then each value of each facet."""

    def __init__(self, facets: Mapping[str, Sequence[str]]) -> None:
        """`facets` are the values of each facet, in the order of their indices (`DomainSpace.values`)."""
        self._names = ["group", *(f"{facet}={value}" for facet, values in facets.items() for value in values)]
        self._offsets = 1 + np.cumsum([0, *(len(values) for values in facets.values())])[:-1]
        self.facet = [0, *(n + 1 for n, values in enumerate(facets.values()) for _ in values)]
        """Which facet each stratum is a value of, from 1; 0 for the group."""
        # Column of the facet indices, and value in it, that each stratum takes; the group takes all.
        self._column = np.array([0, *(facet - 1 for facet in self.facet[1:])])
        self._value = np.array([-1, *(index for values in facets.values() for index in range(len(values)))])[:, None]

    def __len__(self) -> int:
        return len(self._names)

    def of(self, domain: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mask of the requests in each stratum, `(strata, r)`, from facet indices `(r, 3)`."""
        inside = np.asarray(domain.T[self._column] == self._value)
        inside[0] = True
        return inside

    def numbers(self, domain: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the strata that each request belongs to, `(r, 4)`, from facet indices `(r, 3)`."""
        return np.column_stack([np.zeros(len(domain), dtype=np.int64), domain + self._offsets])

    def name(self, stratum: int) -> str:
        """`group`, or a facet and its value."""
        return self._names[stratum]
