"""The domain of a request: its scene, region and period."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from operator import attrgetter
from urllib.parse import unquote

import msgspec
import numpy as np
from numpy.typing import NDArray

FACETS = ("scene", "region", "period")
UNKNOWN = "unknown"


class Domain(msgspec.Struct, frozen=True, gc=False):
    """Where, for whom and when a request was made. A value nobody declared is treated as ``unknown``.

    Every request carries one, so it is of the type that is decoded fastest.
    """

    scene: str = UNKNOWN
    region: str = UNKNOWN
    period: str = UNKNOWN

    @property
    def key(self) -> str:
        """One string per domain, used as a key in stores; `parts_of` undoes it."""
        key = f"{self.scene}/{self.region}/{self.period}"
        if "%" in key or key.count("/") > len(FACETS) - 1:  # seldom: a value with a slash must not look like two
            parts = (self.scene, self.region, self.period)
            return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)
        return key

    @staticmethod
    def parts_of(key: str) -> tuple[str, str, str]:
        """Scene, region and period of a key."""
        scene, region, period = (unquote(part) for part in key.split("/"))
        return scene, region, period


class DomainSpace:
    """Maps domains to indices. Index 0 of every facet is ``unknown``; declared values follow in order."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        unexpected = set(values) - set(FACETS)
        if unexpected:
            raise ValueError(f"unknown domain facet {sorted(unexpected)[0]!r}; the facets are {', '.join(FACETS)}")
        self.values: dict[str, tuple[str, ...]] = {}
        for facet in FACETS:
            declared = tuple(value for value in values.get(facet, ()) if value != UNKNOWN)
            if len(set(declared)) != len(declared):
                raise ValueError(f"domain facet {facet!r} declares a value twice")
            self.values[facet] = (UNKNOWN, *declared)
        self._index = {facet: {v: i for i, v in enumerate(vs)} for facet, vs in self.values.items()}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of values per facet, ``unknown`` included, in the order of ``FACETS``."""
        scene, region, period = (len(self.values[facet]) for facet in FACETS)
        return scene, region, period

    @property
    def size(self) -> int:
        """Number of domains: the product of the facets' sizes."""
        scene, region, period = self.sizes
        return scene * region * period

    def domains(self) -> Iterator[Domain]:
        """Every domain, ``unknown`` values included."""
        return (Domain(*values) for values in product(*(self.values[facet] for facet in FACETS)))

    def declared(self, domain: Domain) -> bool:
        """Whether every facet of ``domain`` names a declared value."""
        return all(getattr(domain, facet) in self._index[facet] for facet in FACETS)

    def known(self, domain: Domain) -> Domain:
        """`domain` with ``unknown`` in place of every undeclared value."""
        return domain if self.declared(domain) else self.decode(self.encode(domain))

    def encode(self, domain: Domain) -> tuple[int, int, int]:
        """Facet indices of one domain; an undeclared value gives 0."""
        scene, region, period = (self._index[facet].get(getattr(domain, facet), 0) for facet in FACETS)
        return scene, region, period

    def encode_many(self, domains: Sequence[Domain]) -> NDArray[np.int64]:
        """Facet indices, shape ``(len(domains), 3)``."""
        encoded = np.empty((len(domains), len(FACETS)), dtype=np.int64)
        for column, facet in enumerate(FACETS):
            get = self._index[facet].get
            encoded[:, column] = [get(value, 0) for value in map(attrgetter(facet), domains)]
        return encoded

    def decode(self, indices: Sequence[int]) -> Domain:
        """The domain of three facet indices."""
        return Domain(*(self.values[facet][index] for facet, index in zip(FACETS, indices, strict=True)))

    def flat(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """One index per domain in ``range(self.size)``, from facet indices of shape ``(n, 3)``."""
        flat: NDArray[np.int64] = np.ravel_multi_index(tuple(indices.T), self.sizes).astype(np.int64)
        return flat
