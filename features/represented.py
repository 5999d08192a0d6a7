"""One represented request: what its items are scored by, and what is logged of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from model.encoding.item_values import Slots
from model.kernel.features import KernelInputs


@dataclass(frozen=True, slots=True)
class Represented:
    """One request of `n` items, ready to be scored and logged. All float32."""

    x: Tensor
    """Fused representation, `(n, d)`, rounded to float16 once and back."""
    live: Tensor
    """Live features at the request's time, `(n, k)`."""
    content: Tensor
    """Content vectors of the items, `(n, c)`, rounded like `x`."""
    values: Slots
    """Values of the items' crossed fields, int16 `(n, S)`."""
    frozen_logit: Tensor
    """Click logit of the frozen backbone on the rounded `x`, `(n,)`."""
    cvr_logit: Tensor | None = None
    """The frozen backbone's logit of a conversion given a click, `(n,)`; None for a backbone without conversions."""
    cvr_live: Tensor | None = None
    """Live features of conversions, `(n, k)`; None for a backbone without conversions."""
    relevance_logit: Tensor | None = None
    """Logit of the item's relevance to the query, `(n,)`; None without a query, or for a backbone without relevance."""

    @property
    def inputs(self) -> KernelInputs:
        """The inputs of a kernel of clicks."""
        return KernelInputs(self.x, self.live, torch.from_numpy(self.values), self.frozen_logit)

    @property
    def conversion_inputs(self) -> KernelInputs | None:
        """The inputs of a kernel of conversions; None for a backbone without conversions."""
        if self.cvr_live is None or self.cvr_logit is None:
            return None
        return KernelInputs(self.x, self.cvr_live, torch.from_numpy(self.values), self.cvr_logit)

    def finite(self) -> Tensor:
        """Mask of the rows whose scored and logged values are all finite, bool `(n,)`."""
        columns = [column.reshape(len(self.x), -1) for column in self._tensors().values()]
        return torch.isfinite(torch.cat(columns, dim=1)).all(dim=1)

    def rows(self, kept: Tensor) -> Represented:
        """The rows where the mask `kept`, bool `(n,)`, is true."""
        tensors = {name: column[kept] for name, column in self._tensors().items()}
        return Represented(**tensors, values=self.values[kept.numpy()])

    @staticmethod
    def joined(parts: Sequence[Represented]) -> Represented:
        """The items of all parts of one request, in order."""
        if len(parts) == 1:
            return parts[0]
        columns = [part._tensors() for part in parts]
        tensors = {name: torch.cat([own[name] for own in columns]) for name in columns[0]}
        return Represented(**tensors, values=np.concatenate([part.values for part in parts]))

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors that there are, by name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
