"""Birth of a domain: parameters of a facet value or bank entry that is met for the first time come from its siblings.

From the mean of the known ones, or from the nearest by feature statistics: the known one whose mean representation is
closest. Both are ours; the paper's remedy for cold domains is not public.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from model.encoding.domain import FACETS
from model.kernel.kernel import Kernel


class Births:
    """Watches which domains have been seen, and how their representations lie."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.sums = torch.zeros(sum(kernel.domain_sizes), kernel.width)
        """Sum of representations per facet value, all facets one below the other, `(values, d)`; kept for "nearest"."""
        self._begin = (0, kernel.domain_sizes[0], kernel.domain_sizes[0] + kernel.domain_sizes[1])

    @torch.no_grad()
    def meet(self, x: Tensor, domain: Tensor) -> bool:
        """Counts examples `(n, d)`, `(n, 3)` as evidence and places what is new. True if something was born."""
        kernel = self.kernel
        before, bank_before = self._evidence(), self._bank_evidence()
        self.count(x, domain)
        born = False
        for facet, known in enumerate(before):
            fresh = torch.unique(domain[:, facet])
            for value in fresh[~known[fresh]].tolist():
                born |= self._bear_value(facet, value, known)
        if kernel.config.sharing != "shared":
            fresh = torch.unique(kernel.bank_index(domain))
            for entry in fresh[~bank_before[fresh]].tolist():
                born |= self._bear_entry(entry, bank_before)
        return born

    def strange(self, domain: Tensor) -> bool:
        """Whether a domain among `(n, 3)` has never been met."""
        return int(self.kernel.evidence[self.kernel.flat_index(domain)].min()) == 0

    def count(self, x: Tensor, domain: Tensor) -> None:
        """Counts examples `(n, d)`, `(n, 3)` of which none is strange."""
        flat = self.kernel.flat_index(domain)
        self.kernel.evidence.index_add_(0, flat, torch.ones_like(flat))
        if self.kernel.config.birth == "nearest":
            for facet, begin in enumerate(self._begin):
                self.sums.index_add_(0, domain[:, facet] + begin, x)

    def _evidence(self) -> list[Tensor]:
        """Which values of each facet have been seen."""
        grid = self.kernel.evidence.view(self.kernel.domain_sizes)
        return [grid.sum(dim=[other for other in range(3) if other != facet]) > 0 for facet in range(3)]

    def _bank_evidence(self) -> Tensor:
        wanted = [FACETS.index(facet) for facet in self.kernel.config.bank_facets]
        grid = self.kernel.evidence.view(self.kernel.domain_sizes)
        order = wanted + [facet for facet in range(3) if facet not in wanted]
        return grid.permute(order).reshape(self.kernel.bank_size, -1).sum(1) > 0

    def _centres(self, facet: int) -> Tensor:
        size, begin = self.kernel.domain_sizes[facet], self._begin[facet]
        grid = self.kernel.evidence.view(self.kernel.domain_sizes)
        count = grid.sum(dim=[other for other in range(3) if other != facet])
        return self.sums[begin : begin + size] / count.clamp(min=1)[:, None]

    def _distances(self, facet: int, value: int) -> Tensor:
        centres = self._centres(facet)
        return (centres - centres[value]).square().sum(1)

    def _bear_value(self, facet: int, value: int, known: Tensor) -> bool:
        if not bool(known.any()):
            return False
        tables = [self.kernel.facets[facet]]
        if self.kernel.config.reading == "B":
            tables.append(self.kernel.target[facet])
        for table in tables:
            _inherit(table, value, known, self._distances(facet, value), self.kernel.config.birth)
        return True

    def _bear_entry(self, entry: int, known: Tensor) -> bool:
        if not bool(known.any()):
            return False
        distance = self._bank_distances(entry)
        for parameter in self._bank_parameters():
            _inherit(parameter, entry, known, distance, self.kernel.config.birth)
        return True

    def _bank_distances(self, entry: int) -> Tensor:
        """Sum over the bank's facets of the distances between their values' centres, `(bank_size,)`."""
        facets = [FACETS.index(facet) for facet in self.kernel.config.bank_facets]
        sizes = [self.kernel.domain_sizes[facet] for facet in facets]
        place = torch.unravel_index(torch.tensor(entry), sizes)
        total = torch.zeros(sizes)
        for axis, (facet, value) in enumerate(zip(facets, place, strict=True)):
            shape = [1] * len(sizes)
            shape[axis] = sizes[axis]
            total = total + self._distances(facet, int(value)).view(shape)
        return total.flatten()

    def _bank_parameters(self) -> Iterator[Tensor]:
        if self.kernel.bank_size > 1:
            for name, parameter in self.kernel.cores.named_parameters():
                banked = self.kernel.config.sharing == "per_domain" or name.split(".")[1] == "1"
                if banked:
                    yield parameter


def _inherit(parameter: Tensor, place: int, known: Tensor, distance: Tensor, how: str) -> None:
    """Sets one slice of `parameter` `(k, ...)` from those of the `known` ones."""
    if how == "mean":
        parameter[place] = parameter[known].mean(0)
        return
    nearest = int(distance.masked_fill(~known, float("inf")).argmin())
    parameter[place] = parameter[nearest]
