"""Initialisation of new parameters: those of a facet value or bank entry that is seen for the first time.

They are taken from the known ones: their mean, or the nearest, whose mean representation is closest. Both are ours; the
paper's remedy for cold domains is not public.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from model.encoding.domain import FACETS
from model.kernel.kernel import Kernel


class NewDomains:
    """Keeps which domains have been seen and the mean of their representations, and initialises the new ones."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.sums = torch.zeros(sum(kernel.domain_sizes), kernel.width)
        """Sum of representations per facet value, all facets one below the other, `(values, d)`; kept for "nearest"."""
        self._begin = (0, kernel.domain_sizes[0], kernel.domain_sizes[0] + kernel.domain_sizes[1])

    @torch.no_grad()
    def observe(self, x: Tensor, domain: Tensor) -> bool:
        """Counts examples `(n, d)`, `(n, 3)` as evidence and initialises what is new. True if a parameter was set."""
        kernel = self.kernel
        before, bank_before = self._seen_values(), self._seen_entries()
        self.count(x, domain)
        initialised = False
        for facet, seen in enumerate(before):
            values = torch.unique(domain[:, facet])
            for value in values[~seen[values]].tolist():
                initialised |= self._initialise_value(facet, value, seen)
        if kernel.config.sharing != "shared":
            entries = torch.unique(kernel.bank_index(domain))
            for entry in entries[~bank_before[entries]].tolist():
                initialised |= self._initialise_entry(entry, bank_before)
        return initialised

    def any_unseen(self, domain: Tensor) -> bool:
        """Whether a domain among `(n, 3)` has never been seen."""
        return int(self.kernel.evidence[self.kernel.flat_index(domain)].min()) == 0

    def count(self, x: Tensor, domain: Tensor) -> None:
        """Counts examples `(n, d)`, `(n, 3)` of which every domain has been seen before."""
        flat = self.kernel.flat_index(domain)
        self.kernel.evidence.index_add_(0, flat, torch.ones_like(flat))
        if self.kernel.config.new_domain_init == "nearest":
            for facet, begin in enumerate(self._begin):
                self.sums.index_add_(0, domain[:, facet] + begin, x)

    def _seen_values(self) -> list[Tensor]:
        """Which values of each facet have been seen, bool `(values,)` per facet."""
        grid = self.kernel.evidence.view(self.kernel.domain_sizes)
        return [grid.sum(dim=[other for other in range(3) if other != facet]) > 0 for facet in range(3)]

    def _seen_entries(self) -> Tensor:
        """Which entries of the bank have been seen, bool `(bank_size,)`."""
        banked = [FACETS.index(facet) for facet in self.kernel.config.bank_facets]
        grid = self.kernel.evidence.view(self.kernel.domain_sizes)
        order = banked + [facet for facet in range(3) if facet not in banked]
        return grid.permute(order).reshape(self.kernel.bank_size, -1).sum(1) > 0

    def _mean_representations(self, facet: int) -> Tensor:
        size, begin = self.kernel.domain_sizes[facet], self._begin[facet]
        grid = self.kernel.evidence.view(self.kernel.domain_sizes)
        count = grid.sum(dim=[other for other in range(3) if other != facet])
        return self.sums[begin : begin + size] / count.clamp(min=1)[:, None]

    def _distances(self, facet: int, value: int) -> Tensor:
        means = self._mean_representations(facet)
        return (means - means[value]).square().sum(1)

    def _initialise_value(self, facet: int, value: int, seen: Tensor) -> bool:
        if not bool(seen.any()):
            return False
        tables = [self.kernel.facets[facet]]
        if self.kernel.config.reading == "B":
            tables.append(self.kernel.target[facet])
        for table in tables:
            _initialise(table, value, seen, self._distances(facet, value), self.kernel.config.new_domain_init)
        return True

    def _initialise_entry(self, entry: int, seen: Tensor) -> bool:
        if not bool(seen.any()):
            return False
        distances = self._bank_distances(entry)
        for parameter in self._bank_parameters():
            _initialise(parameter, entry, seen, distances, self.kernel.config.new_domain_init)
        return True

    def _bank_distances(self, entry: int) -> Tensor:
        """Sum over the bank's facets of the distances between their values' means, `(bank_size,)`."""
        facets = [FACETS.index(facet) for facet in self.kernel.config.bank_facets]
        sizes = [self.kernel.domain_sizes[facet] for facet in facets]
        values = torch.unravel_index(torch.tensor(entry), sizes)
        total = torch.zeros(sizes)
        for axis, (facet, value) in enumerate(zip(facets, values, strict=True)):
            shape = [1] * len(sizes)
            shape[axis] = sizes[axis]
            total = total + self._distances(facet, int(value)).view(shape)
        return total.flatten()

    def _bank_parameters(self) -> Iterator[Tensor]:
        if self.kernel.bank_size > 1:
            for name, parameter in self.kernel.cores.named_parameters():
                # With sharing "both" the first core is the shared one, and only the second has a slice per entry.
                banked = self.kernel.config.sharing == "per_domain" or name.split(".")[1] == "1"
                if banked:
                    yield parameter


def _initialise(parameter: Tensor, index: int, seen: Tensor, distances: Tensor, how: str) -> None:
    """Sets slice `index` of `parameter` `(k, ...)` from the slices that were `seen`, bool `(k,)`."""
    if how == "mean":
        parameter[index] = parameter[seen].mean(0)
        return
    nearest = int(distances.masked_fill(~seen, float("inf")).argmin())
    parameter[index] = parameter[nearest]
