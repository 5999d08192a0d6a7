"""Tests continuously whether one arm is worse than another: an e-detector on paired differences of log loss.

One observation is a request, because the items of a request depend on each other. Its difference `d` is the mean over
its items of the arm's log loss above its reference's, clipped to `[-CLIP, CLIP]`. While the arm is not worse,
`E[d | past] <= 0`, and every bet `0 <= l <= 1 / CLIP` makes `1 + l d` a factor of mean at most 1 (Waudby-Smith and
Ramdas, Estimating means of bounded random variables by betting, JRSS-B 2024). Harm may begin at any request, so a new
bet is started at every request:

    M_t(l) = (M_{t-1}(l) + 1) (1 + l d_t);   M_t = mean of M_t(l) over the grid of bets

is an e-detector (Shin, Ramdas and Rinaldo, E-detectors, 2023, section 3): while the arm is not worse, it takes at least
`A` requests on average to reach `A`. docs/gate.md derives this and says what clipping does to the claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

CLIP = 0.5
"""Nats. A request with a larger mean difference counts as this much."""
BETS = np.array([0.02, 0.06, 0.18, 0.45, 0.9]) / CLIP
"""Small bets detect small, steady harm; large bets detect sudden harm."""
_MOST = 1e12
"""Evidence is capped at this value, so that no product overflows."""
_AT_ONCE = 512
"""Requests multiplied in one product, so few that `(1 + CLIP * BETS[-1]) ** _AT_ONCE * _MOST` is still finite."""


class HarmEvidence:
    """E-detectors of several comparisons in several strata."""

    def __init__(self, comparisons: int, strata: int) -> None:
        self._value: Doubles = np.zeros((strata, comparisons, len(BETS)))

    def update(self, difference: Doubles, inside: NDArray[np.bool_], share: Doubles | None = None) -> None:
        """Takes requests in order: differences `(r, comparisons)` in nats, and a mask of their strata `(strata, r)`.

        `share` `(r,)`, from 0 to 1, scales down the bets on a request. It must be known before the labels are.
        """
        stake = np.clip(difference, -CLIP, CLIP) * (1.0 if share is None else share[:, None])
        for begin in range(0, len(stake), _AT_ONCE):
            self._multiply(stake[begin : begin + _AT_ONCE], inside[:, begin : begin + _AT_ONCE])

    def _multiply(self, stake: Doubles, inside: NDArray[np.bool_]) -> None:
        present = inside.any(axis=1)  # evidence in a stratum without requests stays as it is
        # Newest request first, and requests along the last axis, along which numpy multiplies fastest.
        within = inside[present][:, None, ::-1].astype(np.float64)
        gains = np.ascontiguousarray((stake[::-1, :, None] * BETS).reshape(len(stake), -1).T)
        # For a bet begun at each request: its factor times all later ones, which is its value at the end.
        later = np.multiply.accumulate(1.0 + gains * within, axis=2)
        begun, whole = (later * within).sum(axis=2), later[:, :, -1]
        value = self._value[present].reshape(whole.shape) * whole + begun
        self._value[present] = np.minimum(value, _MOST).reshape(-1, *self._value.shape[1:])

    @property
    def value(self) -> Doubles:
        """M, `(strata, comparisons)`; without harm it takes at least `A` requests on average to reach `A`."""
        return np.asarray(self._value.mean(axis=2))

    def forget(self, comparison: int | None = None) -> None:
        """Clears the evidence, which is due when one of the arms has changed."""
        self._value[:, slice(None) if comparison is None else comparison] = 0.0

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"value": self._value.tobytes()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._value = np.frombuffer(state["value"], dtype=np.float64).reshape(self._value.shape).copy()
