"""Conversions of clicks: purchases, orders, sign-ups, or whatever a stream calls a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Conversions:
    """Conversions of the clicks in `r` requests with up to `k` items, all `(r, k)`."""

    happened: NDArray[np.bool_]
    """Whether the user clicked and converted; true only where there was a click."""
    delay: NDArray[np.float32]
    """Seconds from the click to the conversion."""
    probability: NDArray[np.float32]
    """True probability of a conversion once clicked; nan where nobody knows it (a log)."""

    def rows(self, part: slice | NDArray[np.int64]) -> Conversions:
        """The conversions of the requests in `part`."""
        return Conversions(*(getattr(self, column.name)[part] for column in fields(self)))

    @staticmethod
    def concat(parts: Sequence[Conversions]) -> Conversions:
        """The conversions of all `parts`, in order."""
        return Conversions(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Conversions)))
