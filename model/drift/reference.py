"""What inputs and scores were like before the kernel began: the pretraining window, kept with the backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Reference:
    """Distributions of the pretraining window; small, whatever the window holds."""

    examples: int

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

        The examples are best held out from the frozen model's training: a model is surer of what it has seen.
        """
        raise NotImplementedError

    def to_tensors(self) -> dict[str, Tensor]:
        """For a container."""
        raise NotImplementedError

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Reference:
        """The inverse of `to_tensors`. Raises ValueError for tensors of another form."""
        raise NotImplementedError
