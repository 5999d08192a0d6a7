"""Item values and facets as those of MovieLens 100K: 19 genres, 9 spans of years, ten regions, four periods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.live.layout import Crossing
from model.encoding.domain import DomainSpace
from model.encoding.item_values import Slots

SPACE = DomainSpace({
    "scene": ("home",),
    "region": tuple(f"zip{number}" for number in range(10)),
    "period": ("night", "morning", "afternoon", "evening"),
})  # fmt: skip
_GENRES, _YEARS, _MOST_GENRES = 19, 9, 5
CROSSING = Crossing(
    _GENRES + _YEARS,
    ("genres", "year"),
    (*[0] * _MOST_GENRES, 1),
    (("region", SPACE.values["region"]), ("period", SPACE.values["period"])),
)


def item_values(items: NDArray[np.int64]) -> Slots:
    """Two genres and a year for each item number, `(n, S)`."""
    values = np.full((len(items), CROSSING.slots), -1, dtype=np.int16)
    values[:, 0], values[:, 1] = items % _GENRES, (items // 7 + 1 + items) % _GENRES
    values[:, -1] = _GENRES + items % _YEARS
    return values
