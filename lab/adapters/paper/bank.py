"""Linear layers for many domains at once: the active ones are answered in one batched product."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DomainActivation:
    """The domains that a batch holds, and its rows grouped by them: each domain's weights see only its own rows.

    This is our reading of the paper's "parallel inference with domain activation", of which only the name is known.

    Rows are padded to the largest group: the product is `(m, largest, width)` for the `m` domains present, whatever
    the size of the bank. Where one domain alone is present, rows stay as they are: `(rows, width)`.
    """

    def __init__(self, index: Tensor, bank: int) -> None:
        self.rows = len(index)
        self.only = 0
        self.present: Tensor | None = None
        if bank == 1:
            return
        low = int(index.min())
        if low == int(index.max()):
            self.only = low
            return
        self.present, group, counts = torch.unique(index, return_inverse=True, return_counts=True)
        order = torch.argsort(group, stable=True)
        begin = torch.cumsum(counts, 0) - counts
        within = torch.empty_like(order)
        within[order] = torch.arange(self.rows) - begin[group[order]]
        self.largest = int(counts.max())
        self._position = group * self.largest + within

    def scatter(self, values: Tensor) -> Tensor:
        """`(n, w)` to `(m, largest, w)`, unused positions zero; for one domain `(n, w)` as it is."""
        if self.present is None:
            return values
        groups = len(self.present)
        flat = values.new_zeros(groups * self.largest, values.shape[1])
        return flat.index_copy(0, self._position, values).view(groups, self.largest, -1)

    def gather(self, values: Tensor) -> Tensor:
        """The inverse of `scatter`."""
        if self.present is None:
            return values
        return values.flatten(0, 1)[self._position]

    def select(self, bank: Tensor) -> Tensor:
        """The active domains' slices of a parameter `(K, ...)`; for one domain its slice, `(...)`."""
        return bank[self.only] if self.present is None else bank[self.present]


class DomainLinear(nn.Module):
    """One linear layer per domain, `(K, in, out)`; `zero` starts it at zero."""

    def __init__(
        self, bank: int, width_in: int, width_out: int, generator: torch.Generator, *, zero: bool = False
    ) -> None:
        super().__init__()
        weight, bias = torch.zeros(1, width_in, width_out), torch.zeros(1, 1, width_out)
        if not zero:
            bound = width_in**-0.5
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)
        # All domains start equal, so that later differences come from their data.
        self.weight = nn.Parameter(weight.repeat(bank, 1, 1))
        self.bias = nn.Parameter(bias.repeat(bank, 1, 1))

    def forward(self, values: Tensor, active: DomainActivation) -> Tensor:
        """`(m, rows, in)` to `(m, rows, out)`; for one domain `(rows, in)` to `(rows, out)`."""
        weight, bias = active.select(self.weight), active.select(self.bias)
        if active.present is None:
            return torch.addmm(bias, values, weight)
        return torch.baddbmm(bias, values, weight)
