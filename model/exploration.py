"""Exploration: in a share of the requests the item of the first place is drawn by chance, with a known probability.

Only the first place is drawn, and only among the items that are shown anyway, so the probability (the propensity) is
exact. For keys z (logits, or logarithms of scores) of the n shown items, with temperature T and u = `UNIFORM`,

    p_i = (1 - u) softmax(z / T)_i + u / n.

The uniform part bounds the weights of off-policy estimates: 1 / p_i <= n / u (`model.off_policy`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNIFORM = 0.1
_KEY = b"driftline exploration"
_MANTISSA = 53


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The draw of one explored request."""

    place: int
    """Place by score of the item that was drawn for the first place; 0 is the best."""
    chances: NDArray[np.float64]
    """Probability of each shown item to be drawn, best first, `(n,)`."""


@dataclass(frozen=True)
class Exploration:
    """The rule of exploration. It has no state: a request id decides the draw, so that it can be checked later."""

    share: float = 0.0
    """Share of the requests that explore."""
    temperature: float = 1.0
    """Above 0, in units of the keys: a small one draws the best nearly always, a large one draws uniformly."""

    def sample(self, request_id: str, keys: NDArray[np.floating]) -> Sampled | None:
        """Draws the first place among shown items with sort keys `(n,)`, best first; None if the request does not
        explore, or has no two items. Raises ValueError for keys that are not finite."""
        if self.share == 0 or len(keys) < 2:
            return None
        digest = hashlib.blake2b(request_id.encode(), digest_size=16, key=_KEY).digest()
        explores, drawn = (int.from_bytes(digest[at : at + 8], "little") for at in (0, 8))
        if explores >= self.share * 2.0**64:
            return None
        chances = propensities(keys, self.temperature)
        return Sampled(drawn_place(chances, (drawn >> 64 - _MANTISSA) / 2.0**_MANTISSA), chances)


def propensities(keys: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probability of each item to be drawn, `(n,)`, for sort keys `(n,)`. Raises ValueError for keys that are not
    finite."""
    if not np.isfinite(keys).all():
        raise ValueError("a sort key is not finite: no propensity can be computed")
    wide = keys.astype(np.float64)
    with np.errstate(over="ignore"):  # a tiny temperature may give -inf, whose exponential is 0
        odds = np.exp((wide - wide.max()) / temperature)
    return np.asarray((1.0 - UNIFORM) * odds / odds.sum() + UNIFORM / len(wide))


def drawn_place(chances: NDArray[np.float64], point: float) -> int:
    """The place that a uniform `point`, from 0 to below 1, draws from `chances`, which sum to 1."""
    ends = np.cumsum(chances)
    return min(int(np.searchsorted(ends, point * ends[-1], side="right")), len(chances) - 1)


def shown_order(best: NDArray[Any], place: int) -> NDArray[Any]:
    """Entries of `best`, best first, as they are shown: that at `place` comes first, all others keep their order."""
    return np.concatenate([best[place : place + 1], np.delete(best, place)])


def by_score(n: int, place: int) -> NDArray[np.int64]:
    """Positions of n shown items in the order of their scores, best first; the inverse of `shown_order`."""
    return np.insert(np.arange(1, n), place, 0)


NO_EXPLORATION = Exploration()
"""No request explores."""
